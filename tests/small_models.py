"""Small models whose laws can be worked out: graphs of Gaussians, of bits, of classes, and a loop."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    Uniform,
)
from torch.nn import functional as F

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites

CHAIN = [["z2", "latent", 2, []], ["z1", "latent", 2, ["z2"]], ["y", "target", 3, ["z1"]]]
BRANCH = [
    ["z2", "latent", 2, []],
    ["y2", "target", 1, ["z2"]],
    ["z1", "latent", 2, ["z2", "y2"]],
    ["y1", "target", 2, ["z1", "y2"]],
]


class LinearGaussian(DGM):
    """Any graph of Gaussians whose means are affine in their parents: every law of it is Gaussian, and known.

    Args:
        nodes: (name, kind, size, parents), parents first.
    """

    def __init__(self, nodes: list) -> None:
        super().__init__()
        self.nodes = [tuple(node) for node in nodes]
        size = {name: n for name, _, n, _ in nodes}
        self.maps = nn.ModuleDict({name: nn.Linear(max(1, sum(size[p] for p in parents)), n)
                                   for name, _, n, parents in nodes})  # fmt: skip
        for name, _, _, parents in nodes:
            self.maps[name].weight.requires_grad_(bool(parents))  # a root has a bias only
        self.raw = nn.ParameterDict({name: nn.Parameter(0.3 * torch.randn(n) - 0.2) for name, _, n, _ in nodes})

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        value = {}
        for name, kind, _, parents in self.nodes:
            given = torch.cat([value[p] for p in parents], 1) if parents else sites.zeros(1)
            law = Normal(self.maps[name](given), self.raw[name].exp().expand(sites.batch_size, -1))
            value[name] = getattr(sites, kind)(name, law)

    def affine(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, slice]]:
        """Every variable as ``matrix @ noise + offset``; also, where in the noise each site's own part lies."""
        where, start = {}, 0
        for name, _, n, _ in self.nodes:
            where[name] = slice(start, start + n)
            start += n
        matrix, offset = {}, {}
        for name, _, n, parents in self.nodes:
            layer = self.maps[name]
            own = torch.zeros(n, start, dtype=layer.weight.dtype)
            own[:, where[name]] = self.raw[name].exp().diag()
            matrix[name], offset[name] = own, layer.bias
            if parents:
                matrix[name] = own + layer.weight @ torch.cat([matrix[p] for p in parents])
                offset[name] = layer.bias + layer.weight @ torch.cat([offset[p] for p in parents])
        return matrix, offset, where

    def joint(self, *kinds: str) -> MultivariateNormal:
        """The exact law of all variables of the given kinds, stacked in the order of the program."""
        matrix, offset, _ = self.affine()
        names = [name for name, kind, _, _ in self.nodes if kind in kinds]
        m = torch.cat([matrix[name] for name in names])
        return MultivariateNormal(torch.cat([offset[name] for name in names]), m @ m.T)

    def given_noise(self) -> tuple[Tensor, Tensor, Tensor]:
        """The targets given the latents' noise: y = ``A`` eps + ``a`` + N(0, ``S``)."""
        matrix, offset, where = self.affine()
        targets = [name for name, kind, _, _ in self.nodes if kind == "target"]
        m = torch.cat([matrix[name] for name in targets])
        latent = torch.cat([torch.arange(m.shape[1])[where[n]] for n, kind, _, _ in self.nodes if kind == "latent"])
        target = torch.cat([torch.arange(m.shape[1])[where[n]] for n in targets])
        return m[:, latent], torch.cat([offset[n] for n in targets]), m[:, target] @ m[:, target].T


class Mixed(DGM):
    """Three bits -> two Gaussians -> a class; and a Gaussian target that sees the class, too."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(3))
        self.z1 = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 4))
        self.y1 = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 4))
        self.y2 = nn.Linear(2 + 4, 2)
        self.y2_scale = nn.Parameter(torch.zeros(2))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z2 = sites.latent("z2", Bernoulli(logits=self.logits.expand(sites.batch_size, 3)))
        z1 = sites.latent("z1", two_sided(self.z1(z2)))
        y1 = sites.target("y1", Categorical(logits=self.y1(z1)))
        mean = self.y2(torch.cat([z1, F.one_hot(y1, 4).to(z1.dtype)], 1))
        sites.target("y2", Normal(mean, self.y2_scale.exp().expand_as(mean)))


class Bits(DGM):
    """Two bits -> two bits -> one of three classes: small enough to enumerate."""

    def __init__(self) -> None:
        super().__init__()
        self.z2 = nn.Parameter(torch.randn(2))
        self.z1 = nn.Linear(2, 2)
        self.y = nn.Linear(2, 3)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z2 = sites.latent("z2", Bernoulli(logits=self.z2.expand(sites.batch_size, 2)))
        z1 = sites.latent("z1", Bernoulli(logits=2.0 * self.z1(z2)))
        sites.target("y", Categorical(logits=2.0 * self.y(z1)))

    def marginal(self) -> Tensor:
        """Exact p(y), by enumeration."""
        total = torch.zeros(3, dtype=self.z2.dtype)
        for z2, z1 in product(product((0.0, 1.0), repeat=2), repeat=2):
            bits2, bits1 = (torch.tensor(z, dtype=total.dtype) for z in (z2, z1))
            weight = Bernoulli(logits=self.z2).log_prob(bits2).sum()
            weight = weight + Bernoulli(logits=2.0 * self.z1(bits2)).log_prob(bits1).sum()
            total = total + weight.exp() * torch.softmax(2.0 * self.y(bits1), -1)
        return total


class NoisyClassifier(DGM):
    """x -> a Gaussian code -> a class (a small information bottleneck); ``width`` is a hidden layer's."""

    def __init__(self, width: int = 8, classes: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, 6))
        self.decoder = nn.Linear(3, classes)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", two_sided(self.encoder(x)))
        sites.target("y", Categorical(logits=self.decoder(z)))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        law = self.trace(x=batch.x)["y"].distribution
        return Loss.of({"y": -law.log_prob(batch.y).mean()})


class Features(DGM):
    """x -> a hidden feature -> a class: a plain network, with batch norm and without latents."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.Tanh())
        self.head = nn.Linear(width, 4)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        h = sites.deterministic("h", self.body(x))
        sites.target("y", Categorical(logits=self.head(h)))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        return Loss.of({"y": F.cross_entropy(self.head(self.body(batch.x)), batch.y)})


class Loop(DGM):
    """A recurrent model: z[t] sees the state, y[t] sees both, and the state sees the sampled y[t]."""

    def __init__(self, steps: int = 4, width: int = 5) -> None:
        super().__init__()
        self.steps, self.width = steps, width
        self.prior = nn.Linear(width, 4)
        self.pen = nn.Linear(width + 2, 1)
        self.offset = nn.Linear(width + 2, 2)
        self.cell = nn.GRUCell(2 + 3, width)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        h = sites.zeros(self.width)
        for t in range(self.steps):
            h = sites.deterministic(f"h[{t}]", h)
            z = sites.latent(f"z[{t}]", two_sided(self.prior(h)))
            both = torch.cat([h, z], 1)
            pen = sites.target(f"pen[{t}]", Bernoulli(logits=self.pen(both)))
            y = sites.target(f"y[{t}]", Independent(Normal(self.offset(both), 1.0), 1))
            h = self.cell(torch.cat([z, pen, y], 1), h)


class Angular(DGM):
    """A uniform root -> a latent of the given family -> a Gaussian target."""

    def __init__(self, family: str = "laplace") -> None:
        super().__init__()
        self.family = family
        self.z1 = nn.Linear(2, 4)
        self.y = nn.Linear(2, 2)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z2 = sites.latent("z2", Uniform(sites.zeros(2) - 1.0, sites.zeros(2) + 1.0))
        z1 = sites.latent("z1", two_sided(self.z1(z2), Laplace if self.family == "laplace" else Normal))
        mean = self.y(z1)
        sites.target("y", Normal(mean, 0.5 * torch.ones_like(mean)))


def two_sided(parameters: Tensor, family: type = Normal) -> Distribution:
    """A location-scale law from (batch, 2 n) numbers."""
    loc, raw = parameters.chunk(2, dim=-1)
    return family(loc, F.softplus(raw) + 0.1)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)

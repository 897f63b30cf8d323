"""Small seeded models on which the contract of every method is checked, and what is known of each in closed form."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
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
    kl_divergence,
)
from torch.nn import functional as F

from limbeck.core.divergence import kl, lp
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.models.autoregressive import Autoregressive
from limbeck.models.chain import ResidualBinomialChain, ResidualGaussianChain
from limbeck.models.dcgan import DCGAN
from limbeck.models.diffusion.ddim import DDIM
from limbeck.models.flows.flow import Flow
from limbeck.models.helmholtz.helmholtz import HelmholtzMachine
from limbeck.models.ladder.ladder_vae import LadderVAE
from limbeck.models.mlp_classifier import MLPClassifier
from limbeck.models.vib import VIB
from limbeck.models.vrnn.vrnn import VRNN
from limbeck.models.wrapped.network_classifier import NetworkClassifier
from tests.flows import ONE

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


def inputs(rows: int, dtype: torch.dtype = torch.float32, seed: int = 0, shape: tuple[int, ...] = (5,)) -> Tensor:
    """Conditioning inputs of the classifiers."""
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Attributes:
        name: its name in test ids.
        teacher: builds the teacher.
        student: builds the student.
        conditional: whether it needs ``x``.
        data: builds a batch for the model's own loss, if it has one.
        marginal: whether :func:`limbeck.methods.marginalized` applies: "kl", "monte carlo" or "".
        discrete: prefixes of the parameters behind a discrete latent, which no gradient of a target passes.
        shape: of a row of ``x``.
        given: builds ``x`` itself, where not every input will do.
        alone: whether a row is the same in any batch; not with batch norm that uses batch statistics in eval mode.
        target: a divergence that its targets have; point masses have no KL.
        fixed: methods whose loss draws nothing that it depends on.
    """

    name: str
    teacher: Callable[[], DGM]
    student: Callable[[], DGM]
    conditional: bool = False
    data: Callable[[int], Batch] | None = None
    marginal: str = ""
    discrete: tuple[str, ...] = field(default=())
    shape: tuple[int, ...] = (5,)
    target: Callable[[Distribution, Distribution], Tensor] = kl
    fixed: tuple[str, ...] = ()
    given: Callable[[int, torch.dtype], Tensor] | None = None
    alone: bool = True

    def pair(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[DGM, DGM]:
        """A teacher in eval mode whose batch norm has seen something, and a fresh student in train mode."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            teacher, student = self.teacher().to(dtype), self.student().to(dtype)
            with torch.no_grad():
                teacher.trace(**self.rows(16, dtype))
        return teacher.eval(), student

    def copies(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[DGM, DGM]:
        """A teacher and its exact copy, both in eval mode."""
        teacher, _ = self.pair(seed, dtype)
        return teacher, copy.deepcopy(teacher)

    def rows(self, rows: int, dtype: torch.dtype = torch.float32) -> dict:
        """What ``trace``, ``sample`` and an objective need to know about the batch."""
        if not self.conditional:
            return {"batch_size": rows}
        return {"x": self.given(rows, dtype) if self.given else inputs(rows, dtype, shape=self.shape)}


def labelled(rows: int) -> Batch:
    x = inputs(rows, seed=1)
    return Batch(y=x[:, :4].argmax(1), x=x)


def labelled_pictures(rows: int) -> Batch:
    x = inputs(rows, seed=1, shape=(1, 3, 3))
    return Batch(y=x.flatten(1)[:, :4].argmax(1), x=x)


def pictures(rows: int) -> Batch:
    return Batch(y=torch.rand(rows, 1, 8, 8, generator=torch.Generator().manual_seed(1)))


def bottleneck(hidden: int) -> VIB:
    model = VIB(image_size=3, hidden=hidden, latent_size=3, classes=4)
    with torch.no_grad():  # as after training: a fresh model's scale is so small that its noise is lost in rounding
        model.encoder[-1].bias[3:] += 5.0
    return model


def spelled(rows: int) -> Batch:
    y = torch.randint(4, (rows, 3), generator=torch.Generator().manual_seed(1))
    return Batch(y=y, x=inputs(rows, seed=1))


def writer(width: int) -> Autoregressive:
    return Autoregressive(length=3, tokens=4, inputs=5, width=width, embedding=3)


def network(width: int) -> MLPClassifier:
    return MLPClassifier(inputs=5, classes=4, widths=[width, 6])


def wrapped(width: int) -> NetworkClassifier:
    return NetworkClassifier("ConvNet", {"widths": [width, 5], "classes": 4, "channels": 1})


def adversary(width: int) -> DCGAN:
    return DCGAN(image_size=8, image_channels=1, width=width, latent_size=4, critic_width=2)


def ladder(width: int) -> LadderVAE:
    return LadderVAE(image_size=8, image_channels=1, levels=3, width=width, latent_channels=2)


def domain_ladder(width: int, batch_statistics: bool = True, **changes: int) -> LadderVAE:
    sizes = {"image_size": 8, "image_channels": 1, "levels": 3, "width": width, "latent_channels": 2, "domains": 3}
    return LadderVAE(**{**sizes, **changes}, batch_statistics=batch_statistics)


def one_hot(rows: int, dtype: torch.dtype = torch.float32, domains: int = 3) -> Tensor:
    """Each domain in turn."""
    return torch.eye(domains, dtype=dtype)[torch.arange(rows) % domains]


def told(rows: int) -> Batch:
    return Batch(y=pictures(rows).y, x=one_hot(rows))


def drawings(rows: int) -> Batch:
    y = torch.randn(rows, 4, 4, generator=torch.Generator().manual_seed(1))
    y[..., 2] = (y[..., 2] > 0.5).float()
    y[..., 3] = F.one_hot(torch.arange(rows) % 3 + 1, 4)  # ends after two, three or four points
    return Batch(y=y)


def scribbler(width: int) -> VRNN:
    return VRNN(steps=4, width=width, features=5, latent_size=2)


def points(rows: int) -> Batch:
    return Batch(y=torch.randn(rows, 2, generator=torch.Generator().manual_seed(1)))


def flow(name: str, depth: int) -> Flow:
    """One that is no longer the identity, so that every weight has a gradient."""
    return ONE[name].flow(depth, seed=torch.initial_seed() % 2**31, dtype=torch.float32).train()


def columns(rows: int) -> Batch:
    return Batch(*ONE["maf"].rows(rows, torch.float32))


TINY_UNET = {
    "sample_size": 4,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [4, 8],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 4,
}


def diffusion(steps: int, first: str = "network", **unet: int) -> DDIM:
    """One with few times, far from which no number grows."""
    times = {"num_train_timesteps": 20, "beta_end": 0.2, "prediction_type": "v_prediction"}
    model = DDIM(TINY_UNET | unet, steps=steps, spacing="trailing", scheduler=times, first=first)
    with torch.no_grad():  # fresh attention is nearly the identity
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def small_pictures(rows: int) -> Batch:
    return Batch(y=pictures(rows).y[..., :4, :4])


def told_small(rows: int) -> Batch:
    return Batch(y=small_pictures(rows).y, x=one_hot(rows))


def values(rows: int) -> Batch:
    return Batch(*ONE["glow"].rows(rows, torch.float32))


ALL = ("surrogate", "local", "marginalized", "joint", "scratch")
ZOO = [
    Entry("chain", lambda: LinearGaussian(CHAIN), lambda: LinearGaussian(CHAIN), marginal="monte carlo"),
    Entry("branch", lambda: LinearGaussian(BRANCH), lambda: LinearGaussian(BRANCH)),
    Entry("mixed", lambda: Mixed(6), lambda: Mixed(3), discrete=("logits",)),
    Entry("bits", Bits, Bits, marginal="kl", discrete=("z2", "z1")),
    Entry("classifier", lambda: NoisyClassifier(12), lambda: NoisyClassifier(6), True, labelled, "kl"),
    Entry("bottleneck", lambda: bottleneck(12), lambda: bottleneck(8), True, labelled_pictures, "kl", shape=(1, 3, 3)),
    Entry("features", lambda: Features(10), lambda: Features(6), True, labelled, "kl", fixed=ALL),
    Entry("network", lambda: network(10), lambda: network(4), True, labelled, "kl", fixed=ALL),
    Entry("wrapped", lambda: wrapped(6), lambda: wrapped(3), True, labelled_pictures, "kl", shape=(1, 3, 3), fixed=ALL),
    Entry("sequence", lambda: writer(8), lambda: writer(4), True, spelled, fixed=("scratch",)),
    Entry("adversary", lambda: adversary(6), lambda: adversary(3), data=pictures, target=lp),
    Entry("loop", Loop, Loop),
    Entry("drawings", lambda: scribbler(8), lambda: scribbler(4), data=drawings),
    Entry("helmholtz", lambda: HelmholtzMachine(hidden=4), lambda: HelmholtzMachine(hidden=3), data=points),
    Entry("ladder", lambda: ladder(6), lambda: ladder(4), data=pictures, marginal="monte carlo"),
    Entry("domains", lambda: domain_ladder(6), lambda: domain_ladder(4), True, told, given=one_hot, alone=False),
    Entry("told", lambda: domain_ladder(6, False), lambda: domain_ladder(4, False), True, told, given=one_hot),
    Entry(
        "flow",
        lambda: flow("table glow", 4),
        lambda: flow("table glow", 2),
        data=columns,
        target=lp,
        fixed=("scratch",),
    ),
    Entry("images' flow", lambda: flow("glow", 2), lambda: flow("glow", 1), data=values, target=lp, fixed=("scratch",)),
    Entry(
        "autoregressive flow",
        lambda: flow("maf", 3),
        lambda: flow("maf", 2),
        data=columns,
        target=lp,
        fixed=("scratch",),
    ),
    Entry("diffusion", lambda: diffusion(4), lambda: diffusion(1, "residual"), data=small_pictures),
    Entry(
        "classes' diffusion",
        lambda: diffusion(4, num_class_embeds=3),
        lambda: diffusion(2, num_class_embeds=3),
        True,
        told_small,
        given=one_hot,
    ),
    Entry("laplace", Angular, Angular, marginal="monte carlo"),
    Entry("normal to laplace", lambda: Angular("normal"), Angular),
    Entry(
        "gaussian chain", lambda: ResidualGaussianChain(3, width=3, activation="tanh"), lambda: ResidualGaussianChain(3)
    ),
    Entry("binomial chain", lambda: ResidualBinomialChain(3, width=3), lambda: ResidualBinomialChain(3)),
]
BY_NAME = {entry.name: entry for entry in ZOO}


# ------------------------------------------------------------------------------------------------- exact quantities


def gaussian_kl(p: MultivariateNormal, q: MultivariateNormal) -> float:
    return kl_divergence(p, q).item()


def exact_surrogate(teacher: LinearGaussian, student: LinearGaussian) -> float:
    """E_eps KL(p_T(y | eps) || p_S(y | eps)) in closed form ([U] Eq. 4)."""
    (a_t, m_t, s_t), (a_s, m_s, s_s) = teacher.given_noise(), student.given_noise()
    inverse = torch.linalg.inv(s_s)
    difference, shift = a_t - a_s, m_t - m_s
    spread = torch.trace(inverse @ s_t) + torch.trace(difference.T @ inverse @ difference) + shift @ inverse @ shift
    return (0.5 * (spread - len(m_t) + torch.logdet(s_s) - torch.logdet(s_t))).item()


def exact_gap(teacher: LinearGaussian, student: LinearGaussian) -> float:
    """E_y KL(p_T(eps | y) || p_S(eps | y)) in closed form, by Gaussian conditioning ([U] App. B)."""

    def posterior(model: LinearGaussian) -> tuple[Tensor, Tensor, Tensor]:
        a, m, s = model.given_noise()
        covariance = torch.linalg.inv(torch.eye(a.shape[1], dtype=a.dtype) + a.T @ torch.linalg.inv(s) @ a)
        gain = covariance @ a.T @ torch.linalg.inv(s)
        return gain, -gain @ m, covariance  # eps | y ~ N(gain y + offset, covariance)

    (g_t, o_t, c_t), (g_s, o_s, c_s) = posterior(teacher), posterior(student)
    y = teacher.joint("target")
    inverse = torch.linalg.inv(c_s)
    gain, offset = g_t - g_s, o_t - o_s
    mean = gain @ y.mean + offset
    spread = torch.trace(inverse @ c_t) + torch.trace(gain.T @ inverse @ gain @ y.covariance_matrix)
    return (0.5 * (spread + mean @ inverse @ mean - len(mean) + torch.logdet(c_s) - torch.logdet(c_t))).item()


def exact_bits_surrogate(teacher: Bits, student: Bits) -> float:
    """E_u KL(p_T(y | u) || p_S(y | u)) by enumerating both sides' bits, which share u and are 1 where u < p."""

    def coupled(p: Tensor, q: Tensor) -> list[tuple[tuple[float, ...], tuple[float, ...], float]]:
        single = []
        for a, b in zip(p.tolist(), q.tolist()):
            single.append([(1.0, 1.0, min(a, b)), (1.0, 0.0, max(a - b, 0.0)), (0.0, 1.0, max(b - a, 0.0)),
                           (0.0, 0.0, 1.0 - max(a, b))])  # fmt: skip
        return [(tuple(s[0] for s in row), tuple(s[1] for s in row), math.prod(s[2] for s in row))
                for row in product(*single)]  # fmt: skip

    total, dtype = 0.0, teacher.z2.dtype
    for t2, s2, w2 in coupled(torch.sigmoid(teacher.z2), torch.sigmoid(student.z2)):
        p = torch.sigmoid(2.0 * teacher.z1(torch.tensor(t2, dtype=dtype)))
        q = torch.sigmoid(2.0 * student.z1(torch.tensor(s2, dtype=dtype)))
        for t1, s1, w1 in coupled(p, q):
            log_p = torch.log_softmax(2.0 * teacher.y(torch.tensor(t1, dtype=dtype)), -1)
            log_q = torch.log_softmax(2.0 * student.y(torch.tensor(s1, dtype=dtype)), -1)
            total += w2 * w1 * (log_p.exp() * (log_p - log_q)).sum().item()
    return total

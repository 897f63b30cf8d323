"""Models with norms after layers, in all the ways that can and cannot be folded, and how two models are compared."""

from __future__ import annotations

import copy
import hashlib

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from limbeck.core.trace import Trace

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def with_statistics(model: DGM, seed: int = 0) -> DGM:
    """Statistics and affine parameters as after training, rather than 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, NORMS):
                for tensor, low, high in (
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.3, 3.0),
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.5, 0.5),
                ):
                    if tensor is not None:
                        tensor.uniform_(low, high, generator=generator)
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in model.modules())


def digest(model: nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def assert_same(one: Trace, other: Trace, relative: float = 1e-5) -> None:
    assert list(one) == list(other)
    for name, site in one.items():
        for key in ("loc", "scale"):
            a, b = getattr(site.distribution, key), getattr(other[name].distribution, key)
            assert bool(((a - b).abs() <= relative * a.abs().amax()).all()), (name, key)


def compare(teacher: DGM, prepared: DGM, x: Tensor | None = None, relative: float = 1e-5) -> None:
    teacher = copy.deepcopy(teacher).eval()
    with torch.no_grad():
        trace = teacher.trace(5 if x is None else None, x)
        # With the target's noise too: then everything is a function of the noise.
        assert_same(trace, prepared.trace(x=x, noise=trace.noise), relative)


class Dense(DGM):
    """A perceptron with a norm after a linear layer."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 4))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", sites.standard_normal(3))
        mean, raw = self.net(z if x is None else z + x).chunk(2, 1)
        sites.target("y", Normal(mean, F.softplus(raw)))


class NeedsInput(Dense):
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        assert x is not None
        super().generate(sites, x)


class Transposed(DGM):
    """Linear then norm on (batch, 4, 4): the norm's features are the *second* dimension, the layer's the last."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", sites.standard_normal(4, 4))
        sites.target("y", Normal(self.net(z), 1.0))


class Plain(DGM):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", sites.standard_normal(2))
        sites.target("y", Normal(self.layer(z), 1.0))


class Block(nn.Module):
    def __init__(self, channels: int, **options: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels, **options)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.convolution(x)))


class Reads(Block):
    """The convolution's output is read a second time."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.convolution(x)
        return self.norm(h) + h


class Optional(Block):
    """With ``extra`` the norm follows the convolution, without it does not."""

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        h = self.convolution(x)
        if extra is None:
            h = 2.0 * h
        return self.norm(h)


class Twice(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(self.norm(self.convolution(x))))


class Branching(nn.Module):
    """Control flow on values: not traceable as a whole, but its parts are."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Block(2)
        self.second = Block(2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.second(h) if h.sum() > 0 else self.second(-h)


class Picture(DGM):
    """One block between latent and image; ``raw`` also calls its convolution alone, which no trace of it can show."""

    def __init__(self, block: nn.Module, raw: bool = False, view: bool = False) -> None:
        super().__init__()
        self.block = block
        self.raw = raw
        self.view = view

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", sites.standard_normal(2, 5, 7))
        mean = self.block(z)
        if self.raw:
            mean = mean + self.block.convolution(z)
        sites.target("y", Normal(mean.view(len(z), -1) if self.view else mean, 1.0))

"""Small flows of every kind, with weights as after a training, and rows for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.models import Flow, Glow, StepFlow, TableGlow, ZukoFlow


class Bend(nn.Module):
    """A coupling as somebody else would write it: the second half is shifted and scaled by what the first half says."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.half = size // 2
        self.net = nn.Sequential(nn.Linear(self.half, hidden), nn.Tanh(), nn.Linear(hidden, 2 * (size - self.half)))

    def numbers(self, first: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = self.net(first).chunk(2, 1)
        return shift, torch.tanh(raw)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        first, second = h[:, : self.half], h[:, self.half :]
        shift, log_scale = self.numbers(first)
        return torch.cat([first, second * log_scale.exp() + shift], 1), log_scale.sum(1)

    def inverse(self, h: Tensor) -> Tensor:
        first, second = h[:, : self.half], h[:, self.half :]
        shift, log_scale = self.numbers(first)
        return torch.cat([first, (second - shift) * torch.exp(-log_scale)], 1)


class Roll(nn.Module):
    """A fixed permutation: every column moves on by some places."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.places = places

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return h.roll(self.places, 1), h.new_zeros(len(h))

    def inverse(self, h: Tensor) -> Tensor:
        return h.roll(-self.places, 1)


class Bent(StepFlow):
    """A third-party flow that can be saved, because its constructor takes plain values."""

    def __init__(self, features: int = 5, depth: int = 3, hidden: int = 4) -> None:
        steps: list[nn.Module] = []
        for index in range(depth):
            steps += [Bend(features, hidden), Roll(index + 1)]
        super().__init__(steps, features)


@dataclass(frozen=True)
class FlowKind:
    """A kind of flow.

    Attributes:
        name: its name in test ids.
        build: makes one of a given depth.
        shape: of a row.
        context: columns of ``x``; 0 without one.
        exact: whether its inverse is exact, rather than found by search.
    """

    name: str
    build: Callable[[int], Flow]
    shape: tuple[int, ...] = (5,)
    context: int = 0
    exact: bool = True

    def flow(self, depth: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> Flow:
        """A flow that does something: a fresh one is nearly the identity, or linear."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            flow = self.build(depth).to(dtype)
            with torch.no_grad():
                for parameter in flow.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return flow.eval()

    def rows(self, count: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> tuple[Tensor, Tensor | None]:
        """Rows and what they are conditioned on."""
        generator = torch.Generator().manual_seed(seed)
        draw = torch.rand if len(self.shape) > 1 else torch.randn
        y = draw(count, *self.shape, generator=generator, dtype=torch.float64).to(dtype)
        x = torch.randn(count, self.context, generator=generator, dtype=torch.float64).to(dtype)
        return y, x if self.context else None


def zuko(name: str, features: int = 5, context: int = 0, **settings: object) -> Callable[[int], Flow]:
    return lambda depth: ZukoFlow(name, features, transforms=depth, context=context, hidden_features=[8], **settings)


def wide(depth: int) -> Flow:
    return Glow([2, 4], 1, 1, depth, hidden=4, coupling="additive", quantization=None, alpha=0.05)


KINDS = [
    FlowKind("table glow", lambda depth: TableGlow(5, depth, hidden=4)),
    FlowKind("additive", lambda depth: TableGlow(5, depth, hidden=4, coupling="additive")),
    FlowKind("told glow", lambda depth: TableGlow(5, depth, hidden=4, context=2), context=2),
    FlowKind("glow", lambda depth: Glow(4, 2, 2, depth, hidden=4, quantization=None), (2, 4, 4)),
    FlowKind("wide glow", wide, (1, 2, 4)),
    FlowKind("maf", zuko("MAF")),
    FlowKind("told maf", zuko("MAF", context=2, standardize=True), context=2),
    FlowKind("nsf", zuko("NSF")),
    FlowKind("nice", zuko("NICE")),
    FlowKind("naf", zuko("NAF", signal=2, network={"hidden_features": [4]}), exact=False),
    FlowKind("sospf", zuko("SOSPF"), exact=False),
    FlowKind("bent", lambda depth: Bent(5, depth)),
]
EXACT = [kind for kind in KINDS if kind.exact]
ONE = {kind.name: kind for kind in KINDS}

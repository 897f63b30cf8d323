"""Glow for tables and images: invertible mixing and affine coupling (Kingma and Dhariwal 2018; [F] Tables 3, 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.errors import MatchError, ModelError
from limbeck.models.flows.activations import activation_class
from limbeck.models.flows.bijection import Bijection, Level, Standardize
from limbeck.models.flows.flow import Flow
from limbeck.models.flows.glow_networks import PixelNetwork, RowNetwork
from limbeck.models.flows.glow_parts import GlowStep, LearnedSplit
from limbeck.models.flows.pixels import Pixels, Squeeze, dequantized
from limbeck.models.inputs import check_numbers
from limbeck.models.sizes import check_at_least, check_positive

__all__ = ["Coupling", "Glow", "TableGlow"]

Coupling = Literal["affine", "additive"]
"""Whether a step scales and shifts, or shifts only."""


class _Mixed(Flow):
    """A flow of Glow's steps: what both forms share.

    Args:
        levels: see :attr:`levels`.
        shapes: see :attr:`latent_shapes`.
        context: see :class:`~limbeck.models.Flow`.
    """

    def __init__(self, levels: list[Level], shapes: Sequence[tuple[int, ...]], context: int = 0) -> None:
        super().__init__()
        self.context = context
        self.body = nn.ModuleList(levels)
        self._shapes = tuple(shapes)

    @property
    @override
    def levels(self) -> Sequence[Level]:
        return list(self.body)  # type: ignore[arg-type]

    @property
    @override
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self._shapes

    @property
    @override
    def keeps_columns(self) -> bool:
        return False

    @override
    def inherit(self, teacher: Flow) -> None:
        """Mix as the teacher does: each mixing becomes the product of those of the teacher's steps it stands for.

        Args:
            teacher: a flow of the same form, with at least as many steps in each level.

        Raises:
            MatchError: the teacher has no such mixings, or fewer.
        """
        if not isinstance(teacher, _Mixed):
            super().inherit(teacher)
            return
        deep, shallow = teacher.step_counts, self.step_counts
        if len(deep) != len(shallow):
            raise MatchError(
                f"the teacher has {len(deep)} levels and the student {len(shallow)}; give both the same number"
            )
        for index, (long, short) in enumerate(zip(deep, shallow, strict=True)):
            if short > long:
                raise MatchError(
                    f"level {index}: the student has {short} steps and the teacher {long}, so some of the student's "
                    f"stand for none of the teacher's; give the student at most {long}, or pass align=False"
                )
            mixings = [_step(step).mixing for step in teacher.levels[index].steps]
            for count, step in enumerate(self.levels[index].steps):
                segment = mixings[round(count * long / short) : round((count + 1) * long / short)]
                _step(step).mixing.follow(segment)


class TableGlow(_Mixed):
    """Glow for rows of numbers, in one level.

    3 steps of width 32 and 5 of 64 have the numbers of parameters of student and teacher in [F] Table 2; its Table 3
    prints 3 for both.

    Args:
        features: columns, at least 2.
        depth: number of steps, K.
        hidden: width of the couplings' networks.
        blocks: their residual blocks, of two layers each.
        coupling: ``"affine"`` or ``"additive"``.
        context: columns of the conditioning input ``x``; 0 without one.
        standardize: whether columns are standardised first; likelihoods stay those of the data in their own units.
        bound: what the logarithm of the scale of one step cannot exceed.
        activation: units of the couplings' networks, by the name of a class of ``torch.nn``. ``"SiLU"`` cannot die at
            large learning rates, as rectified units can.

    Raises:
        ModelError: a size is too small, or there is no such coupling or activation.

    Example:
        >>> student, teacher = TableGlow(6, depth=3, hidden=32), TableGlow(6, depth=5, hidden=64)
        >>> [sum(p.numel() for p in model.parameters()) for model in (student, teacher)]
        [13794, 86670]
        >>> student.log_prob(torch.zeros(4, 6)).shape
        torch.Size([4])
    """

    def __init__(
        self,
        features: int,
        depth: int = 3,
        hidden: int = 32,
        blocks: int = 2,
        coupling: Coupling = "affine",
        context: int = 0,
        standardize: bool = True,
        bound: float = 3.0,
        activation: str = "ReLU",
    ) -> None:
        check_positive(self, depth=depth, hidden=hidden, bound=bound)
        check_at_least(self, 2, features=features)
        check_at_least(self, 0, blocks=blocks, context=context)
        numbers, units = _numbers(self, coupling), activation_class(activation)
        kept = features // 2

        def step() -> Bijection:
            network = RowNetwork(kept + context, numbers * (features - kept), hidden, blocks, units)
            return GlowStep(features, network, bound if coupling == "affine" else None)

        entry: list[Bijection] = [Standardize(features)] if standardize else []
        super().__init__([Level([step() for _ in range(depth)], entry)], [(features,)], context)


class Glow(_Mixed):
    r"""Glow for images of values in [0, 1].

    Depth 8 and 32 of width 512, in three levels, have the numbers of parameters of student and teacher of CIFAR-10 in
    [F] Table 5, which prints levels and depth in each other's column.

    Each level squeezes 2x2 pixels into channels and runs ``depth`` steps; at its end half of the channels leave as
    Gaussians given the other half, but for the last level.

    Args:
        image_size: pixels a side, or height and width; each a multiple of 2 to the power of ``levels``.
        channels: 1 for grey, 3 for colour.
        levels: number of levels, L.
        depth: steps in each, K.
        hidden: channels inside the couplings' networks.
        coupling: ``"affine"`` or ``"additive"``.
        quantization: number of values that a pixel can have, such as 256; noise of one of their distances is added to
            data (see :meth:`observed`). ``None`` for values that are continuous.
        alpha: if above 0, pixels y enter as logit(alpha + (1 - 2 alpha) y), so that hardly any density is outside.
        bound: what the logarithm of the scale of one step cannot exceed.
        activation: units of the couplings' networks, by the name of a class of ``torch.nn``.

    Raises:
        ModelError: a size is not positive, the image cannot be halved so often, or there is no such coupling or
            activation.

    Example:
        >>> glow = Glow(8, channels=1, levels=2, depth=2, hidden=8, quantization=17)
        >>> glow.latent_shapes
        ((2, 4, 4), (8, 2, 2))
        >>> glow.bits_per_dim(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 32,
        channels: int = 3,
        levels: int = 3,
        depth: int = 8,
        hidden: int = 512,
        coupling: Coupling = "affine",
        quantization: int | None = 256,
        alpha: float = 0.0,
        bound: float = 3.0,
        activation: str = "ReLU",
    ) -> None:
        check_positive(self, channels=channels, levels=levels, depth=depth, hidden=hidden, bound=bound)
        numbers, units = _numbers(self, coupling), activation_class(activation)
        sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(sides) != 2:
            raise ModelError(f"Glow: image_size is one number, or height and width, not {[*sides]}")
        height, width = sides
        if min(height, width) < 1 or height % 2**levels or width % 2**levels:
            raise ModelError(
                f"Glow: {height}x{width} pixels cannot be halved {levels} times; pad the images to a multiple of "
                f"{2**levels}, or take fewer levels"
            )
        if quantization is not None:
            check_at_least(self, 2, quantization=quantization)
        if not 0.0 <= alpha < 0.5:
            raise ModelError(f"Glow: alpha must be in [0, 0.5), not {alpha}")
        parts, shapes = [], []
        size, row = channels, (channels, height, width)
        for index in range(levels):
            size, height, width = 4 * size, height // 2, width // 2
            steps: list[Bijection] = []
            for _ in range(depth):
                network = PixelNetwork(size // 2, numbers * (size - size // 2), hidden, units)
                steps.append(GlowStep(size, network, bound if coupling == "affine" else None))
            last = index == levels - 1
            entry: list[Bijection] = [Squeeze()] if index else [Pixels(alpha), Squeeze()]
            parts.append(Level(steps, entry, None if last else LearnedSplit(size, bound)))
            leaving = size if last else size - size // 2
            shapes.append((leaving, height, width))
            size -= leaving
        super().__init__(parts, shapes)
        self.quantization = quantization
        self.elements = math.prod(row)

    @override
    def observed(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images with the noise of dequantisation: k of n values becomes (k + uniform noise) / n.

        Args:
            y: shape (batch, channels, height, width), values k / (n - 1) in [0, 1].
            generator: source of noise.

        Returns:
            A new tensor of the same shape, or ``y`` itself if values are continuous.
        """
        check_numbers(self, "an image", y)
        return y if self.quantization is None else dequantized(y, self.quantization, generator)

    def bits_per_dim(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""An upper bound of the bits a dimension that coding the discrete values takes.

        A pixel value k of n is the cell [k / n, (k + 1) / n), so that an image of D of them is a cell of volume
        :math:`n^{-D}`, and by Jensen's inequality, with u uniform in the cell,
        :math:`\log P(k) = \log n^{-D} E_u[p(u)] \ge E_u[\log p(u)] - D \log n`. Divided by :math:`-D \log 2`:
        :math:`-\log_2 p(u) / D + \log_2 n`. For continuous values the second term is 0: n is 1.

        Args:
            y: as for :meth:`observed`, which is applied.
            generator: source of noise.

        Returns:
            Shape (batch,), in bits.
        """
        nats = -self.log_prob(self.observed(y, generator)) / self.elements
        return nats / math.log(2.0) + math.log2(self.quantization or 1)


def _numbers(model: object, coupling: str) -> int:
    """How many numbers a coupling's network gives for each element."""
    check_choice(ModelError, f"{type(model).__name__}: coupling", coupling, Coupling)
    return 2 if coupling == "affine" else 1


def _step(step: nn.Module) -> GlowStep:
    assert isinstance(step, GlowStep)
    return step

"""The law of one step of a drawing: where the pen moves, whether it lifts, and whether the drawing ends."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.reparam import Law, Rule
from limbeck.core.reparam.noise import draw
from limbeck.errors import DivergenceError

__all__ = ["StrokeLaw", "stroke_kl", "stroke_parameters"]


class _Offsets(NamedTuple):
    """Components of the offset in units of the data: means (..., K, 2), and Cholesky factors by their entries."""

    mean: Tensor
    diagonal: Tensor  # (..., K, 2)
    lower: Tensor  # (..., K)


class StrokeLaw(Distribution):
    r"""Offset (dx, dy), pen and, if asked for, end of a drawing, independent of each other.

    The offset is a mixture of Gaussians with full covariances, pen and end are Bernoulli. All of it is read from one
    tensor, so that many steps are one: every number is computed for all of them at once.

    Args:
        parameters: unconstrained, shape (batch, :func:`stroke_parameters`): logits of pen and end, logits of the
            components if there are several, and for each component mean x, mean y, raw scales of x and y, and the
            lower entry of the Cholesky factor, in normalised units.
        components: K of the mixture; with 1 the offset is a Gaussian.
        ends: whether a value has the end of the drawing as its fourth number.
        shift: offset in units of the data that normalised 0 stands for, shape (2,).
        scale: units of the data to one normalised unit, shape (2,).
        floor: smallest diagonal entry of a Cholesky factor in normalised units. Recorded offsets repeat exactly, and
            a density without a floor would grow on them without a bound.

    Values have shape (batch, 3) or (batch, 4), in units of the data; densities are over these units too.

    Example:
        >>> law = StrokeLaw(torch.zeros(2, stroke_parameters(1, True)), 1, True, torch.zeros(2), torch.ones(2), 0.0)
        >>> law.mean
        tensor([[0.0000, 0.0000, 0.5000, 0.5000],
                [0.0000, 0.0000, 0.5000, 0.5000]])
        >>> round(law.log_prob(torch.zeros(2, 4))[0].item(), 4) == round(-math.log(2 * math.pi) - math.log(4.0), 4)
        True
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"parameters": constraints.real_vector}
    support = constraints.real_vector

    def __init__(
        self, parameters: Tensor, components: int, ends: bool, shift: Tensor, scale: Tensor, floor: float
    ) -> None:
        self.parameters = parameters
        self.components = components
        self.ends = ends
        self.shift = shift
        self.scale = scale
        self.floor = floor
        super().__init__(parameters.shape[:-1], torch.Size((3 + ends,)), validate_args=False)

    @property
    def stacking_key(self) -> Hashable:
        """Laws of one model and one batch size can be stacked; see :mod:`limbeck.core.stacking`."""
        return self.parameters.shape, self.components, self.ends, self.floor

    @classmethod
    def stack(cls, laws: Sequence[StrokeLaw]) -> StrokeLaw:
        """The laws of several sites of one model as one batch, the first site's rows first."""
        return laws[0]._of(torch.cat([law.parameters for law in laws]))

    @cached_property
    def flags(self) -> Tensor:
        """Logits of pen and end, shape (batch, 1) or (batch, 2)."""
        return self.parameters[..., : 1 + self.ends]

    @cached_property
    def log_weights(self) -> Tensor:
        """Logarithms of the components' weights, shape (batch, K)."""
        start = 1 + self.ends
        if self.components == 1:
            return torch.zeros_like(self.parameters[..., :1])
        return torch.log_softmax(self.parameters[..., start : start + self.components], dim=-1)

    @cached_property
    def offsets(self) -> _Offsets:
        """Means, shape (batch, K, 2), and Cholesky factors of the components in units of the data."""
        raw = torch.unflatten(self.parameters[..., -5 * self.components :], -1, (self.components, 5))
        mean = torch.addcmul(self.shift, raw[..., :2], self.scale)
        # 1 + floor where the raw scale is 0.
        diagonal = (F.softplus(raw[..., 2:4]) * (1.0 / math.log(2.0)) + self.floor) * self.scale
        return _Offsets(mean, diagonal, raw[..., 4] * self.scale[1])

    @property
    @override
    def mean(self) -> Tensor:
        """Mean offset, and the probabilities of pen and end; shape (batch, 3 or 4)."""
        offset = (self.log_weights.exp().unsqueeze(-1) * self.offsets.mean).sum(-2)
        return torch.cat([offset, torch.sigmoid(self.flags)], dim=-1)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of a step in nats; ``value`` has shape (batch, 3 or 4), the result (batch,)."""
        return self.offset_log_prob(value[..., :2]) + self._flags_log_prob(value[..., 2:])

    def offset_log_prob(self, offset: Tensor) -> Tensor:
        """Log density of the offset alone, in nats; ``offset`` has shape (batch, 2), the result (batch,)."""
        components = self.offsets
        away = offset.unsqueeze(-2) - components.mean
        first = away[..., 0] / components.diagonal[..., 0]
        second = torch.addcmul(away[..., 1], components.lower, first, value=-1.0) / components.diagonal[..., 1]
        exponent = torch.addcmul(first * first, second, second)
        each = torch.add(components.diagonal.log().sum(-1), exponent, alpha=0.5).neg() - math.log(2.0 * math.pi)
        return each.squeeze(-1) if self.components == 1 else torch.logsumexp(each + self.log_weights, dim=-1)

    def closed_form_kl(self, other: Distribution) -> Tensor:
        """KL to another such law, shape (batch,), in nats; see :func:`stroke_kl`.

        Raises:
            NotImplementedError: torch's way to say that there is none: a side is another law, or a mixture.
        """
        if not isinstance(other, StrokeLaw) or not self.components == other.components == 1:
            raise NotImplementedError
        return stroke_kl(self, other)

    @override
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw steps, shape sample_shape + (batch, 3 or 4), without gradients."""
        with torch.no_grad():
            several = self._of(self.parameters.expand(torch.Size(sample_shape) + self.parameters.shape))
            return several._push(several._noise(None))

    def _flags_log_prob(self, flags: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(self.flags, flags, reduction="none").sum(-1)

    def _of(self, parameters: Tensor) -> StrokeLaw:
        return StrokeLaw(parameters, self.components, self.ends, self.shift, self.scale, self.floor)

    def _noise(self, generator: torch.Generator | None) -> Tensor:
        """Standard normals: one a number of the value and, for a mixture, one more that chooses the component."""
        width = self.event_shape[0] + (self.components > 1)
        return draw(Law.NORMAL, torch.Size((*self.batch_shape, width)), self.parameters, generator)

    def _push(self, noise: Tensor) -> Tensor:
        """The value: differentiable in offsets, 1 where uniform noise is below the probability of a flag."""
        uniform = torch.special.ndtr(noise[..., 2 : self.event_shape[0]])
        flags = (uniform < torch.sigmoid(self.flags.detach())).to(noise.dtype)
        return torch.cat([self._push_offset(noise), flags], dim=-1)

    def _push_offset(self, noise: Tensor) -> Tensor:
        mean, diagonal, lower = self.offsets
        if self.components > 1:
            below = self.log_weights.exp().cumsum(-1)[..., :-1] < torch.special.ndtr(noise[..., -1:])
            index = below.sum(-1, keepdim=True)
            lower = lower.gather(-1, index)
            index = index.unsqueeze(-1).expand(*index.shape, 2)
            mean, diagonal = mean.gather(-2, index), diagonal.gather(-2, index)
        first, second = noise[..., 0], noise[..., 1]
        x = torch.addcmul(mean[..., 0, 0], diagonal[..., 0, 0], first)
        y = torch.addcmul(torch.addcmul(mean[..., 0, 1], lower[..., 0], first), diagonal[..., 0, 1], second)
        return torch.stack([x, y], dim=-1)

    noise_rule: ClassVar[Rule] = Rule(Law.NORMAL, _push, _noise)


def stroke_parameters(components: int, ends: bool) -> int:
    """How many numbers describe a :class:`StrokeLaw`.

    Example:
        >>> stroke_parameters(1, False), stroke_parameters(20, True)
        (6, 122)
    """
    return 1 + ends + 5 * components + (components if components > 1 else 0)


def stroke_kl(p: Distribution, q: Distribution, *, samples: int = 1) -> Tensor:
    """KL divergence between two steps: pen and end in closed form, the offset too if both sides are Gaussian.

    Mixtures have no closed form: with several components on either side the offset's part is the unbiased Monte-Carlo
    estimate, the mean of ``log p - log q`` over samples of ``p`` from torch's global generator. Single estimates of
    that part can be negative.

    Args:
        p: the teacher's law, a :class:`StrokeLaw` of values of shape (batch, 3 or 4).
        q: the student's, of the same shape; its number of components may differ.
        samples: of the estimate, at least 1.

    Returns:
        Shape (batch,), in nats.

    Raises:
        DivergenceError: a side is another law, the shapes differ, or there is no sample.
    """
    if not isinstance(p, StrokeLaw) or not isinstance(q, StrokeLaw):
        raise DivergenceError(f"stroke_kl compares two StrokeLaws, not {type(p).__name__} and {type(q).__name__}")
    if p.batch_shape != q.batch_shape or p.ends != q.ends:
        raise DivergenceError(
            f"the teacher's steps have shape {tuple(p.batch_shape + p.event_shape)}, the student's "
            f"{tuple(q.batch_shape + q.event_shape)}; build both models with the same steps and ends"
        )
    if samples < 1:
        raise DivergenceError(f"stroke_kl needs at least one sample, not {samples}")
    if p.components == q.components == 1:
        return _gaussian_kl(p.offsets, q.offsets) + _flags_kl(p, q)
    total = torch.zeros_like(p.parameters[..., 0])
    for _ in range(samples):
        offset = p._push_offset(p._noise(None))
        total = total + p.offset_log_prob(offset) - q.offset_log_prob(offset)
    return total / samples + _flags_kl(p, q)


def _gaussian_kl(p: _Offsets, q: _Offsets) -> Tensor:
    """KL between single Gaussians by their Cholesky factors; shape (batch,)."""
    ratio = p.diagonal / q.diagonal
    away = p.mean - q.mean
    first = away[..., 0] / q.diagonal[..., 0]
    second = torch.addcmul(away[..., 1], q.lower, first, value=-1.0) / q.diagonal[..., 1]
    cross = torch.addcmul(p.lower, q.lower, ratio[..., 0], value=-1.0) / q.diagonal[..., 1]
    # (r - 1)(r + 1) rather than r^2 - 1: no cancellation where a student is almost its teacher.
    spread = torch.addcmul(-ratio.log(), ratio - 1.0, ratio + 1.0, value=0.5).sum(-1)
    squares = torch.addcmul(torch.addcmul(first * first, second, second), cross, cross)
    return torch.add(spread, squares, alpha=0.5).squeeze(-1)


def _flags_kl(p: StrokeLaw, q: StrokeLaw) -> Tensor:
    """KL between the Bernoulli parts; shape (batch,)."""
    probability = torch.sigmoid(p.flags)
    crossed = F.binary_cross_entropy_with_logits(q.flags, probability, reduction="none")
    own = F.binary_cross_entropy_with_logits(p.flags, probability, reduction="none")
    return (crossed - own).sum(-1)

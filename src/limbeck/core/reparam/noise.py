"""Parameter-free noise: its laws, drawing it, turning one law into another, and sampling temperature."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable

import torch
from torch import Tensor

from limbeck.core.precision import precise
from limbeck.errors import ReparameterizationError

__all__ = ["Law", "convert", "draw", "inside_unit_interval", "temper"]


class Law(enum.Enum):
    """The parameter-free law of a noise tensor.

    Attributes:
        NORMAL: independent standard normals.
        UNIFORM: independent uniforms, strictly inside (0, 1).
        REVERSED: the same, of a law whose values fall as the noise rises: a Bernoulli is 1 where its noise is below p.
        GUMBEL: independent standard Gumbels, one for each category: shape ``batch_shape + (K,)``.
        NONE: nothing is random; the noise is an empty tensor of shape ``batch_shape[:1] + (0,)``.
        CUSTOM: any other law of a registered distribution; it cannot be converted or tempered.
    """

    NORMAL = "normal"
    UNIFORM = "uniform"
    REVERSED = "reversed"
    GUMBEL = "gumbel"
    NONE = "none"
    CUSTOM = "custom"


def inside_unit_interval(u: Tensor) -> Tensor:
    """Clamp uniform noise to the floats strictly between 0 and 1 (a rounded 1 would give an infinite value)."""
    info = torch.finfo(u.dtype)
    return u.clamp(info.tiny, 1.0 - info.eps / 2)


def draw(law: Law, shape: torch.Size, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw noise with the dtype and device of ``like``, on the generator's own device if there is one.

    A CPU generator therefore gives the same noise whatever device the model is on.
    """
    device = like.device if generator is None else generator.device
    dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
    if law is Law.NORMAL:
        noise = torch.randn(shape, dtype=dtype, device=device, generator=generator)
    elif law in (Law.UNIFORM, Law.REVERSED):
        # torch.rand returns multiples of eps / 2, zero included; a drawn zero stands for the cell [0, eps / 2).
        eps = torch.finfo(dtype).eps
        noise = torch.rand(shape, dtype=dtype, device=device, generator=generator).clamp_(eps / 4, 1.0 - eps / 2)
    elif law is Law.GUMBEL:
        noise = torch.empty(shape, dtype=dtype, device=device).exponential_(generator=generator)
        noise = noise.clamp_(min=torch.finfo(dtype).tiny).log_().neg_()
    else:
        raise ValueError(f"noise of {law} has no generic way of being drawn")
    return noise if noise.device == like.device else noise.to(like.device)


def convert(noise: Tensor, source: Law, target: Law) -> Tensor:
    """Turn noise of one law into noise of another, by the probability integral transform.

    A teacher's normal site and a student's Laplace site can share noise this way; the coupling stays comonotone.
    Normal and Gumbel noise are converted to full relative accuracy in both tails. Uniform noise next to 1 is spaced by
    the machine epsilon, so its right tail is accurate only as far as it can be written down, and is clamped inside
    (0, 1) beyond.

    Args:
        noise: of law ``source``, any shape.
        source: the law it has.
        target: the law it should have.

    Returns:
        Noise of law ``target`` and of the same shape, in single precision if that given is in half; ``noise`` itself if
        the laws are equal.

    Raises:
        ReparameterizationError: if the laws are not both among normal, uniform, reversed and Gumbel.

    Example:
        >>> convert(torch.tensor([0.0, -1.0]), Law.NORMAL, Law.UNIFORM)
        tensor([0.5000, 0.1587])
    """
    if source is target:
        return noise
    conversion = _CONVERSIONS.get((source, target))
    if conversion is None:
        raise ReparameterizationError(
            f"{source.name} noise cannot be turned into {target.name} noise: only NORMAL, UNIFORM, REVERSED and GUMBEL "
            "noise can be converted into each other. Give the teacher's and the student's site distributions whose "
            "noise has one law."
        )
    return conversion(precise(noise))  # torch has no quantiles in half precision


def _normal_to_uniform(noise: Tensor) -> Tensor:
    # torch.special.ndtr is (1 + erf) / 2, which has no correct digits below about -5 in float32.
    return inside_unit_interval(0.5 * torch.erfc(noise * -math.sqrt(0.5)))


def _uniform_to_normal(noise: Tensor) -> Tensor:
    normal: Tensor = torch.special.ndtri(noise)
    return normal


def _uniform_to_gumbel(noise: Tensor) -> Tensor:
    return -torch.log(-torch.log(noise))


def _gumbel_to_uniform(noise: Tensor) -> Tensor:
    return inside_unit_interval(torch.exp(-torch.exp(-noise)))


def _normal_to_gumbel(noise: Tensor) -> Tensor:
    # By way of log Phi, which neither rounds to 0 in the right tail nor underflows in the left one.
    log_u: Tensor = torch.special.log_ndtr(noise)
    return -torch.log((-log_u).clamp_min(torch.finfo(noise.dtype).tiny))


def _gumbel_to_normal(noise: Tensor) -> Tensor:
    # The noise is -log(-log u). Above the median 1 - u has the digits, below it u, and far below it only log u has any.
    info = torch.finfo(noise.dtype)
    # No draw comes near these limits; beyond them squares overflow.
    minus_log_u = torch.exp(-noise).clamp(info.tiny, info.max**0.25)
    right = -torch.special.ndtri(-torch.expm1(-minus_log_u))
    left = torch.special.ndtri(torch.exp(-minus_log_u.clamp_max(_DEEP)))
    deep = _normal_of_log(-minus_log_u.clamp_min(_DEEP))
    return torch.where(minus_log_u < math.log(2.0), right, torch.where(minus_log_u < _DEEP, left, deep))


def _reversed(noise: Tensor) -> Tensor:
    return inside_unit_interval(1.0 - noise)


def _normal_to_reversed(noise: Tensor) -> Tensor:
    return _normal_to_uniform(-noise)


def _reversed_to_normal(noise: Tensor) -> Tensor:
    return -_uniform_to_normal(noise)


def _gumbel_to_reversed(noise: Tensor) -> Tensor:
    return inside_unit_interval(-torch.expm1(-torch.exp(-noise)))


def _reversed_to_gumbel(noise: Tensor) -> Tensor:
    return -torch.log(-torch.log1p(-noise))


_DEEP = 50.0
"""The largest -log u for which u is far from underflow in every floating-point type."""


def _normal_of_log(log_u: Tensor) -> Tensor:
    """Solve log Phi(z) = log u by Newton's method, for log u below -``_DEEP``.

    The tail's expansion starts it with an error below 0.01; so far out the slope of log Phi is -(z + 1 / z) to within a
    thousandth.
    """
    z = -torch.sqrt(-2.0 * log_u - torch.log(-4.0 * math.pi * log_u))
    for _ in range(4):
        z = z + (torch.special.log_ndtr(z) - log_u) / (z + 1.0 / z)
    return z


_CONVERSIONS: dict[tuple[Law, Law], Callable[[Tensor], Tensor]] = {
    (Law.NORMAL, Law.UNIFORM): _normal_to_uniform,
    (Law.UNIFORM, Law.NORMAL): _uniform_to_normal,
    (Law.NORMAL, Law.GUMBEL): _normal_to_gumbel,
    (Law.GUMBEL, Law.NORMAL): _gumbel_to_normal,
    (Law.UNIFORM, Law.REVERSED): _reversed,
    (Law.REVERSED, Law.UNIFORM): _reversed,
    (Law.NORMAL, Law.REVERSED): _normal_to_reversed,
    (Law.REVERSED, Law.NORMAL): _reversed_to_normal,
    (Law.GUMBEL, Law.REVERSED): _gumbel_to_reversed,
    (Law.REVERSED, Law.GUMBEL): _reversed_to_gumbel,
    (Law.UNIFORM, Law.GUMBEL): _uniform_to_gumbel,
    (Law.GUMBEL, Law.UNIFORM): _gumbel_to_uniform,
}


def temper(noise: Tensor, law: Law, temperature: float) -> Tensor:
    """Return noise for sampling at a temperature: below 1 closer to the mode or median, above 1 more spread out.

    Normal and Gumbel noise are multiplied by ``temperature``, so that a normal's scale is, and a categorical's logits
    are divided by it. Uniform noise becomes ``Phi(temperature * Phi^-1(noise))``, the same thing seen through
    ``convert``. At temperature 0 a site returns its median (a categorical its mode).

    Args:
        noise: of law ``law``, any shape.
        law: the law it has.
        temperature: at least 0.

    Returns:
        Noise of the same shape; ``noise`` itself at temperature 1.

    Example:
        >>> temper(torch.tensor([0.01, 0.5, 0.99]), Law.UNIFORM, 0.5)
        tensor([0.1224, 0.5000, 0.8776])
    """
    if not temperature >= 0.0:
        raise ReparameterizationError(f"a sampling temperature must be at least 0, not {temperature}")
    if temperature == 1.0 or law is Law.NONE:
        return noise
    if law in (Law.UNIFORM, Law.REVERSED):
        return convert(convert(noise, Law.UNIFORM, Law.NORMAL) * temperature, Law.NORMAL, Law.UNIFORM)
    if law is Law.CUSTOM:
        raise ReparameterizationError("noise of a CUSTOM law has no temperature: sample at temperature 1")
    return noise * temperature

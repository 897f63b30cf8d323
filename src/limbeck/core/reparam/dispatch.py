"""Every random site as ``value = g(parameters, noise)``, the noise having a law without parameters ([U] 3.1).

Given the noise, all latents of a model are deterministic, and the model collapses to its semi-auxiliary form
``p(y | noise, x)``. That is broader than the reparameterisation trick used in training, since ``g`` need not be
differentiable: a Bernoulli is ``noise < p``, a categorical the argmax of its logits plus Gumbel noise.

Dispatch is on the type of the distribution and follows its method resolution order, so a subclass of a known
distribution is handled as its parent. A class may bring its own rule as the attribute ``noise_rule``
(:class:`~limbeck.core.custom_law.CustomLaw`), which needs no :func:`register`. A type without a rule that has a working
``icdf`` is drawn by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.reparam.laws import BUILT_IN, Rule, by_icdf, parameter
from limbeck.core.reparam.noise import Law, convert, draw, inside_unit_interval
from limbeck.errors import ReparameterizationError

__all__ = ["is_discrete", "law", "noise_like", "push", "register", "unregister"]

_D = TypeVar("_D", bound=D.Distribution)


def noise_like(distribution: D.Distribution, generator: torch.Generator | None = None) -> Tensor:
    """Draw the noise that ``push`` turns into a value of ``distribution``.

    Args:
        distribution: of any shape; only its shape, dtype and device matter, not its parameters.
        generator: the source of randomness. Noise is drawn on the generator's device and then moved to the
            parameters', so that one CPU generator gives the same noise on every device.

    Returns:
        Noise of shape ``batch_shape + event_shape`` (for categoricals ``batch_shape + (K,)``, for a
        ``Delta`` the empty ``batch_shape[:1] + (0,)``, for mixtures ``batch_shape + (K, 1 + n)``).
        Uniform noise lies strictly inside (0, 1).

    Example:
        >>> noise_like(D.Normal(torch.zeros(4, 3), 1.0)).shape
        torch.Size([4, 3])
        >>> noise_like(D.Categorical(logits=torch.zeros(4, 10))).shape
        torch.Size([4, 10])
    """
    rule = _rule(distribution)
    if rule.noise is not None:
        return rule.noise(distribution, generator)
    # Read from the slots: the public properties cost as much as drawing a small tensor.
    shape = distribution._batch_shape + distribution._event_shape
    return draw(_law(rule, distribution), shape, parameter(distribution), generator)


def push(distribution: D.Distribution, noise: Tensor) -> Tensor:
    """Return the value ``g(parameters, noise)`` of a random site.

    Args:
        distribution: of shape ``batch_shape + event_shape``.
        noise: as ``noise_like`` draws it, of any origin: the same noise pushed through a teacher's and a student's
            distribution couples the two.

    Returns:
        A value of shape ``batch_shape + event_shape``. It is differentiable in the parameters where the law is
        continuous; where it is discrete it carries no gradient, and has the dtype of the distribution's own samples.

    Example:
        >>> push(D.Normal(torch.tensor([1.0, 2.0]), 10.0), torch.tensor([0.5, -0.5]))
        tensor([ 6., -3.])
        >>> push(D.Bernoulli(torch.tensor([0.3, 0.3])), torch.tensor([0.2, 0.4]))
        tensor([1., 0.])
    """
    rule = _rule(distribution)
    value = rule.push(distribution, noise)
    if rule.law in (Law.UNIFORM, Law.REVERSED) and value.dtype is torch.float32:
        # A discrete law draws finer noise than half precision, and a continuous one may share it.
        dtype = parameter(distribution).dtype
        return value.to(dtype) if dtype in (torch.float16, torch.bfloat16) else value
    return value


def law(distribution: D.Distribution) -> Law:
    """Return the law of the distribution's noise.

    Example:
        >>> law(D.Independent(D.LogNormal(torch.zeros(4, 3), 1.0), 1))
        <Law.NORMAL: 'normal'>
    """
    return _law(_rule(distribution), distribution)


def is_discrete(distribution: D.Distribution) -> bool:
    """Tell whether values are discrete, so that ``push`` has no gradient and latents are compared by KL ([U] App. F).

    A ``Delta`` is not discrete: its value moves continuously with its parameter.

    Example:
        >>> is_discrete(D.Independent(D.Bernoulli(torch.full((4, 3), 0.5)), 1))
        True
    """
    while isinstance(distribution, (D.Independent, D.TransformedDistribution, D.MixtureSameFamily)):
        if isinstance(distribution, D.MixtureSameFamily):
            distribution = distribution.component_distribution
        else:
            distribution = distribution.base_dist
    if isinstance(distribution, Delta):
        return False
    try:
        support: Any = distribution.support
    except NotImplementedError:
        return False
    return bool(support.is_discrete)


def register(
    distribution_type: type[_D],
    *,
    push: Callable[[_D, Tensor], Tensor],
    law: Law | Callable[[_D], Law] = Law.UNIFORM,
    noise: Callable[[_D, torch.Generator | None], Tensor] | None = None,
) -> None:
    """Teach ``noise_like`` and ``push`` a distribution of your own, or replace how a known one is drawn.

    The rule also holds for subclasses that have none of their own. Call it again to replace it.

    Args:
        distribution_type: the class.
        push: ``push(distribution, noise)`` returns the value, of shape ``batch_shape + event_shape``. Make it
            differentiable in the parameters if the law is continuous, and increasing in scalar noise, so that a teacher
            and a student that share noise are coupled as closely as they can be.
        law: the law of the noise, or a function of the distribution that returns it. ``Law.REVERSED`` if it is uniform
            and the value falls in it; ``Law.CUSTOM`` if it is none of the known ones: then ``noise`` is required, and
            two such sites may share noise only if they mean the same by it, which nothing checks.
        noise: ``noise(distribution, generator)`` draws it. By default noise of shape ``batch_shape + event_shape``
            and of law ``law``. Its law must not depend on the parameters.

    Raises:
        ReparameterizationError: if ``distribution_type`` is not a distribution class, or ``noise`` is missing.

    Example:
        A triangular distribution on [0, width], by its inverse CDF:

        >>> class Triangular(D.Distribution):
        ...     arg_constraints = {"width": D.constraints.positive}
        ...     def __init__(self, width):
        ...         self.width = width
        ...         super().__init__(width.shape)
        >>> register(Triangular, push=lambda d, u: d.width * u.sqrt(), law=Law.UNIFORM)
        >>> push(Triangular(torch.tensor([2.0])), torch.tensor([0.25]))
        tensor([1.])
        >>> unregister(Triangular)
    """
    if not (isinstance(distribution_type, type) and issubclass(distribution_type, D.Distribution)):
        raise ReparameterizationError(f"register needs a subclass of torch's Distribution, not {distribution_type!r}")
    if noise is None and law in (Law.NONE, Law.CUSTOM):
        raise ReparameterizationError(f"register({distribution_type.__name__}): {law} noise needs a `noise` function")
    _rules[distribution_type] = Rule(law, push, noise)
    _resolved.clear()


def unregister(distribution_type: type[D.Distribution]) -> None:
    """Undo ``register``: back to the built-in rule if there is one, else to none. No error if there was no rule."""
    _rules.pop(distribution_type, None)
    if distribution_type in _BUILT_IN:
        _rules[distribution_type] = _BUILT_IN[distribution_type]
    _resolved.clear()


# ------------------------------------------------------------------------------------------------------- dispatch


def _rule(distribution: D.Distribution) -> Rule:
    try:
        return _resolved[type(distribution)]
    except KeyError:
        return _resolve(type(distribution))


def _resolve(distribution_type: type[D.Distribution]) -> Rule:
    if not issubclass(distribution_type, D.Distribution):
        raise ReparameterizationError(f"expected a torch distribution, not an object of {distribution_type!r}")
    for parent in distribution_type.__mro__:
        rule = _rules.get(parent) or vars(parent).get("noise_rule")
        if rule is None and parent is not D.Distribution and "icdf" in vars(parent):
            rule = Rule(Law.UNIFORM, by_icdf)
        if rule is not None:
            if not torch.compiler.is_compiling():  # state that a step changes would make it be compiled again
                _resolved[distribution_type] = rule
            return rule
    name = distribution_type.__name__
    raise ReparameterizationError(
        f"{name} cannot be written as a function of its parameters and parameter-free noise: it has neither a rule nor "
        f"an inverse CDF. Teach limbeck how with limbeck.reparam.register({name}, push=..., law=...)."
    )


def _law(rule: Rule, distribution: D.Distribution) -> Law:
    return rule.law if isinstance(rule.law, Law) else rule.law(distribution)


# -------------------------------------------------------------------------------- distributions made of others


def _transformed(d: Any, noise: Tensor) -> Tensor:
    base = d.base_dist
    if not d._event_shape and all(transform.bijective for transform in d.transforms):
        noise = _increasing(noise, law(base), d.transforms)
    value = push(base, noise)
    for transform in d.transforms:
        value = transform(value)
    return value


def _increasing(noise: Tensor, law: Law, transforms: list[D.Transform]) -> Tensor:
    """Reflect the noise where the transforms are decreasing, so that the value increases in it."""
    try:
        sign = math.prod(transform.sign for transform in transforms)
    except NotImplementedError:
        return noise
    if isinstance(sign, int) and sign > 0:
        return noise
    if law is Law.NORMAL:
        return noise * sign
    if law in (Law.UNIFORM, Law.REVERSED):
        reflected = inside_unit_interval(1.0 - noise)
        return torch.where(torch.as_tensor(sign, device=noise.device) < 0, reflected, noise)
    return noise


def _mixture_noise(d: D.MixtureSameFamily, generator: torch.Generator | None) -> Tensor:
    """Draw noise of shape ``batch_shape + (K, 1 + n)``: a Gumbel and the component's own noise, for each component.

    Scalar components of any family have normal noise here, so that mixtures of different families can share it.
    """
    components, weights = d.component_distribution, cast(Any, d.mixture_distribution)
    if weights.batch_shape != d.batch_shape:  # torch lets mixtures share their weights
        weights = weights.expand(d.batch_shape)
    choice = noise_like(weights, generator).unsqueeze(-1)
    own = noise_like(components, generator).reshape(*choice.shape[:-1], -1)
    if (source := law(components)) in (Law.UNIFORM, Law.REVERSED):
        own = convert(own, source, Law.NORMAL)
    return torch.cat([choice, own], dim=-1)


def _mixture(d: D.MixtureSameFamily, noise: Tensor) -> Tensor:
    """Differentiable in the components, piecewise constant in the weights."""
    components = d.component_distribution
    chosen = push(d.mixture_distribution, noise[..., 0])
    own = noise[..., 1:]
    if own.shape[-1] == d.event_shape.numel():  # else categorical components, whose noise is one vector
        own = own.reshape(own.shape[:-1] + d.event_shape)
    if (needed := law(components)) in (Law.UNIFORM, Law.REVERSED):
        own = convert(own, Law.NORMAL, needed)
    values = push(components, own)
    events = len(d.event_shape)
    index = chosen.reshape(chosen.shape + (1,) * (events + 1)).expand(*chosen.shape, 1, *d.event_shape)
    return values.gather(values.dim() - events - 1, index).squeeze(-events - 1)


_BUILT_IN: dict[type[D.Distribution], Rule] = {
    **BUILT_IN,
    D.Independent: Rule(
        lambda d: law(d.base_dist),
        lambda d, noise: push(d.base_dist, noise),
        lambda d, generator: noise_like(d.base_dist, generator),
    ),
    D.TransformedDistribution: Rule(
        lambda d: law(d.base_dist),
        _transformed,
        lambda d, generator: noise_like(d.base_dist, generator),
    ),
    D.MixtureSameFamily: Rule(Law.CUSTOM, _mixture, _mixture_noise),
}
_rules: dict[type, Rule] = dict(_BUILT_IN)
_resolved: dict[type, Rule] = {}

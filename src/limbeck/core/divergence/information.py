"""Divergences measured in nats: KL in closed form or by Monte Carlo, cross-entropy, negative log-likelihood."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence.class_logits import check_labels
from limbeck.core.divergence.closed_forms import CLOSED_FORM, TEMPERED
from limbeck.core.divergence.rows import comparable, describe, reduce
from limbeck.core.precision import precise
from limbeck.core.reparam import noise_like, push
from limbeck.errors import DivergenceError, ReparameterizationError

__all__ = ["cross_entropy", "kl", "kl_monte_carlo", "nll"]


def kl(p: D.Distribution, q: D.Distribution, *, temperature: float = 1.0, normalize: bool = False) -> Tensor:
    """Kullback-Leibler divergence ``KL(p || q)`` in closed form ([U] Eq. 2-7).

    Where ``p`` has mass and ``q`` has none the divergence is infinite, and so is the result: a uniform ``p`` wider than
    ``q``, a categorical ``q`` with a logit of ``-inf``. Probabilities of exactly zero given as ``probs`` are
    clamped by ``torch.distributions`` to its machine epsilon, and give a large finite number instead.

    For two normals of unit variance this is half the squared error, the denoising student's loss ([D] Eq. 11).

    Args:
        p: the teacher's distribution, values of shape ``(batch, ...)``.
        q: the student's, of the same shape; ``Independent`` wrappers may differ.
        temperature: T divides the logits of both sides, and the result is multiplied by T squared, which keeps the
            gradient's size independent of T (Hinton et al., 2015). Only for categorical and Bernoulli sites.
        normalize: divide by the number of elements of one value.

    Returns:
        Shape ``(batch,)``.

    Raises:
        DivergenceError: if there is no closed form, the shapes differ, or a temperature does not apply.

    Example:
        >>> kl(D.Normal(torch.zeros(2, 3), 1.0), D.Normal(torch.ones(2, 3), 1.0))
        tensor([1.5000, 1.5000])
    """
    left, right, shape = comparable(p, q)
    if temperature != 1.0:
        tempered = TEMPERED.get(_family(left))
        if tempered is None or _family(right) is not _family(left):
            raise DivergenceError(
                f"a temperature applies to two categorical or two Bernoulli sites, not to "
                f"{describe(p)} and {describe(q)}"
            )
        if not temperature > 0.0:
            raise DivergenceError(f"a temperature must be positive, not {temperature}")
        return reduce(tempered(left, right, temperature) * temperature**2, shape, normalize)
    closed_form = CLOSED_FORM.get((type(left), type(right)))
    if closed_form is not None:
        return reduce(closed_form(left, right), shape, normalize)
    if isinstance(left, Delta) or isinstance(right, Delta):
        raise _delta_error(p, q)
    try:
        # See CustomLaw: torch's registry is for the whole process and for classes that it knows.
        elements = left.closed_form_kl(right) if hasattr(left, "closed_form_kl") else D.kl_divergence(left, right)
    except NotImplementedError as error:
        raise DivergenceError(
            f"KL({describe(p)} || {describe(q)}) has no closed form here: use limbeck.divergence.kl_monte_carlo"
        ) from error
    return reduce(elements, shape, normalize)


def kl_monte_carlo(
    p: D.Distribution,
    q: D.Distribution,
    *,
    samples: int = 1,
    normalize: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Unbiased estimate of ``KL(p || q)``: the mean of ``log p(z) - log q(z)`` over samples ``z`` of ``p``.

    It has variance, which grows with the dimension and with the distance between the two, falls only as
    ``1 / samples``, and can make a single estimate negative although the divergence never is. Prefer ``kl`` where there
    is a closed form. Its gradient with respect to the student is unbiased too; so is the one with respect to the
    teacher if its samples are differentiable, but not if they are discrete.

    Args:
        p: the teacher's distribution, values of shape ``(batch, ...)``.
        q: the student's, of the same shape.
        samples: how many, at least 1.
        normalize: divide by the number of elements of one value.
        generator: source of randomness. Needs a ``p`` that ``limbeck.reparam`` can draw from.

    Returns:
        Shape ``(batch,)``. A sample of ``p`` outside the support of ``q`` makes it infinite on a GPU.

    Raises:
        DivergenceError: on a CPU, where a sample lies outside the support of ``q``; or the shapes differ, a side is a
            point mass, or there are no samples.

    Example:
        >>> teacher, student = D.StudentT(torch.full((2,), 5.0)), D.Normal(torch.zeros(2), 1.0)
        >>> kl_monte_carlo(teacher, student, samples=8).shape
        torch.Size([2])
    """
    left, right, shape = comparable(p, q)
    if samples < 1:
        raise DivergenceError(f"kl_monte_carlo needs at least one sample, not {samples}")
    if isinstance(left, Delta) or isinstance(right, Delta):
        raise _delta_error(p, q)
    total: Tensor | None = None
    for _ in range(samples):
        value = _sample(left, generator)
        try:
            log_q = _log_prob(right, value)
        except ValueError as error:
            raise DivergenceError(
                f"KL({describe(p)} || {describe(q)}) is infinite: a sample of the first lies outside the support of "
                "the second. Choose distributions with one support."
            ) from error
        log_ratio = reduce(left.log_prob(value), shape, False) - reduce(log_q, shape, False)
        total = log_ratio if total is None else total + log_ratio
    assert total is not None
    return reduce(total / samples, shape, normalize)


def _log_prob(law: D.Distribution, value: Tensor) -> Tensor:
    """Log density; outside the support it raises ``ValueError``, or is -inf on a GPU, which the question would stall.

    Torch's own check is left to a law that has it switched on; zuko switches it off for the whole process.
    """
    inside = None if law._validate_args else _inside(law, value)
    if inside is not None and value.device.type == "cpu":
        if not bool(inside.all()):
            raise ValueError(f"outside the support of {describe(law)}")
        inside = None
    log_prob: Tensor = law.log_prob(value)
    return log_prob if inside is None else log_prob.masked_fill(~inside, -torch.inf)


def _inside(law: D.Distribution, value: Tensor) -> Tensor | None:
    """Which values lie in a law's support, shape ``batch_shape``; ``None`` where the law does not tell."""
    try:
        support: Any = law.support
    except NotImplementedError:
        return None
    found: Tensor | None = None if support is None else support.check(value)
    return found


def cross_entropy(p: D.Distribution, q: D.Distribution, *, normalize: bool = False) -> Tensor:
    """Cross-entropy ``-E_p[log q]`` in closed form: ``kl(p, q)`` plus the entropy of ``p``.

    It has the gradient of ``kl`` with respect to the student. For a point mass ``p`` it is ``nll``.

    Args:
        p: the teacher's distribution, values of shape ``(batch, ...)``.
        q: the student's, of the same shape.
        normalize: divide by the number of elements of one value.

    Returns:
        Shape ``(batch,)``.

    Raises:
        DivergenceError: where ``kl`` raises it, or if the entropy of ``p`` has no closed form.

    Example:
        >>> fair = D.Bernoulli(torch.full((1,), 0.5))
        >>> cross_entropy(fair, fair)
        tensor([0.6931])
    """
    left, _, shape = comparable(p, q)
    if isinstance(left, Delta):
        return nll(p, q, normalize=normalize)
    try:
        entropy = left.entropy()
    except NotImplementedError as error:
        raise DivergenceError(f"the entropy of {describe(p)} has no closed form: use kl or kl_monte_carlo") from error
    return kl(p, q, normalize=normalize) + reduce(entropy, shape, normalize)


def nll(p: D.Distribution, q: D.Distribution, *, normalize: bool = False) -> Tensor:
    """Negative log-likelihood ``-log q(t)`` of the value ``t`` of a deterministic teacher site ``p``.

    The divergence of variational information distillation ([V] Eq. 5), with ``q`` the variational distribution given
    the student's feature.

    Args:
        p: a ``Delta``, value of shape ``(batch, ...)``.
        q: the student's distribution, of the same shape.
        normalize: divide by the number of elements of one value.

    Returns:
        Shape ``(batch,)``.

    Raises:
        DivergenceError: ``p`` is random, or the shapes differ, or its value is none of a categorical's classes.

    Example:
        >>> from limbeck.core.delta import Delta
        >>> nll(Delta(torch.zeros(2, 3)), D.Normal(torch.zeros(2, 3), 1.0), normalize=True)
        tensor([0.9189, 0.9189])
    """
    left, right, shape = comparable(p, q)
    if not isinstance(left, Delta):
        raise DivergenceError(
            f"nll needs a deterministic teacher site, not {describe(p)}: use cross_entropy for a random one"
        )
    value = left.value
    if isinstance(right, D.Categorical):
        check_labels(value, right._num_events)
    else:
        value = precise(value)  # labels of bits are often integers, of which torch's Bernoulli knows no density
    return reduce(-right.log_prob(value), shape, normalize)


def _family(distribution: D.Distribution) -> type | None:
    """Return the tempered family a distribution belongs to, by inheritance."""
    return next((family for family in TEMPERED if family and isinstance(distribution, family)), None)


def _sample(p: D.Distribution, generator: torch.Generator | None) -> Tensor:
    try:
        return push(p, noise_like(p, generator))
    except ReparameterizationError:
        if generator is not None:
            raise
        return p.rsample() if p.has_rsample else p.sample()


def _delta_error(p: D.Distribution, q: D.Distribution) -> DivergenceError:
    return DivergenceError(
        f"KL({describe(p)} || {describe(q)}) involves a point mass, for which it is 0 or infinite: use "
        "limbeck.divergence.lp between deterministic sites, nll for a deterministic teacher and a random "
        "student; between flows limbeck.methods.lkd(), ilkd(), skd() or density()"
    )

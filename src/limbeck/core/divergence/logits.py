"""Divergences between the logits of two classifiers: squared error, standardised and decoupled distillation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch import distributions as D
from torch.nn import functional as F

from limbeck.core.delta import Delta
from limbeck.core.divergence.categorical import categorical_kl
from limbeck.core.divergence.class_logits import check_labels, two_logits
from limbeck.core.divergence.rows import shown
from limbeck.core.joint import Joint
from limbeck.errors import DivergenceError

__all__ = ["decoupled_kl", "logit_error", "standardized_kl"]


def logit_error(p: D.Distribution, q: D.Distribution, *, normalize: bool = True) -> Tensor:
    r"""Half the squared error of the logits (Ba & Caruana, 2014, Eq. 1).

    .. math:: d(t, s) = \frac{1}{2N} \sum_n (t_n - s_n)^2

    [V] Eq. 7 with mu(s) = s. Between deterministic sites that hold a network's logits (``"logits"``) it changes, unlike
    a divergence of probabilities, when one number is added to all of them. A categorical has no such logits: torch
    keeps log-probabilities, so that between categorical sites (``"y"``) only the probabilities are compared.

    Args:
        p: the ``Delta`` of the teacher's logits, or its categorical; (batch, classes).
        q: the student's.
        normalize: divide by the number of classes N, as [V] Eq. 8.

    Returns:
        Shape (batch,).

    Raises:
        DivergenceError: a site has no logits, or the classes differ.

    References:
        Ba & Caruana, Do Deep Nets Really Need to be Deep?, NeurIPS 2014.
    """
    theirs, own = two_logits("logit_error", p, q)
    errors = 0.5 * (theirs - own).square()
    return errors.mean(1) if normalize else errors.sum(1)


def standardized_kl(temperature: float = 2.0) -> Callable[[D.Distribution, D.Distribution], Tensor]:
    r"""The KL at a temperature between logits that are standardised first, row by row (Sun et al., 2024).

    .. math:: d(p, q) = T^2 \, KL(\text{softmax}(z(t) / T) \,\|\, \text{softmax}(z(s) / T)),
              \qquad z(t)_n = \frac{t_n - \bar t}{\sqrt{\frac1N \sum_m (t_m - \bar t)^2}}

    The student need not match the scale of the teacher's logits, only their relations; T is the base temperature.

    Args:
        temperature: T.

    Returns:
        A divergence: two categorical sites, or two ``Delta`` of logits, (batch, classes), to shape (batch,).

    Raises:
        DivergenceError: the temperature is not positive.

    References:
        Sun et al., Logit Standardization in Knowledge Distillation, CVPR 2024.
    """
    return partial(_standardized_kl, temperature=_positive(temperature))


def _standardized_kl(p: D.Distribution, q: D.Distribution, *, temperature: float) -> Tensor:
    theirs, own = two_logits("standardized_kl", p, q)
    # A layer norm without parameters; its epsilon keeps rows of equal logits finite.
    theirs, own = (F.layer_norm(logits, logits.shape[1:]) / temperature for logits in (theirs, own))
    return temperature**2 * categorical_kl(theirs.log_softmax(1), own.log_softmax(1))


def decoupled_kl(
    temperature: float = 4.0, alpha: float = 1.0, beta: float = 8.0
) -> Callable[[D.Distribution, D.Distribution], Tensor]:
    r"""Knowledge distillation in two parts with weights of their own (Zhao et al., 2022).

    .. math:: d = T^2 \left( \alpha \, KL(b^t \| b^s) + \beta \, KL(\hat p^t \| \hat p^s) \right)

    with b the probabilities at temperature T of the true class and of all others together, and p-hat those of the
    others among themselves. With alpha = 1, and the teacher's own probability of the others in place of beta, it is the
    usual KL.

    It needs the labels: match ``"y&y|data"`` with the student's ``"y"`` (short name ``dkd``).

    Args:
        temperature: T.
        alpha: weight of the target's part.
        beta: weight of the others'.

    Returns:
        A divergence: the teacher's ``Joint`` of its categorical, (batch, classes), and the ``Delta`` of the labels,
        integers of shape (batch,); the student's categorical; to shape (batch,).

    Raises:
        DivergenceError: the temperature is not positive; when called, there is one class only, or the labels are not
            one class per row.

    References:
        Zhao et al., Decoupled Knowledge Distillation, CVPR 2022.
    """
    return partial(_decoupled_kl, temperature=_positive(temperature), alpha=alpha, beta=beta)


def _decoupled_kl(p: D.Distribution, q: D.Distribution, *, temperature: float, alpha: float, beta: float) -> Tensor:
    laws = p.laws if isinstance(p, Joint) else ()
    if len(laws) != 2 or not isinstance(laws[1], Delta) or laws[1].value.is_floating_point():
        raise DivergenceError(
            f"decoupled_kl needs the labels beside the teacher's law, as in the match 'y&y|data->y:dkd', not {shown(p)}"
        )
    theirs, own = two_logits("decoupled_kl", laws[0], q)
    label, (rows, classes) = laws[1].value.reshape(-1, 1), own.shape
    if classes < 2:
        raise DivergenceError("decoupled_kl compares the classes that a row is not of, but there is one class only")
    if len(label) != rows:
        raise DivergenceError(f"decoupled_kl needs one label a row, {rows}, not labels of shape {shown(laws[1])}")
    check_labels(label, classes)
    target, others = zip(*(_split(logits / temperature, label) for logits in (theirs, own)), strict=True)
    return temperature**2 * (alpha * categorical_kl(*target) + beta * categorical_kl(*others))


def _split(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (this class, any other), and of the others among themselves with 0 in place of the class."""
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, label, True)
    without = logits.masked_fill(own, -torch.inf)
    rest, all_of_them = without.logsumexp(1, keepdim=True), logits.logsumexp(1, keepdim=True)
    pair = torch.cat([logits.gather(1, label), rest], 1) - all_of_them
    # The class itself is given log-probability -inf on both sides, which the KL counts as nothing.
    return pair, without - rest


def _positive(temperature: float) -> float:
    if not temperature > 0.0:
        raise DivergenceError(f"a temperature must be positive, not {temperature}")
    return temperature

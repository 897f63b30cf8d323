"""KL divergence between two laws of which only samples are known, through an estimate of the ratio of their densities.

For any function r in place of the ratio p / q, the Donsker-Varadhan bound

    KL(p || q) >= E_p[log r(x)] - log E_q[r(x)]

holds, with equality at the true ratio. So each estimator here fits r on one half of the samples and evaluates the bound
on the other, then the other way round: a poor fit shows as a value that is too low, never as a divergence that is not
there. Each coordinate is first replaced by its rank among the pooled samples: a monotone map leaves the divergence as
it is, and heavy tails or a probability of 80 % on one value no longer trouble the kernels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["KLEstimate", "kl_density_ratio"]

Ratio = Callable[[Tensor], Tensor]
"""From points, shape (rows, dimensions), to the logarithm of an unnormalised density ratio, shape (rows,)."""

_WIDTHS = (0.03, 0.06, 0.12, 0.25, 0.5)  # of kernels on the unit interval
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_FOLDS = 3
_ITERATIONS = 100
_SMALLEST = 1e-6  # of a ratio: its logarithm stays finite where no kernel reaches and the constant has no weight


class KLEstimate(NamedTuple):
    """A divergence in nats and the standard error that the number of samples leaves.

    Attributes:
        value: the estimate; may be slightly negative.
        error: standard error over draws of the samples; it does not tell how far a poor fit lies below the divergence.
    """

    value: float
    error: float


def kl_density_ratio(
    p: Tensor,
    q: Tensor,
    *,
    method: Literal["kliep", "ulsif", "classifier"] = "classifier",
    centres: int = 100,
    seed: int = 0,
) -> KLEstimate:
    """KL(p || q) from samples of both, by density-ratio estimation (Sugiyama et al., as in [U] Fig. 2).

    Args:
        p: samples of the first law, shape (rows, dimensions).
        q: samples of the second, shape (other rows, dimensions).
        method: how the ratio is fitted. ``"kliep"`` and ``"ulsif"``: a sum of Gaussian kernels with non-negative
            weights, by likelihood and by least squares; kernel width and ridge by cross-validation.
            ``"classifier"``: a logistic regression that tells the samples apart, on the same kernels, the coordinates
            and their products; its log-odds are the log-ratio.
        centres: kernels, placed on samples of ``p``.
        seed: fixes halves and centres.

    Returns:
        The estimate: a lower bound up to its standard error.

    Raises:
        DataError: too few samples, shapes that do not fit, or samples that are not finite.

    References:
        M. Sugiyama et al., "Direct Importance Estimation for Covariate Shift Adaptation", 2008 (KLIEP).
        T. Kanamori et al., "A Least-squares Approach to Direct Importance Estimation", 2009 (uLSIF).
        M. Donsker, S. Varadhan, "Asymptotic Evaluation of Certain Markov Process Expectations", 1983.

    >>> draw = torch.Generator().manual_seed(0)
    >>> p, q = (torch.randn(2000, 1, generator=draw) + mean for mean in (0.0, 1.0))
    >>> found = kl_density_ratio(p, q, method="kliep")  # 0.5 in closed form
    >>> abs(found.value - 0.5) < 3 * found.error
    True
    """
    fit = {"kliep": _kliep, "ulsif": _ulsif, "classifier": _classifier}.get(method)
    if fit is None:
        raise DataError(f"method must be kliep, ulsif or classifier, not {method!r}")
    generator = torch.Generator().manual_seed(seed)
    halves = [_halves(_checked(samples, p), generator) for samples in (p, q)]
    found = []
    for trained in (0, 1):
        (train_p, test_p), (train_q, test_q) = ((half[trained], half[1 - trained]) for half in halves)
        to_ranks = _to_ranks(torch.cat([train_p, train_q]))
        train_p, train_q, test_p, test_q = (to_ranks(points) for points in (train_p, train_q, test_p, test_q))
        chosen = train_p[torch.randperm(len(train_p), generator=generator)[:centres]]
        found.append(_bound(fit(train_p, train_q, chosen), test_p, test_q))
    return KLEstimate(
        math.fsum(value for value, _ in found) / len(found),
        math.sqrt(math.fsum(error**2 for _, error in found)) / len(found),
    )


def _bound(ratio: Ratio, p: Tensor, q: Tensor) -> KLEstimate:
    """Donsker-Varadhan on samples that the ratio has not seen; the error of the logarithm by linearisation."""
    log_p, log_q = ratio(p), ratio(q)
    scale = torch.logsumexp(log_q, 0) - math.log(len(q))
    variance = log_p.var() / len(p) + (log_q - scale).exp().var() / len(q)
    return KLEstimate(float(log_p.mean() - scale), float(variance.sqrt()))


# ------------------------------------------------------------------------------------------------------ the ratios


def _kernels(points: Tensor, centres: Tensor, width: float) -> Tensor:
    """Gaussian kernels and the constant 1, shape (rows, centres + 1).

    With the constant equal laws have their ratio among the sums, and no sum vanishes where no kernel reaches.
    """
    kernels = torch.exp(-0.5 * (torch.cdist(points, centres) / width).square())
    return torch.cat([kernels, kernels.new_ones(len(points), 1)], 1)


def _mixture(weights: Tensor, centres: Tensor, width: float) -> Ratio:
    def ratio(points: Tensor) -> Tensor:
        return (_kernels(points, centres, width) @ weights).clamp(min=_SMALLEST).log()

    return ratio


def _kliep(p: Tensor, q: Tensor, centres: Tensor) -> Ratio:
    """Likelihood of p under r q with r a mixture of kernels, each normalised over q: EM for the mixture's weights."""

    def weights(p: Tensor, q: Tensor, width: float) -> Tensor:
        # A kernel with less than one sample of q under it cannot be normalised over q.
        mass = _kernels(q, centres, width).mean(0).clamp(min=1.0 / len(q))
        components = _kernels(p, centres, width) / mass
        shares = torch.full_like(mass, 1.0 / len(mass))
        for _ in range(_ITERATIONS):
            shares = shares * (components / (components @ shares).clamp(min=_SMALLEST).unsqueeze(1)).mean(0)
        return shares / mass

    def score(width: float) -> float:
        total = 0.0
        for (train_p, test_p), (train_q, test_q) in zip(_folds(p), _folds(q), strict=True):
            total += _bound(_mixture(weights(train_p, train_q, width), centres, width), test_p, test_q).value
        return total

    width = max(_WIDTHS, key=score)
    return _mixture(weights(p, q, width), centres, width)


def _ulsif(p: Tensor, q: Tensor, centres: Tensor) -> Ratio:
    """Least squares: minimise E_q[(r - p / q)^2] / 2 plus a ridge, in closed form; negative weights become 0."""
    identity = torch.eye(len(centres) + 1, dtype=p.dtype)

    def moments(p: Tensor, q: Tensor, width: float) -> tuple[Tensor, Tensor]:
        over_q = _kernels(q, centres, width)
        return over_q.T @ over_q / len(q), _kernels(p, centres, width).mean(0)

    def weights(square: Tensor, linear: Tensor, ridge: float) -> Tensor:
        solution: Tensor = torch.linalg.solve(square + ridge * identity, linear)
        return solution.clamp(min=0.0)

    def score(width: float) -> list[float]:
        totals = [0.0] * len(_RIDGES)
        for (train_p, test_p), (train_q, test_q) in zip(_folds(p), _folds(q), strict=True):
            fitted, (square, linear) = moments(train_p, train_q, width), moments(test_p, test_q, width)
            for i, ridge in enumerate(_RIDGES):
                alpha = weights(*fitted, ridge)
                totals[i] += float(0.5 * alpha @ square @ alpha - linear @ alpha)
        return totals

    scores = {(w, r): s for w in _WIDTHS for r, s in zip(_RIDGES, score(w), strict=True)}
    width, ridge = min(scores, key=scores.__getitem__)
    return _mixture(weights(*moments(p, q, width), ridge), centres, width)


def _classifier(p: Tensor, q: Tensor, centres: Tensor) -> Ratio:
    """Logistic regression on kernels, coordinates and their products; its penalty by cross-validation."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    polynomials = PolynomialFeatures(2, include_bias=False)
    width = _WIDTHS[len(_WIDTHS) // 2]

    def features(points: Tensor) -> Tensor:
        powers = torch.as_tensor(polynomials.fit_transform(points.numpy()), dtype=points.dtype)
        return torch.cat([powers, _kernels(points, centres, width)], 1)

    labels = torch.cat([torch.ones(len(p)), torch.zeros(len(q))])
    model: Any = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(Cs=[1e-4, 1e-3, 1e-2, 1e-1, 1.0], cv=_FOLDS, scoring="neg_log_loss", max_iter=200),
    )
    with warnings.catch_warnings():
        # Stopped after the given number of iterations the ratio is as good; another warning is of a renamed argument.
        warnings.filterwarnings("ignore", module="sklearn.*")
        model.fit(features(torch.cat([p, q])).numpy(), labels.numpy())

    return lambda points: torch.as_tensor(model.decision_function(features(points).numpy()), dtype=points.dtype)


# --------------------------------------------------------------------------------------------------------- samples


def _checked(samples: Tensor, like: Tensor) -> Tensor:
    if samples.ndim != 2 or samples.shape[1:] != like.shape[1:]:
        raise DataError(
            f"samples must have shape (rows, dimensions) with equal dimensions, not {tuple(samples.shape)}"
            f" beside {tuple(like.shape)}"
        )
    if len(samples) < 8 * _FOLDS:
        raise DataError(f"{len(samples)} samples are too few for a density ratio; draw at least {8 * _FOLDS}")
    if not bool(samples.isfinite().all()):
        raise DataError("samples are NaN or infinite; the model that drew them is broken")
    return samples.detach().cpu().double()


def _halves(samples: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(samples), generator=generator)
    middle = len(samples) // 2
    return samples[order[:middle]], samples[order[middle:]]


def _folds(samples: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The rows as (all but one fold, that fold); they are in random order already."""
    parts = samples.tensor_split(_FOLDS)
    return [(torch.cat([*parts[:i], *parts[i + 1 :]]), parts[i]) for i in range(_FOLDS)]


def _to_ranks(pooled: Tensor) -> Callable[[Tensor], Tensor]:
    """The monotone map of each coordinate to [0, 1] under which the pooled samples are uniform; flat beyond them."""
    from sklearn.preprocessing import QuantileTransformer

    transform: Any = QuantileTransformer(n_quantiles=min(1000, len(pooled)), subsample=None).fit(pooled.numpy())
    return lambda points: torch.as_tensor(transform.transform(points.numpy()), dtype=points.dtype)

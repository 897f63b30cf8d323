"""Distances between two sets of features: how far samples are from data, or a student's from its teacher's."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from typing_extensions import override

from limbeck.errors import DataError

__all__ = ["frechet_distance", "kernel_distance"]


class _Given(nn.Module):
    """Stands where torchmetrics expects a feature network: the features are already there."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    @override
    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    r"""Squared Fréchet (2-Wasserstein) distance between Gaussians fitted to two feature sets, the "FID" formula.

    .. math:: |\mu_a - \mu_b|^2 + \operatorname{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a \Sigma_b)^{1/2})

    One mean and one covariance (divisor rows - 1) per set, over all rows: averaged over small batches, it would be a
    different, much larger number. It is biased upwards by about 1 / rows, so compare only values from equally many rows
    and name the feature extractor beside the number. Fewer rows than features give a singular covariance; the formula
    still holds, but the bias is then most of the value.

    Args:
        features_a: features of one set, shape (rows, features).
        features_b: features of the other set, shape (other rows, features).

    Returns:
        The distance in squared feature units, at least 0; symmetric in its arguments.

    Raises:
        DataError: fewer than two rows, shapes that do not fit, or features that are not finite.

    References:
        M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017.

    >>> a = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    >>> round(frechet_distance(a, a + torch.tensor([3.0, 4.0])), 6)
    25.0
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    a, b = _checked(features_a, features_b, rows=2)
    # The distance does not change with the origin, but torchmetrics subtracts mean products from sums of squares,
    # which cancel when the features lie far from it.
    origin = a.mean(dim=0)
    # Not synchronised: under DDP one process measures, and would wait for the others for ever.
    metric = FrechetInceptionDistance(feature=_Given(a.shape[1]), sync_on_compute=False)
    metric.update(a - origin, real=True)
    metric.update(b - origin, real=False)
    return max(float(metric.compute()), 0.0)


def kernel_distance(
    features_a: Tensor, features_b: Tensor, *, subset_size: int = 1000, subsets: int = 100, seed: int = 0
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the kernel (x·y / features + 1)³, the "KID" formula.

    Unbiased, unlike :func:`frechet_distance`, so it can be used with few rows and may come out slightly negative.

    Args:
        features_a: features of one set, shape (rows, features).
        features_b: features of the other set, shape (other rows, features).
        subset_size: rows in each random subset, at most the rows of the smaller set.
        subsets: number of subsets.
        seed: fixes the subsets; the global random state is left as it was.

    Returns:
        Mean and standard deviation over the subsets. The deviation is that of one subset, not an error of the mean.

    Raises:
        DataError: fewer rows than ``subset_size``, no subsets, shapes that do not fit, or features that are not finite.

    References:
        M. Bińkowski et al., "Demystifying MMD GANs", 2018.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    if subset_size < 2 or subsets < 1:
        raise DataError(f"subset_size ({subset_size}) must be at least 2 and subsets ({subsets}) at least 1.")
    a, b = _checked(features_a, features_b, rows=subset_size)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message=".*will save all extracted features.*")
        # Not torch.manual_seed, which would also reseed the devices, whose state is not put back.
        torch.default_generator.manual_seed(seed)
        metric = KernelInceptionDistance(
            feature=_Given(a.shape[1]), subsets=subsets, subset_size=subset_size, sync_on_compute=False
        )
        metric.update(a, real=True)
        metric.update(b, real=False)
        mean, spread = metric.compute()
    return float(mean), float(spread)


def _checked(features_a: Tensor, features_b: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Both sets on the CPU in float64, so that a value does not depend on the device."""
    for features in (features_a, features_b):
        if features.ndim != 2 or features.shape[1] != features_a.shape[1]:
            raise DataError(
                f"features have shapes {tuple(features_a.shape)} and {tuple(features_b.shape)}; expected two sets of "
                "shape (rows, features) from the same feature extractor."
            )
        if len(features) < rows:
            raise DataError(f"a feature set has {len(features)} rows, but {rows} are needed; draw more samples.")
        wrong = int((~features.isfinite()).any(dim=1).sum())
        if wrong:
            raise DataError(
                f"{wrong} of {len(features)} feature rows are NaN or infinite; the images or the model are broken."
            )
    return features_a.detach().cpu().double(), features_b.detach().cpu().double()

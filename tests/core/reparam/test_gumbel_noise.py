"""Gumbel noise to and from the other laws: the exact law, and full accuracy in both tails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.distributions import Categorical, Laplace, Normal

from limbeck.core.reparam import Law, convert, noise_like

DTYPES = [torch.float32, torch.float64]
LAWS = {Law.NORMAL: stats.norm, Law.UNIFORM: stats.uniform, Law.GUMBEL: stats.gumbel_r}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("source", "target"), [(Law.NORMAL, Law.GUMBEL), (Law.GUMBEL, Law.NORMAL),
                                                (Law.UNIFORM, Law.GUMBEL), (Law.GUMBEL, Law.UNIFORM)])  # fmt: skip
def test_converted_draws_have_the_law(source: Law, target: Law, dtype: torch.dtype) -> None:
    zeros = torch.zeros(20_000, 1, dtype=dtype)
    drawn = {Law.NORMAL: Normal(zeros, 1.0), Law.UNIFORM: Laplace(zeros, 1.0), Law.GUMBEL: Categorical(logits=zeros)}
    noise = noise_like(drawn[source], torch.Generator().manual_seed(1))
    converted = convert(noise, source, target)
    assert stats.kstest(converted.flatten().double().numpy(), LAWS[target].cdf).pvalue > 1e-3
    order = noise.flatten().argsort()
    assert (converted.flatten()[order].diff() >= 0).all()  # comonotone


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_to_gumbel_is_accurate_in_both_tails(dtype: torch.dtype) -> None:
    z = torch.linspace(-30.0, 12.5, 2000, dtype=dtype)
    expected = -np.log(-special.log_ndtr(z.double().numpy()))
    gumbel = convert(z, Law.NORMAL, Law.GUMBEL).double()
    bound = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(gumbel, torch.as_tensor(expected), rtol=bound, atol=bound)
    back = convert(gumbel.to(dtype), Law.GUMBEL, Law.NORMAL)
    torch.testing.assert_close(back, z, rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gumbel_to_normal_is_accurate_in_both_tails(dtype: torch.dtype) -> None:
    """Down to where u = exp(-exp(-g)) has long underflowed."""
    gumbel = torch.linspace(-8.0, 80.0, 4000, dtype=dtype)
    z = convert(gumbel, Law.GUMBEL, Law.NORMAL)
    assert (z.diff() > 0).all()
    bound = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(convert(z, Law.NORMAL, Law.GUMBEL), gumbel, rtol=bound, atol=bound)
    log_u = special.log_ndtr(z.double().numpy())
    slope = np.exp(-gumbel.double().numpy())  # of -log u: an error of g of one unit in the last place
    allowed = 8 * torch.finfo(dtype).eps * slope * (1 + np.abs(gumbel.double().numpy()))
    assert (np.abs(-log_u - slope) < allowed).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_absurd_noise_stays_finite(dtype: torch.dtype) -> None:
    absurd = torch.tensor([-1e4, -90.0, 500.0, 1e4], dtype=dtype)
    for source, target in ((Law.GUMBEL, Law.NORMAL), (Law.NORMAL, Law.GUMBEL)):
        converted = convert(absurd, source, target)
        assert converted.isfinite().all()
        assert (converted.diff() >= 0).all()

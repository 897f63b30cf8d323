"""Noise of one law read as another's, with full accuracy in both tails, and made wider or narrower."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import distributions as D

from limbeck.core.reparam import Law, convert, noise_like, push, temper
from limbeck.errors import ReparameterizationError
from tests.core.reparam.known_laws import generator

DTYPES = [torch.float32, torch.float64]
LAWS = {Law.NORMAL: stats.norm, Law.UNIFORM: stats.uniform, Law.GUMBEL: stats.gumbel_r}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_uniform_noise_is_strictly_inside(dtype):
    uniform = D.Uniform(torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype), validate_args=False)
    noise = noise_like(uniform.expand((2_000_000,)), generator())
    assert noise.dtype == dtype
    assert noise.min() > 0
    assert noise.max() < 1


@pytest.mark.parametrize(("dtype", "lowest"), [(torch.float32, -12.5), (torch.float64, -36.0)])
def test_normal_and_uniform_round_trip_to_the_tail(dtype, lowest):
    z = torch.linspace(lowest, 3.0, 400, dtype=dtype)
    u = convert(z, Law.NORMAL, Law.UNIFORM)
    reference = stats.norm.cdf(z.double().numpy())
    torch.testing.assert_close(
        u.double(), torch.as_tensor(reference), rtol=2e-4 if dtype is torch.float32 else 1e-11, atol=0
    )
    back = convert(u, Law.UNIFORM, Law.NORMAL)
    torch.testing.assert_close(back, z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_converted_noise_stays_inside_and_finite(dtype):
    z = torch.tensor([-100.0, -40.0, 0.0, 9.0, 100.0], dtype=dtype)
    u = convert(z, Law.NORMAL, Law.UNIFORM)
    assert ((u > 0) & (u < 1)).all()
    assert convert(u, Law.UNIFORM, Law.NORMAL).isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_smallest_uniform_noise_converts_to_a_finite_normal(dtype):
    info = torch.finfo(dtype)
    u = torch.tensor([info.eps / 4, 1 - info.eps / 2], dtype=dtype)
    z = convert(u, Law.UNIFORM, Law.NORMAL)
    reference = torch.as_tensor(stats.norm.ppf(u.double().numpy()), dtype=dtype)
    torch.testing.assert_close(z, reference, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("other", [Law.UNIFORM, Law.NORMAL, Law.GUMBEL])
def test_reversed_noise_is_the_uniform_read_from_the_other_end(other, dtype):
    u = torch.tensor([1e-6, 0.2, 0.5, 0.9, 0.9999], dtype=dtype)
    forth = convert(u, Law.REVERSED, other)
    torch.testing.assert_close(forth, convert(1.0 - u, Law.UNIFORM, other), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(convert(forth, other, Law.REVERSED), u, rtol=1e-2, atol=1e-6)
    assert (forth.diff() < 0).all()


def test_convert_is_the_identity_between_equal_laws_and_refuses_the_rest():
    noise = torch.randn(3)
    for same in Law:
        assert convert(noise, same, same) is noise
    with pytest.raises(ReparameterizationError, match="CUSTOM noise cannot be turned into NORMAL"):
        convert(noise, Law.CUSTOM, Law.NORMAL)
    with pytest.raises(ReparameterizationError, match="UNIFORM"):
        convert(noise, Law.UNIFORM, Law.NONE)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-12, 0.999), st.floats(0.2, 2.0))
def test_temper_commutes_with_convert_and_inverts(u, temperature):
    noise = torch.tensor([u], dtype=torch.float64)
    tempered = temper(noise, Law.UNIFORM, temperature)
    z = convert(noise, Law.UNIFORM, Law.NORMAL)
    torch.testing.assert_close(convert(tempered, Law.UNIFORM, Law.NORMAL), z * temperature, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(temper(tempered, Law.UNIFORM, 1 / temperature), noise, rtol=1e-4, atol=1e-12)


def test_temper_scales_normals_and_divides_logits():
    z = torch.randn(4, 3, dtype=torch.float64)
    wide = push(D.Normal(torch.ones(4, 3).double(), 2.0), temper(z, Law.NORMAL, 0.3))
    torch.testing.assert_close(wide, push(D.Normal(torch.ones(4, 3).double(), 0.6), z))
    logits = torch.randn(500, 5)
    gumbel = noise_like(D.Categorical(logits=logits), generator())
    cold = push(D.Categorical(logits=logits), temper(gumbel, Law.GUMBEL, 0.4))
    assert torch.equal(cold, push(D.Categorical(logits=logits / 0.4), gumbel))


def test_temperature_one_changes_nothing_and_zero_leaves_the_median():
    u, z = torch.tensor([0.2, 0.9]), torch.tensor([0.2, -0.9])
    assert temper(u, Law.UNIFORM, 1.0) is u
    assert torch.equal(temper(u, Law.UNIFORM, 0.0), torch.tensor([0.5, 0.5]))
    assert torch.equal(temper(z, Law.NORMAL, 0.0).abs(), torch.zeros(2))
    empty = torch.empty(4, 0)
    assert temper(empty, Law.NONE, 0.5) is empty


@pytest.mark.parametrize(
    ("noise_law", "temperature", "match"),
    [(Law.UNIFORM, -1.0, "at least 0"), (Law.UNIFORM, math.nan, "at least 0"), (Law.CUSTOM, 0.5, "CUSTOM")],
)
def test_what_cannot_be_tempered_is_refused(noise_law, temperature, match):
    with pytest.raises(ReparameterizationError, match=match):
        temper(torch.tensor([0.2, 0.9]), noise_law, temperature)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("source", "target"), [(Law.NORMAL, Law.GUMBEL), (Law.GUMBEL, Law.NORMAL),
                                                (Law.UNIFORM, Law.GUMBEL), (Law.GUMBEL, Law.UNIFORM)])  # fmt: skip
def test_converted_draws_have_the_law(source: Law, target: Law, dtype: torch.dtype) -> None:
    zeros = torch.zeros(20_000, 1, dtype=dtype)
    drawn = {
        Law.NORMAL: D.Normal(zeros, 1.0),
        Law.UNIFORM: D.Laplace(zeros, 1.0),
        Law.GUMBEL: D.Categorical(logits=zeros),
    }
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

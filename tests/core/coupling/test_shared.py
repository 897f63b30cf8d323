"""Runs that share noise or values tie two models together and leave the law of each alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import (
    Normal,
)

from limbeck.core import methods
from limbeck.core.coupling import (
    IndependentNoise,
    Request,
    SharedNoise,
    SharedValues,
)
from limbeck.core.trace import Kind, Trace, keep_all
from limbeck.errors import MatchError
from tests.small_models import Angular
from tests.zoo import BY_NAME, Entry, inputs

ROWS = 4000
CONTINUOUS = ["chain", "branch", "classifier", "loop", "laplace", "normal to laplace"]


def same_name(name: str, kind: Kind) -> str:
    return name


def couple(coupling, entry: Entry, rows: int = ROWS, seed: int = 3) -> tuple[Trace, Trace]:
    teacher, student = entry.pair(dtype=torch.float64)
    x = inputs(rows, torch.float64) if entry.conditional else None
    generator = torch.Generator().manual_seed(seed)
    request = Request(None if x is not None else rows, x, keep_all, lambda taught: keep_all, same_name, generator)
    with torch.no_grad():
        return coupling(teacher, student.eval(), request)


def uniformity(distribution, value: torch.Tensor) -> float:
    """p-value of a Kolmogorov-Smirnov test that values follow their own distribution (by its CDF)."""
    return stats.kstest(distribution.cdf(value).flatten().numpy(), "uniform").pvalue


@pytest.mark.parametrize("name", CONTINUOUS)
def test_student_latents_follow_the_students_own_law(name: str) -> None:
    taught, learned = couple(SharedNoise(), BY_NAME[name])
    for site in learned.of_kind(Kind.LATENT):
        assert uniformity(site.distribution, site.value) > 1e-3, site.name
        own = taught[site.name].distribution
        if not (name in ("laplace", "normal to laplace") and site.name == "z2"):  # a root without parameters
            assert uniformity(own, site.value) < 1e-3, site.name  # and not the teacher's


def test_student_latents_have_the_exact_marginal() -> None:
    """Not only given their parents: z1 of the chain is Gaussian with a known mean and covariance."""
    _, learned = couple(SharedNoise(), BY_NAME["chain"])
    student = BY_NAME["chain"].pair(dtype=torch.float64)[1]
    joint = student.joint("latent")
    values = torch.cat([learned["z2"].value, learned["z1"].value], 1)
    with torch.no_grad():
        whitened = torch.linalg.solve_triangular(joint.scale_tril, (values - joint.mean).T, upper=False)
    assert stats.kstest(whitened.flatten().numpy(), "norm").pvalue > 1e-3
    off_diagonal = np.corrcoef(whitened.numpy())[~np.eye(4, dtype=bool)]
    assert np.abs(off_diagonal).max() < 4.5 / np.sqrt(ROWS)


@pytest.mark.parametrize("name", ["mixed", "bits"])
def test_student_bits_have_the_students_probabilities(name: str) -> None:
    taught, learned = couple(SharedNoise(), BY_NAME[name])
    p = learned["z2"].distribution.probs[0]
    count = learned["z2"].value.sum(0)
    for k in range(len(p)):
        assert stats.binomtest(int(count[k]), ROWS, p[k].item()).pvalue > 1e-3
    # And the coupling is the closest there is: P(different) = |p - q|, of any coupling the least.
    q = taught["z2"].distribution.probs[0]
    different = (taught["z2"].value != learned["z2"].value).sum(0)
    for k in range(len(p)):
        assert stats.binomtest(int(different[k]), ROWS, (p[k] - q[k]).abs().item()).pvalue > 1e-3


@pytest.mark.parametrize("name", CONTINUOUS)
def test_student_targets_are_the_teachers_samples(name: str) -> None:
    for coupling in (SharedNoise(), SharedValues()):
        taught, learned = couple(coupling, BY_NAME[name], 8)
        assert taught.targets
        for target, value in taught.targets.items():
            assert torch.equal(learned[target].value, value)


def test_shared_noise_shares_noise_and_not_values() -> None:
    taught, learned = couple(SharedNoise(), BY_NAME["chain"], 8)
    assert learned["y"].noise is None
    for name in ("z2", "z1"):
        assert torch.equal(taught[name].noise, learned[name].noise)
        assert not torch.equal(taught[name].value, learned[name].value)


def test_shared_values_shares_values() -> None:
    taught, learned = couple(SharedValues(), BY_NAME["chain"], 8)
    for name in ("z2", "z1", "y"):
        assert torch.equal(taught[name].value, learned[name].value)
        assert learned[name].noise is None


def test_normal_noise_drives_a_laplace_student_monotonically() -> None:
    taught, learned = couple(SharedNoise(), BY_NAME["normal to laplace"])
    assert isinstance(taught["z1"].distribution, Normal)
    own = learned["z1"].distribution
    standard = (learned["z1"].value - own.loc) / own.scale
    noise = taught["z1"].noise
    for k in range(2):
        order = noise[:, k].argsort()
        assert (standard[order, k].diff() > 0).all()
    expected = stats.laplace.ppf(stats.norm.cdf(noise.numpy()))
    np.testing.assert_allclose(standard.numpy(), expected, rtol=1e-8, atol=1e-12)


def test_laplace_noise_drives_a_normal_student_too() -> None:
    teacher, student = Angular("laplace"), Angular("normal")
    student.load_state_dict(teacher.state_dict())
    request = Request(500, None, keep_all, lambda taught: keep_all, same_name)
    with torch.no_grad():
        taught, learned = SharedNoise()(teacher.double(), student.double(), request)
    assert uniformity(learned["z1"].distribution, learned["z1"].value) > 1e-3
    u, n = taught["z1"].noise, learned["z1"].noise
    np.testing.assert_allclose(stats.norm.cdf(n.numpy()), u.numpy(), atol=1e-9)


def test_independent_noise_is_independent() -> None:
    """The two sides of an exact copy see different noise, so that its loss is not zero (a known bias of Eq. 11)."""
    teacher, student = BY_NAME["classifier"].copies()
    loss = methods.marginalized(2)(teacher, student, x=inputs(50))
    assert loss.total.item() > 1e-6


@pytest.mark.parametrize("coupling", [SharedNoise(), SharedValues()], ids=["noise", "values"])
def test_the_student_has_gradients_and_the_teacher_none(coupling) -> None:
    entry = BY_NAME["chain"]
    teacher, student = entry.pair()
    request = Request(4, None, keep_all, lambda taught: keep_all, same_name)
    taught, learned = coupling(teacher, student, request)
    assert not any(site.value.requires_grad for site in taught.of_kind(Kind.LATENT, Kind.TARGET))
    assert learned["y"].distribution.loc.requires_grad
    assert learned["z1"].value.requires_grad is isinstance(coupling, SharedNoise)


def test_independent_noise_checks_its_number() -> None:
    with pytest.raises(MatchError, match="-1"):
        IndependentNoise(-1)

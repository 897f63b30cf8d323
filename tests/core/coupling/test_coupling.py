"""Couplings tie two runs together and leave the law of each alone; traces keep what was asked for and no more."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Independent,
    LogNormal,
    MixtureSameFamily,
    Normal,
    OneHotCategorical,
)

from limbeck.core import methods
from limbeck.core.coupling import (
    DataTargets,
    IndependentNoise,
    Request,
    SharedNoise,
    SharedValues,
    WithData,
    WithPosterior,
    needs_data,
    runs_inference,
)
from limbeck.core.coupling.mixing import mixture
from limbeck.core.delta import Delta
from limbeck.core.divergence import kl, kl_monte_carlo
from limbeck.core.graph import DGM
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import KEEP_ALL, KEEP_DISTRIBUTION, KEEP_NOTHING, KEEP_VALUE, Kind, Trace, keep_all
from limbeck.errors import MatchError
from tests.zoo import BY_NAME, CHAIN, Angular, Entry, LinearGaussian, Loop, inputs

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


# ------------------------------------------------------------------------------------------------------------- laws


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


# --------------------------------------------------------------------------------------------------------- the teacher


@pytest.mark.parametrize("coupling", [SharedNoise(), SharedValues()], ids=["noise", "values"])
def test_the_student_has_gradients_and_the_teacher_none(coupling) -> None:
    entry = BY_NAME["chain"]
    teacher, student = entry.pair()
    request = Request(4, None, keep_all, lambda taught: keep_all, same_name)
    taught, learned = coupling(teacher, student, request)
    assert not any(site.value.requires_grad for site in taught.of_kind(Kind.LATENT, Kind.TARGET))
    assert learned["y"].distribution.loc.requires_grad
    assert learned["z1"].value.requires_grad is isinstance(coupling, SharedNoise)


# -------------------------------------------------------------------------------------------------------------- memory


class Watched(Loop):
    """Counts, at every step, how many of the hidden features of the steps before are still alive."""

    def generate(self, sites, x=None):
        self.features, self.alive = [], []
        declare = sites.deterministic

        class Spy:
            def __getattr__(_, name):  # noqa: N805
                return getattr(sites, name) if name != "deterministic" else watch

        def watch(name, value):
            value = value.clone()
            self.features.append(weakref.ref(value))
            self.alive.append(sum(feature() is not None for feature in self.features))
            return declare(name, value)

        super().generate(Spy(), x)


@torch.no_grad()
def test_a_trace_holds_nothing_that_was_not_asked_for() -> None:
    model = Watched(steps=12)
    trace = model.trace(3, keep=lambda name, kind: KEEP_VALUE if kind is Kind.TARGET else KEEP_NOTHING)
    assert list(trace) == [f"{v}[{t}]" for t in range(12) for v in ("pen", "y")]
    assert max(model.alive) <= 2  # the one that is declared and the one it was computed from
    assert not any(feature() is not None for feature in model.features)
    assert all(site.distribution is None and site.noise is None for _, site in trace.items())
    everything = model.trace(3)
    assert max(model.alive) == 12
    assert len(everything) == 4 * 12


@pytest.mark.parametrize("method", ["surrogate", "local"])
def test_the_teachers_features_are_freed_as_it_runs(method: str) -> None:
    teacher, student = Watched(steps=12), Loop(steps=12)
    loss = getattr(methods, method)()(teacher, student, batch_size=2)
    assert torch.isfinite(loss.total)
    assert max(teacher.alive) <= 2


def test_a_matched_feature_is_kept_and_the_others_are_not() -> None:
    teacher, student = Watched(steps=6), Loop(steps=6)
    request = Request(2, None, lambda name, kind: KEEP_DISTRIBUTION if name == "h[3]" else KEEP_NOTHING,
                      lambda taught: lambda name, kind: KEEP_NOTHING, same_name)  # fmt: skip
    taught, learned = SharedNoise()(teacher, student, request)
    assert [t for t, feature in enumerate(teacher.features) if feature() is not None] == [3]
    assert taught["h[3]"].distribution is not None
    assert len(learned) == 0
    assert all(site.noise is None for site in taught.of_kind(Kind.TARGET))  # targets are shared by value
    assert all(site.value is None for site in taught.of_kind(Kind.LATENT))  # noise is all that shared noise needs


@pytest.mark.parametrize("keep", range(KEEP_ALL + 1))
def test_each_field_is_kept_on_its_own(keep: int) -> None:
    model, _ = BY_NAME["chain"].pair()
    trace = model.trace(2, keep=lambda name, kind: keep)
    assert len(trace) == (3 if keep else 0)
    for _, site in trace.items():
        assert (site.distribution is not None, site.value is not None, site.noise is not None) == (
            bool(keep & 1), bool(keep & 2), bool(keep & 4))  # fmt: skip
    assert list(trace.declared) == ["z2", "z1", "y"]


# ------------------------------------------------------------------------------------------------------------ mixtures


@pytest.mark.parametrize("given", ["probs", "logits"])
def test_mixture_of_classes_averages_probabilities(given: str) -> None:
    logits = torch.randn(6, 4, dtype=torch.float64)
    base = Categorical(**{given: torch.softmax(logits, -1) if given == "probs" else logits})
    mixed = mixture(base, 3)
    expected = torch.softmax(logits, -1).reshape(2, 3, 4).mean(1)
    torch.testing.assert_close(mixed.probs, expected)


def test_mixture_of_one_bit() -> None:
    p = torch.rand(6, 1, dtype=torch.float64)
    torch.testing.assert_close(mixture(Bernoulli(probs=p), 2).probs, p.reshape(3, 2, 1).mean(1))


@pytest.mark.parametrize(
    "base",
    [
        lambda: Normal(torch.randn(6, 3), torch.rand(6, 3) + 0.5),
        lambda: Normal(torch.randn(6, 3), 0.7),
        lambda: Independent(Normal(torch.randn(6, 3), torch.rand(6, 3) + 0.5), 1),
        lambda: Bernoulli(logits=torch.randn(6, 3)),
        lambda: Bernoulli(probs=torch.rand(6, 3)),
        lambda: Categorical(logits=torch.randn(6, 3, 4)),
        lambda: OneHotCategorical(logits=torch.randn(6, 3, 4)),
        lambda: Beta(torch.rand(6, 3) + 0.5, torch.rand(6, 3) + 0.5),
        lambda: LogNormal(torch.randn(6, 3), torch.rand(6, 3) + 0.5),
    ],
    ids=["normal", "one scale", "independent", "bits", "bits by probs", "classes", "one-hot", "beta", "log-normal"],
)
def test_mixture_density_is_the_average_of_densities(base) -> None:
    torch.manual_seed(0)
    law = base()
    value = law.sample()[:3]
    for name in ("probs", "logits"):  # what drawing from it leaves behind
        getattr(law, name, None)
    mixed = mixture(law, 2)
    assert isinstance(mixed, MixtureSameFamily)
    each = law.log_prob(value.repeat_interleave(2, 0)).reshape(3, 2, -1).sum(-1)
    torch.testing.assert_close(mixed.log_prob(value), each.exp().mean(1).log())


class Shifted(Normal):
    """A law of one's own with a setting that ``arg_constraints`` does not tell."""

    def __init__(self, loc, scale, low=0.0, validate_args=None) -> None:
        super().__init__(loc + low, scale, validate_args=validate_args)
        self.low = low


class Same(Normal):
    """A law of one's own that its parameters tell."""


def test_a_law_of_ones_own_is_mixed_only_if_its_parameters_tell_it() -> None:
    loc, scale = torch.randn(6, 3), torch.rand(6, 3) + 0.5
    assert isinstance(mixture(Same(loc, scale), 2).component_distribution.base_dist, Same)
    with pytest.raises(MatchError, match=r"Shifted cannot be made again.*takes 'low', which its arg_constraints"):
        mixture(Shifted(loc, scale, 5.0), 2)


class ManyBits(DGM):
    """A latent shift and a target of several bits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 5)

    def generate(self, sites, x=None):
        z = sites.latent("z", sites.standard_normal(2))
        sites.target("y", Bernoulli(logits=self.layer(z)))


def test_marginalized_for_a_target_of_several_bits() -> None:
    loss = methods.marginalized(4, target=kl_monte_carlo)(ManyBits(), ManyBits(), batch_size=16)
    assert torch.isfinite(loss.total)


class OneTarget(ManyBits):
    """A latent shift and a target of the law that is asked for, in the rows that are asked for."""

    def __init__(self, law, mask=lambda h, x: None) -> None:
        super().__init__()
        self.law, self.mask = law, mask

    def generate(self, sites, x=None):
        h = self.layer(sites.latent("z", sites.standard_normal(2)))
        sites.target("y", self.law(h), mask=self.mask(h, x))


@pytest.mark.parametrize(
    "law",
    [
        lambda h: Shifted(h, 0.1),
        Delta,
        lambda h: MixtureSameFamily(Categorical(logits=torch.zeros(len(h), 5)), Normal(h, 1.0)),
    ],
    ids=["Shifted", "Delta", "MixtureSameFamily"],
)
def test_a_law_that_cannot_be_mixed_is_named(law, request: pytest.FixtureRequest) -> None:
    model = OneTarget(law)
    with pytest.raises(MatchError, match=rf"'y'.*{request.node.callspec.id}.*methods\.surrogate"):
        methods.marginalized(4, target=kl_monte_carlo)(model, model, batch_size=3)


def test_a_mixture_exists_where_its_draws_do() -> None:
    x = torch.tensor([[1.0], [-1.0], [2.0], [3.0]])
    exists = x[:, 0] > 0
    teacher, student = (OneTarget(lambda h: Categorical(logits=h), lambda h, x: x[:, 0] > 0) for _ in range(2))
    seen = []
    objective = methods.marginalized(2, target=lambda p, q: (seen.append(kl(p, q)), seen[0])[1])
    loss = objective(teacher, student, x=x)
    torch.testing.assert_close(loss.total, torch.where(exists, seen[0], 0.0).mean())
    teacher.mask = lambda h, x: h[:, 0] > 0
    with pytest.raises(MatchError, match=r"'y'.*some of the 2 draws"):
        objective(teacher, student, x=x.repeat(8, 1))


@pytest.mark.parametrize("more", [{"replay_weight": 1.0}, {"coupling": WithPosterior(IndependentNoise(2))}])
def test_a_mixture_leaves_no_samples(more) -> None:
    objective = Objective([Match("y", divergence=kl_monte_carlo)], **{"coupling": IndependentNoise(2), **more})
    with pytest.raises(MatchError, match=r"no sample of the teacher's targets.*SharedNoise"):
        objective(ManyBits(), ManyBits(), batch_size=3)


def test_a_coupling_of_ones_own() -> None:
    """Anything with the signature of a coupling serves: here, two unrelated runs."""

    def apart(teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        taught = teacher.trace(request.batch_size, keep=request.keep_teacher)
        return taught, student.trace(request.batch_size, keep=request.keep_student(taught))

    model = LinearGaussian(CHAIN)
    loss = Objective([Match("z2", divergence=kl)], apart)(model, model, batch_size=3)
    assert loss.total.item() == pytest.approx(0.0, abs=1e-6)


def test_what_a_coupling_needs_is_what_it_and_the_one_within_need() -> None:
    told = {
        SharedNoise(): (False, False),
        DataTargets(): (True, False),
        WithData(): (True, False),
        WithPosterior(): (False, True),
        WithData(WithPosterior()): (True, True),
        WithPosterior(WithData()): (True, True),
        (lambda teacher, student, request: SharedNoise()(teacher, student, request)): (False, False),
    }
    for coupling, expected in told.items():
        assert (needs_data(coupling), runs_inference(coupling)) == expected
        objective = Objective([Match("y")], coupling)
        assert (objective.needs_data, objective.trains_inference) == expected


def test_independent_noise_checks_its_number() -> None:
    with pytest.raises(MatchError, match="-1"):
        IndependentNoise(-1)


def test_marginalized_one_hot_vectors_are_a_mixture() -> None:
    def of(h: torch.Tensor) -> OneHotCategorical:
        return OneHotCategorical(logits=h.view(-1, 1, 5).expand(-1, 2, 5) + torch.arange(10.0).view(2, 5))

    loss = methods.marginalized(3, target=kl_monte_carlo)(OneTarget(of), OneTarget(of), batch_size=8)
    assert torch.isfinite(loss.total)

"""Declaring sites: what is drawn, what is given, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Dirichlet,
    Distribution,
    Independent,
    Laplace,
    LogisticNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    RelaxedOneHotCategorical,
    TransformedDistribution,
    VonMises,
)
from torch.distributions.transforms import ExpTransform

from limbeck.core.delta import Delta
from limbeck.core.divergence import lp
from limbeck.core.graph import DGM
from limbeck.core.objective import Match, Objective
from limbeck.core.reparam import Law
from limbeck.core.sites import Sites
from limbeck.core.trace import Kind
from limbeck.errors import ReparameterizationError, SiteError

CPU = torch.device("cpu")


def sites(rows: int = 3, **options) -> Sites:
    return Sites(rows, CPU, torch.float32, **options)


def normal(*shape: int) -> Normal:
    return Normal(torch.zeros(shape), torch.ones(shape))


# --------------------------------------------------------------------------------------------------------------- roots


def test_roots_have_the_models_dtype_and_the_batch_first() -> None:
    run = Sites(3, CPU, torch.float64)
    assert run.zeros(2, 4).shape == (3, 2, 4)
    assert run.zeros().shape == (3,)
    assert run.zeros(2).dtype == torch.float64
    law = run.standard_normal(2)
    assert law.batch_shape == (3, 2)
    assert law.loc.dtype == torch.float64
    assert not law.loc.any()
    assert (law.scale == 1).all()


# --------------------------------------------------------------------------------------- all sorts of distributions

LAWS = {
    "normal": lambda: normal(3, 2),
    "independent": lambda: Independent(normal(3, 2, 4), 2),
    "multivariate": lambda: MultivariateNormal(torch.zeros(3, 2), torch.eye(2)),
    "laplace": lambda: Laplace(torch.zeros(3, 2), 1.0),
    "bits": lambda: Bernoulli(probs=torch.full((3, 4), 0.4)),
    "class": lambda: Categorical(logits=torch.zeros(3, 5)),
    "class by probs": lambda: Categorical(probs=torch.full((3, 5), 0.2)),
    "grid of classes": lambda: Independent(Categorical(logits=torch.zeros(3, 2, 5)), 1),
    "one-hot": lambda: OneHotCategorical(logits=torch.zeros(3, 5)),
    "relaxed": lambda: RelaxedOneHotCategorical(torch.tensor(0.5), logits=torch.zeros(3, 5)),
    "transformed": lambda: TransformedDistribution(normal(3, 2), [ExpTransform()]),
    "on the simplex": lambda: LogisticNormal(torch.zeros(3, 2), torch.ones(3, 2)),  # 2 noises, 3 coordinates
    "mixture": lambda: MixtureSameFamily(Categorical(torch.ones(3, 4)), Normal(torch.zeros(3, 4), 1.0)),
    "mixtures of equal weights": lambda: MixtureSameFamily(Categorical(torch.ones(4)), Normal(torch.zeros(3, 4), 1.0)),
    "point": lambda: Delta(torch.arange(6.0).reshape(3, 2)),
}


@pytest.mark.parametrize("kind", ["latent", "target"])
@pytest.mark.parametrize("name", LAWS)
def test_a_site_is_replayed_from_its_own_noise(name: str, kind: str) -> None:
    first = sites()
    value = getattr(first, kind)("v", LAWS[name]())
    law = LAWS[name]()
    assert value.shape == law.batch_shape + law.event_shape
    again = sites(noise=first.trace.noise, laws=first.trace.laws)
    assert torch.equal(getattr(again, kind)("v", LAWS[name]()), value)
    replayed = sites(values={"v": value})
    assert getattr(replayed, kind)("v", LAWS[name]()) is value
    assert replayed.trace.noise == {}


@pytest.mark.parametrize("name", [name for name in LAWS if name != "point"])
def test_noise_of_another_shape_is_refused(name: str) -> None:
    first = sites()
    first.latent("v", LAWS[name]())
    noise = first.trace.noise["v"]
    for wrong in (noise[..., None], noise[..., :-1], noise[:1].expand(3, 2, *noise.shape[1:])):
        with pytest.raises(SiteError, match=r"site 'v'.*noise has shape") as caught:
            sites(noise={"v": wrong}).latent("v", LAWS[name]())
        assert str(tuple(wrong.shape)) in str(caught.value)
        assert str(tuple(noise.shape)) in str(caught.value)


def test_checking_the_shape_of_noise_draws_from_no_generator() -> None:
    first = sites()
    first.latent("v", LAWS["mixture"]())
    state = torch.get_rng_state()
    sites(noise=first.trace.noise).latent("v", LAWS["mixture"]())
    assert torch.equal(state, torch.get_rng_state())


def test_a_site_records_its_kind_and_law() -> None:
    run = sites()
    run.latent("z", Laplace(torch.zeros(3, 2), 1.0))
    run.deterministic("h", torch.zeros(3, 2))
    run.target("y", Categorical(logits=torch.zeros(3, 5)))
    assert [(s.name, s.kind, s.law) for _, s in run.trace.items()] == [
        ("z", Kind.LATENT, Law.UNIFORM),
        ("h", Kind.DETERMINISTIC, Law.NONE),
        ("y", Kind.TARGET, Law.GUMBEL),
    ]
    assert isinstance(run.trace["h"].distribution, Delta)
    assert run.trace.laws == {"z": Law.UNIFORM, "y": Law.GUMBEL}


def test_noise_is_converted_to_the_sites_law() -> None:
    noise = torch.linspace(-3, 3, 6).reshape(3, 2)
    value = sites(noise={"z": noise}, laws={"z": Law.NORMAL}).latent("z", Laplace(torch.zeros(3, 2), 1.0))
    expected = Laplace(0.0, 1.0).icdf(Normal(0.0, 1.0).cdf(noise))
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_noise_that_cannot_be_converted_names_the_site() -> None:
    with pytest.raises(ReparameterizationError, match=r"site 'z'.*CUSTOM.*NORMAL"):
        sites(noise={"z": torch.zeros(3, 2)}, laws={"z": Law.CUSTOM}).latent("z", normal(3, 2))


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("second", ["latent", "target", "deterministic"])
def test_a_name_is_declared_once(second: str) -> None:
    run = sites()
    run.latent("z", normal(3, 2))
    with pytest.raises(SiteError, match=r"'z' is declared twice.*indexed names"):
        getattr(run, second)("z", torch.zeros(3, 2) if second == "deterministic" else normal(3, 2))


def test_a_name_that_is_not_kept_is_still_declared_once() -> None:
    run = sites(keep=lambda name, kind: 0)
    run.latent("z", normal(3, 2))
    with pytest.raises(SiteError, match="twice"):
        run.latent("z", normal(3, 2))


@pytest.mark.parametrize(
    "law",
    [
        Normal(0.0, 1.0),
        normal(2),
        normal(1, 2),
        Independent(normal(3, 2), 2),
        MixtureSameFamily(Categorical(torch.ones(3, 4)), normal(4)),  # components that all rows share
    ],
)
def test_the_batch_comes_first(law: Distribution) -> None:
    with pytest.raises(SiteError, match=r"site 'root': dimension 0.*\(3\).*sites\.zeros"):
        sites().latent("root", law)


def test_a_latent_without_noise_is_an_error_where_noise_was_given() -> None:
    with pytest.raises(SiteError, match=r"site 'z1': no noise.*z2"):
        sites(noise={"z2": torch.zeros(3, 2)}).latent("z1", normal(3, 2))
    with pytest.raises(SiteError, match=r"site 'z1': no noise.*none"):
        sites(noise={}).latent("z1", normal(3, 2))
    sites(noise={}).target("y", normal(3, 2))  # a target is drawn


def test_a_value_of_another_shape_is_refused() -> None:
    with pytest.raises(SiteError, match=r"site 'z'.*\(3, 5\).*\(3, 2\)"):
        sites(values={"z": torch.zeros(3, 5)}).latent("z", normal(3, 2))


@pytest.mark.parametrize("law", [lambda: Dirichlet(torch.ones(3, 2)), lambda: VonMises(torch.zeros(3), torch.ones(3))])
def test_an_unknown_distribution_names_the_site(law) -> None:
    with pytest.raises(ReparameterizationError, match=rf"site 'z'.*{type(law()).__name__}.*register"):
        sites().latent("z", law())


def test_a_given_value_needs_no_reparameterisation() -> None:
    """Local distillation of a site that cannot be pushed: the student only scores the teacher's value."""
    value = torch.full((3, 2), 0.5)
    run = sites(values={"z": value})
    assert run.latent("z", Dirichlet(torch.ones(3, 2))) is value


def test_what_is_no_distribution_at_all_names_the_site() -> None:
    with pytest.raises(SiteError, match=r"site 'z': its law must be a distribution, .* not a Tensor.*deterministic"):
        sites().latent("z", torch.zeros(3, 2))


def test_a_generator_is_the_only_source_of_noise() -> None:
    state = torch.get_rng_state()
    draws = [sites(generator=torch.Generator().manual_seed(1)).latent("z", normal(3, 2)) for _ in range(2)]
    assert torch.equal(*draws)
    assert torch.equal(state, torch.get_rng_state())


def test_names_are_told_in_the_order_of_the_program() -> None:
    run = sites(keep=lambda name, kind: 7 if kind is Kind.TARGET else 0)
    run.latent("b", normal(3, 2))
    run.deterministic("a", torch.zeros(3))
    run.target("c", normal(3, 2))
    assert list(run.trace.declared) == ["b", "a", "c"]
    assert list(run.trace) == ["c"]


def test_what_is_given_is_known_before_it_is_declared() -> None:
    run = sites(values={"z": torch.ones(3, 2)})
    assert torch.equal(run.given("z"), torch.ones(3, 2))
    assert run.given("y") is None
    assert not run.trace.declared  # asking declares nothing


class Ragged(DGM):
    """Rows that end after one step or two."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def generate(self, sites, x=None):
        first = sites.latent("z[0]", sites.standard_normal(2))
        mask = first[:, 0] > 0
        sites.target("y[0]", Normal(first, self.scale))
        sites.target("y[1]", Normal(first, self.scale), mask=mask)


def test_rows_in_which_a_site_does_not_exist() -> None:
    torch.manual_seed(0)
    trace = Ragged().trace(6)
    mask = trace["z[0]"].value[:, 0] > 0
    assert 0 < mask.sum() < 6
    assert torch.equal(trace["y[1]"].mask, mask)
    assert trace["y[0]"].mask is None
    terms = [trace[name].distribution.log_prob(trace[name].value).sum(1) for name in trace]
    torch.testing.assert_close(trace.log_prob(), terms[0] + terms[1] + terms[2] * mask)


def test_a_feature_of_rows_that_have_ended_is_not_compared() -> None:
    class States(DGM):
        def __init__(self, size: float) -> None:
            super().__init__()
            self.size = torch.nn.Parameter(torch.tensor(size))

        def generate(self, sites, x=None):
            for step in range(2):
                sites.deterministic(
                    f"h[{step}]", self.size.expand(4, 1), mask=torch.tensor([True, False, False, step > 0])
                )

    loss = Objective([Match("h[*]", divergence=lp)])(States(1.0), States(3.0), batch_size=4)
    assert loss.terms["h[*]"].item() == pytest.approx(2 / 4 + 2 * 2 / 4)  # one row of four, then two


@pytest.mark.parametrize("kind", ["latent", "deterministic"])
def test_a_mask_of_the_wrong_shape_names_the_site(kind: str) -> None:
    class Wrong(Ragged):
        def generate(self, sites, x=None):
            law = sites.standard_normal(2)
            declared = law if kind == "latent" else law.mean
            getattr(sites, kind)("z", declared, mask=torch.ones(2, 2, dtype=torch.bool))

    with pytest.raises(SiteError, match=r"site 'z': its mask .* must be one bool a row \(2\)"):
        Wrong().trace(2)

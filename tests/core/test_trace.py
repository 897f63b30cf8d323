"""What a trace stores, and what a site says of what it does not have."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import limbeck
from limbeck.core import methods
from limbeck.core.coupling import Request, SharedNoise
from limbeck.core.reparam import Law
from limbeck.core.trace import (
    KEEP_ALL,
    KEEP_DISTRIBUTION,
    KEEP_NOISE,
    KEEP_NOTHING,
    KEEP_VALUE,
    Kind,
    Site,
    keep_fields,
)
from limbeck.errors import SiteError
from tests.small_models import Loop
from tests.zoo import BY_NAME


@pytest.mark.parametrize("fields", [KEEP_NOTHING, KEEP_NOISE, KEEP_ALL])
def test_the_same_fields_of_every_kind(fields: int) -> None:
    assert {keep_fields(fields)("z", kind) for kind in Kind} == {fields}


def test_fields_of_some_kinds_only() -> None:
    keep = keep_fields(KEEP_VALUE, Kind.LATENT, Kind.TARGET)
    kept = {kind for kind in Kind if keep("z", kind) == KEEP_VALUE}
    assert kept == {Kind.LATENT, Kind.TARGET}
    assert {keep("z", kind) for kind in Kind} == {KEEP_VALUE, KEEP_NOTHING}


def test_what_was_not_kept_is_named() -> None:
    law, value = Normal(torch.zeros(2), 1.0), torch.zeros(2)
    whole, bare = Site("z[3]", Kind.LATENT, Law.NORMAL, law, value), Site("z[3]", Kind.LATENT, Law.NORMAL)
    assert whole.kept_distribution() is law
    assert whole.kept_value() is value
    with pytest.raises(SiteError, match=r"site 'z\[3\]': its distribution was not kept"):
        bare.kept_distribution()
    with pytest.raises(SiteError, match=r"site 'z\[3\]': its value was not kept"):
        bare.kept_value()


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
                      lambda taught: lambda name, kind: KEEP_NOTHING, lambda name, kind: name)  # fmt: skip
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


def test_no_rows_have_no_densities() -> None:
    assert BY_NAME["chain"].pair()[0].trace(0).log_prob().shape == (0,)


class Steps(limbeck.DGM):
    """Declares as many steps as it is asked for by a value that is that of no site."""

    def generate(self, sites: limbeck.Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", sites.standard_normal(2))
        count = sites.given("count")
        for step in range(1 if count is None else int(count)):
            sites.target(f"y[{step}]", Normal(z, 1.0))


def test_the_density_of_a_value_that_is_of_no_site_is_refused() -> None:
    """The site that was meant would have been drawn, and its log_prob be that of the draw."""
    values = {"z": torch.zeros(3, 2), "y[0]": torch.ones(3, 2)}
    expected = Steps().trace(values=values).log_prob()
    assert torch.equal(Steps().trace(values=values).log_prob(), expected)
    for stray in ("Y", "x[0]"):
        run = Steps().trace(values={"z": values["z"], stray: values["y[0]"]})
        with pytest.raises(SiteError, match=rf"given for '{stray[0]}.*', but the sites are z, y\[0\]"):
            run.log_prob()
    # A program that stops early leaves later values of a loop unused; what it asks for by itself is used.
    more = values | {"y[1]": values["y[0]"], "count": torch.tensor(1)}
    assert torch.equal(Steps().trace(values=more).log_prob(), expected)

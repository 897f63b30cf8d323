"""Several matches on one site, several sites in one match, and what learns on each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from limbeck.core import methods
from limbeck.core.coupling import SharedNoise, SharedValues
from limbeck.core.divergence import VID, kl
from limbeck.core.graph import DGM
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import Kind
from limbeck.engine.training.variances import learned_variances
from limbeck.errors import DivergenceError, MatchError, SiteError
from tests.core.objective.gaussian_sites import Gaussians, Renamed
from tests.small_models import seeded
from tests.zoo import BY_NAME


class Following(DGM):
    """The second target follows the value of the first; a student may have one more site."""

    def __init__(self, more: bool = False) -> None:
        super().__init__()
        self.scale, self.more = nn.Parameter(torch.ones(())), more

    def generate(self, sites, x=None):
        y1 = sites.target("y1", Normal(sites.zeros(2), self.scale))
        sites.target("y2", Normal(y1, self.scale))
        if self.more:
            sites.target("aux", Normal(sites.zeros(2), self.scale))


@pytest.mark.parametrize("first", [True, False])
def test_one_more_student_site_leaves_the_value_to_the_one_of_the_same_name(first: bool) -> None:
    plain, more = [Match("y1"), Match("y2")], [Match("y1", "aux", weight=0.1)]
    objective = Objective([*more, *plain] if first else [*plain, *more])
    loss = objective(Following(), Following(more=True), batch_size=8)
    assert loss.terms["y2"].item() == 0.0


def test_names_of_the_student() -> None:
    def renamed(*matches: Match) -> str:
        return Objective(list(matches)).matching.rename("y1", Kind.TARGET)

    other, both = Match("y1", "aux"), Match("*")
    assert renamed() == renamed(both) == "y1"
    assert renamed(other) == "aux"
    assert renamed(other, both) == renamed(both, other) == renamed(other, Match({"y1": "y1"})) == "y1"
    assert renamed(other, Match("*", partial=True)) == "aux"  # as far as is known, the student has no y1
    assert renamed(other, Match("*", kind=Kind.LATENT)) == "aux"


class Masked(DGM):
    """Two targets that exist in different rows."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def generate(self, sites, x=None):
        law = Normal(sites.zeros(1) + self.shift, torch.ones(()))
        for name, mask in (("a", [True, True, False, False]), ("b", [True, False, True, False])):
            sites.target(name, law, mask=torch.tensor(mask))
        sites.target("c", law)


@pytest.mark.parametrize(
    ("names", "rows"), [("a&b", 1), ("b&a", 1), ("c&a", 2), ("a&c", 2), ("c&c", 4), ("c&a&b", 1), ("a&b&c", 1)]
)
def test_joined_sites_count_where_all_of_them_exist(names: str, rows: int) -> None:
    def first(p, q) -> Tensor:
        return kl(p.laws[0], q.laws[0])

    objective = Objective([Match(names, divergence=first)])
    loss = objective(Masked(0.0), Masked(1.0), batch_size=4)
    assert loss.total.item() == pytest.approx(0.5 * rows / 4)


class Hidden(DGM):
    """Features with dots in their names, as modules have them."""

    def __init__(self, width: int, count: int = 1) -> None:
        super().__init__()
        self.layer, self.count = nn.Linear(3, width), count

    def generate(self, sites, x=None):
        h = self.layer(x)
        for number in range(self.count):
            sites.deterministic(f"h.{number}", h)
        sites.target("y", Normal(h[:, :1], torch.ones(())))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((None,), ["h.0"]),
        (("a",), ["h.0"]),
        (("a", "b"), ["a/h.0", "b/h.0"]),
        ((None, "b"), ["h.0", "b/h.0"]),
        (("a", "a"), ["h.0", "h.0 (2)"]),
    ],
)
def test_what_is_observed_is_called_by_its_site(names: tuple[str | None, ...], told: list[str]) -> None:
    objective = Objective([Match("h.0", divergence=VID(), name=name) for name in names])
    teacher, student, x = Hidden(4).eval(), Hidden(2), torch.randn(8, 3)
    objective.prepare(teacher, student, x)
    loss = objective(teacher, student, x=x)
    assert list(loss.observed) == [f"information/{site}" for site in told]
    assert list(learned_variances(objective)) == told
    assert all("." not in key for key in objective.learned)


def test_a_site_that_was_not_there_at_the_preparation_is_named() -> None:
    objective = Objective([Match("h.*", divergence=VID())])
    objective.prepare(Hidden(4, 2), Hidden(2, 2), torch.randn(8, 3))
    with pytest.raises(DivergenceError, match=r"'h\.2'.*VID of the match 'h\.\*'.*found only the sites h\.0, h\.1;"):
        objective(Hidden(4, 3), Hidden(2, 3), x=torch.randn(8, 3))


def test_joint_keeps_what_was_prepared() -> None:
    teacher, student, x = Hidden(4), Hidden(2), torch.randn(8, 3)
    objective = Objective([Match("h.0", divergence=VID())])
    assert methods.joint(0.5, objective).learned is not objective.learned  # each sum prepares its own
    objective.prepare(teacher, student, x)
    both = methods.joint(0.5, objective)
    assert set(both.parameters()) == set(objective.parameters()) != set()
    both.train_weight = 0.0
    assert both(teacher, student, x=x).total.isfinite()


NAMES = {f"{old}[{t}]": f"{new}.{t}" for old, new in (("z", "w"), ("y", "out"), ("pen", "p")) for t in range(4)}


@pytest.mark.parametrize("coupling", [SharedNoise(), SharedValues()], ids=["noise", "values"])
@pytest.mark.parametrize("how", ["pattern", "pattern of a kind", "mapping"])
def test_noise_and_values_follow_the_names(coupling, how: str) -> None:
    teacher, plain = BY_NAME["loop"].pair()
    kinds = {"z": Kind.LATENT, "y": Kind.TARGET, "pen": Kind.TARGET}
    expected = Objective([Match(f"{v}[*]") for v in kinds], coupling)(teacher, plain, batch_size=6, generator=seeded())
    if how == "mapping":
        matches = [Match({old: new for old, new in NAMES.items() if old.startswith(v)}) for v in kinds]
    else:
        pairs = {"z": "w", "y": "out", "pen": "p"}
        matches = [
            Match(f"{v}[*]", f"{pairs[v]}.*", kind=kind if how == "pattern of a kind" else None)
            for v, kind in kinds.items()
        ]
    loss = Objective(matches, coupling)(teacher, Renamed(plain, NAMES), batch_size=6, generator=seeded())
    assert loss.terms.keys() == expected.terms.keys()
    assert torch.equal(loss.total, expected.total)


def test_each_kind_may_have_a_pattern_of_its_own() -> None:
    """Both patterns fit every name; the kind decides which of them renames it."""
    teacher, plain = BY_NAME["chain"].pair()
    expected = methods.surrogate(1.0, latent=kl)(teacher, plain, batch_size=6, generator=seeded())
    student = Renamed(plain, {"z2": "latent/z2", "z1": "latent/z1", "y": "target/y"})
    matches = [Match("*", "target/*", kind=Kind.TARGET), Match("*", "latent/*", kind=Kind.LATENT)]
    assert torch.equal(Objective(matches)(teacher, student, batch_size=6, generator=seeded()).total, expected.total)


def test_two_teacher_sites_cannot_drive_one_student_site() -> None:
    teacher, student = Gaussians(a="latent", b="latent", y="target"), Gaussians(w="latent", y="target")
    with pytest.raises(MatchError, match=r"a, b .*'w'"):
        Objective([Match({"a": "w", "b": "w"})])(teacher, student, batch_size=2)


def test_an_optional_match_may_find_nothing_and_a_required_one_may_not() -> None:
    teacher, student = BY_NAME["features"].pair()
    rows = BY_NAME["features"].rows(4)
    target = Match(kind=Kind.TARGET)
    loss = Objective([target, Match(kind=Kind.LATENT, required=False)])(teacher, student, **rows)
    assert list(loss.terms) == ["y"]
    with pytest.raises(MatchError, match=r"latent.*'z\*'.*h, y"):
        Objective([target, Match("z*", kind=Kind.LATENT)])(teacher, student, **rows)
    with pytest.raises(MatchError, match=r"no teacher site fits.*'nothing'.*h, y"):
        Objective([target, Match("nothing")])(teacher, student, **rows)
    names = {"y": "y", "nothing": "y"}
    with pytest.raises(MatchError, match=r"fits the name 'nothing' of the match.*h, y"):
        Objective([Match(names)])(teacher, student, **rows)
    assert list(Objective([Match(names, required=False)])(teacher, student, **rows).terms) == ["y"]


@pytest.mark.parametrize("method", [methods.surrogate, methods.local, methods.marginalized])
def test_a_missing_student_site_is_named_with_those_near_it(method) -> None:
    teacher = Gaussians(y_target="target")
    student = Gaussians(y_targets="target", unrelated="target")
    with pytest.raises(MatchError, match=r"no site 'ytarget'.*near: ytargets\b") as caught:
        method()(teacher, student, batch_size=2)
    assert "unrelated" not in str(caught.value)


def test_a_missing_student_site_unlike_any_other_is_named_with_all() -> None:
    with pytest.raises(MatchError, match=r"no site 'y'.*it has: out, other"):
        methods.surrogate()(Gaussians(y="target"), Gaussians(out="target", other="target"), batch_size=2)


@pytest.mark.parametrize("method", [methods.surrogate, methods.local])
def test_a_latent_that_only_the_student_has_is_refused(method) -> None:
    teacher, student = Gaussians(z1="latent", y="target"), Gaussians(z1="latent", z0="latent", y="target")
    with pytest.raises(SiteError, match=r"site 'z0': no noise was given"):
        method()(teacher, student, batch_size=2)


def test_names_are_no_matches() -> None:
    with pytest.raises(MatchError, match=r"such as \[Match\('y'\)\], not 'z'"):
        Objective([Match("y"), "z"])

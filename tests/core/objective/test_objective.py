"""Matching: which sites are compared, how much each counts, and what is said when they do not fit."""

from __future__ import annotations

import copy
import math
import pickle
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal, Uniform

from limbeck.core import methods
from limbeck.core.coupling import SharedNoise, SharedValues
from limbeck.core.divergence import kl, latent_default, lp, wasserstein2
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Match, Objective
from limbeck.core.objective.comparison import Pair, compare
from limbeck.core.trace import Kind
from limbeck.errors import DivergenceError, MatchError, SiteError
from tests.zoo import BY_NAME, Loop


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


class Renamed(DGM):
    """A model of the zoo under other names: it runs the original program through a translating ``sites``."""

    def __init__(self, base: DGM, names: dict[str, str]) -> None:
        super().__init__()
        self.base, self.names = base, names

    def generate(self, sites, x=None):
        names = self.names

        class Translated:
            def __getattr__(self, attribute):
                original = getattr(sites, attribute)
                if attribute not in ("latent", "target", "deterministic"):
                    return original
                return lambda name, law: original(names.get(name, name), law)

        self.base.generate(Translated(), x)


class Gaussians(DGM):
    """Independent unit Gaussians as sites of any name, kind and shape."""

    def __init__(self, **kinds: str) -> None:
        super().__init__()
        self.sites = {name.replace("_", ""): kind for name, kind in kinds.items()}
        self.shift = nn.Parameter(torch.zeros(()))
        self.shapes: dict[str, tuple[int, ...]] = {}

    def generate(self, sites, x=None):
        for name, kind in self.sites.items():
            value = sites.zeros(*self.shapes.get(name, (2,))) + self.shift
            getattr(sites, kind)(name, value if kind == "deterministic" else Normal(value, torch.ones_like(value)))


def shifted(by: float, **kinds: str) -> Gaussians:
    model = Gaussians(**kinds)
    model.shift.data.fill_(by)
    return model


# ----------------------------------------------------------------------------------------------------- names, patterns


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("z1", "z1", True),
        ("z1", "z10", False),
        ("z1", "az1", False),
        ("z*", "z10", True),
        ("*", "anything[0].at all", True),
        ("z[*]", "z[3]", True),
        ("z[*]", "z3", False),
        ("z[*]", "z[3]x", False),
        ("z[3]", "z[3]", True),
        ("z[3]", "z3", False),  # brackets are not a character class
        ("z.1", "zx1", False),  # nor is a dot any character
        ("a*b*c", "a1b22c", True),
        ("a*b*c", "a1c22b", False),
        ("z+", "zz", False),
    ],
)
def test_patterns(pattern: str, name: str, fits: bool) -> None:
    assert Match(pattern).accepts(name, Kind.LATENT) is fits


@pytest.mark.parametrize(
    ("teacher", "student", "name", "renamed"),
    [
        ("z[*]", "h[*]", "z[3]", "h[3]"),
        ("block[*].*", "layer[*].out.*", "block[12].mean", "layer[12].out.mean"),
        ("*", "student/*", "z[0]", "student/z[0]"),
        ("z[*]", "last", "z[7]", "last"),
        ("z1", "w", "z1", "w"),
        ({"z1": "a", "z2": "b"}, None, "z2", "b"),
        ("z*", None, "z5", "z5"),
        ("z*", r"\1*", "z5", r"\15"),  # a student name is no template of regular expressions
    ],
)
def test_student_names(teacher, student, name: str, renamed: str) -> None:
    match = Match(teacher, student)
    assert match.accepts(name, Kind.TARGET)
    assert match.student_name(name) == renamed


def test_more_stars_than_the_teacher_has() -> None:
    with pytest.raises(MatchError, match=r"z\[\*\]\.\*.*more '\*'"):
        Match("z[*]", "z[*].*")


def test_a_mapping_leaves_no_room_for_a_student_name() -> None:
    with pytest.raises(MatchError, match="mapping"):
        Match({"a": "b"}, "c")


def test_what_is_no_divergence_and_no_weight() -> None:
    with pytest.raises(MatchError, match=r"match '\*' must be a function of two laws.*not 'kl'"):
        methods.surrogate(target="kl")
    with pytest.raises(MatchError, match="finite number, not nan"):
        Match("z", weight=float("nan"))


literals = st.text("ab.[](){}|^$+?\\/_ ", min_size=1, max_size=4)
numbers = st.text("0123456789", max_size=3)


@st.composite
def renamings(draw) -> tuple[str, str, str, str]:
    """Teacher pattern, student pattern, a teacher name that fits, and the student name it must become."""
    stars = draw(st.integers(0, 3))
    parts = [draw(numbers) for _ in range(stars)]
    made = []
    for _ in range(2):
        fixed = [draw(literals) for _ in range(stars + 1)]
        pattern = fixed[0] + "".join("*" + text for text in fixed[1:])
        name = fixed[0] + "".join(part + text for part, text in zip(parts, fixed[1:]))
        made.append((pattern, name))
    return made[0][0], made[1][0], made[0][1], made[1][1]


@given(renamings())
def test_renaming_there_and_back(case: tuple[str, str, str, str]) -> None:
    teacher, student, name, renamed = case
    there, back = Match(teacher, student), Match(student, teacher)
    assert there.accepts(name, Kind.LATENT)
    assert there.student_name(name) == renamed
    assert back.accepts(renamed, Kind.LATENT)
    assert back.student_name(renamed) == name


@given(st.text("az09.[]()^$+?\\|{} ", max_size=6), st.text("az09.[]()^$+?\\|{} ", max_size=6))
def test_a_name_without_stars_fits_itself_alone(one: str, other: str) -> None:
    assert Match(one).accepts(one, Kind.TARGET)
    assert Match(one).accepts(other, Kind.TARGET) is (one == other)


# ---------------------------------------------------------------------------------------------------- what is compared


def test_by_kind() -> None:
    kinds = {"z": "latent", "h": "deterministic", "y": "target"}
    teacher, student = shifted(0.0, **kinds), shifted(1.0, **kinds)
    for kind, name, divergence in ((Kind.LATENT, "z", kl), (Kind.DETERMINISTIC, "h", lp), (Kind.TARGET, "y", kl)):
        loss = Objective([Match(kind=kind, divergence=divergence)])(teacher, student, batch_size=3)
        assert list(loss.terms) == [name]
        assert loss.total.item() == pytest.approx(2.0 if divergence is lp else 1.0)


def test_indexed_sites_of_a_loop() -> None:
    teacher, student = BY_NAME["loop"].pair()
    loss = Objective([Match("z[*]", divergence=wasserstein2), Match("y[*]")])(teacher, student, batch_size=4)
    assert sorted(loss.terms) == ["y[*]", "z[*]"]
    one = Objective([Match("y[2]")])(teacher, student, batch_size=4)
    assert list(one.terms) == ["y[2]"]


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


def test_one_pattern_a_kind() -> None:
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


@pytest.mark.parametrize("again", [copy.deepcopy, lambda objective: pickle.loads(pickle.dumps(objective))])
def test_an_objective_that_has_seen_models_can_be_copied_and_saved(again) -> None:
    teacher, student = BY_NAME["features"].pair()
    rows = BY_NAME["features"].rows(4)
    objective = Objective([Match("h", "absent", partial=True, required=False), Match("y")])
    total = objective(teacher, student, **rows).total
    assert again(objective)(teacher, student, **rows).total == total


def test_weights() -> None:
    teacher, student = shifted(0.0, z="latent", y="target"), shifted(2.0, z="latent", y="target")

    def loss(weight, progress: float = 1.0, whole: float = 1.0) -> dict[str, float]:
        matches = [Match("y"), Match("z", weight=weight)]
        terms = Objective(matches, weight=whole)(teacher, student, batch_size=3, progress=progress).terms
        return {name: term.item() for name, term in terms.items()}

    assert loss(1.0) == pytest.approx({"z": 4.0, "y": 4.0})
    assert loss(0.25) == pytest.approx({"z": 1.0, "y": 4.0})
    assert loss(lambda progress: progress / 2, 0.5) == pytest.approx({"z": 1.0, "y": 4.0})
    assert loss(lambda progress: progress / 2, 0.0) == pytest.approx({"z": 0.0, "y": 4.0})
    assert loss(0.25, whole=3.0) == pytest.approx({"z": 3.0, "y": 12.0})


@pytest.mark.parametrize("names", [["w"], ["w[0]", "w[1]"]])
def test_an_infinite_divergence_without_weight_counts_for_nothing(names: list[str]) -> None:
    wide, narrow = Uniform(torch.zeros(3, 2), 2.0), Uniform(torch.zeros(3, 2), 1.0)
    pairs = [Pair(name, kl, weight, wide, narrow) for name in names for weight in (1.0, 0.0)]
    assert all(term == math.inf for term in compare(pairs[::2]).values())
    assert all(term == 0.0 for term in compare(pairs[1::2]).values())


def test_several_matches_of_one_site_add_up() -> None:
    teacher, student = shifted(0.0, y="target"), shifted(2.0, y="target")
    loss = Objective([Match("y"), Match("*", divergence=wasserstein2, weight=0.5)])(teacher, student, batch_size=3)
    assert loss.terms["y"].item() == pytest.approx(4.0 + 0.5 * 8.0)


def test_terms_average_over_rows_and_sum_over_elements() -> None:
    teacher, student = shifted(0.0, y="target"), shifted(1.0, y="target")
    for model in (teacher, student):
        model.shapes["y"] = (3, 4)
    for rows in (1, 7):
        assert Objective([Match("y")])(teacher, student, batch_size=rows).total.item() == pytest.approx(6.0)


class Scaled(nn.Module):
    """A divergence with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.zeros(()))

    def forward(self, p, q) -> Tensor:
        return self.log_weight.exp() * kl(p, q)


def test_parameters_of_a_divergence_belong_to_the_objective() -> None:
    objective = Objective([Match("y", divergence=Scaled())])
    assert len(list(objective.parameters())) == 1
    objective(shifted(0.0, y="target"), shifted(1.0, y="target"), batch_size=2).backward()
    assert next(objective.parameters()).grad.item() == pytest.approx(1.0)


def test_an_objective_serves_several_pairs() -> None:
    objective = methods.surrogate(0.1)
    for name in ("chain", "mixed", "chain", "bits"):
        teacher, student = BY_NAME[name].pair()
        terms = objective(teacher, student, batch_size=4).terms
        assert set(terms) == {"chain": {"z2", "z1", "y"}, "mixed": {"z2", "z1", "y1", "y2"},
                              "bits": {"z2", "z1", "y"}}[name]  # fmt: skip


def test_default_latent_divergence_is_by_kind_of_value() -> None:
    p, q = Bernoulli(torch.tensor([[0.2, 0.3]])), Bernoulli(torch.tensor([[0.5, 0.6]]))
    assert torch.equal(latent_default(p, q), kl(p, q))
    n, m = Normal(torch.zeros(1, 4), 1.0), Normal(torch.ones(1, 4), 3.0)
    assert latent_default(n, m).item() == pytest.approx(1.0 + 4.0)


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("method", [methods.surrogate, methods.local, methods.marginalized])
def test_a_missing_student_site_is_named_with_those_near_it(method) -> None:
    teacher = Gaussians(y_target="target")
    student = Gaussians(y_targets="target", unrelated="target")
    with pytest.raises(MatchError, match=r"no site 'ytarget'.*near: ytargets\b") as caught:
        method()(teacher, student, batch_size=2)
    assert "unrelated" not in str(caught.value)


def test_a_missing_student_site_unlike_any_other() -> None:
    with pytest.raises(MatchError, match=r"no site 'y'.*it has: out, other"):
        methods.surrogate()(Gaussians(y="target"), Gaussians(out="target", other="target"), batch_size=2)


@pytest.mark.parametrize("method", [methods.surrogate, methods.local])
def test_a_latent_that_only_the_student_has(method) -> None:
    teacher, student = Gaussians(z1="latent", y="target"), Gaussians(z1="latent", z0="latent", y="target")
    with pytest.raises(SiteError, match=r"site 'z0': no noise was given"):
        method()(teacher, student, batch_size=2)


@pytest.mark.parametrize("method", [methods.surrogate, methods.local])
def test_latents_of_different_shape(method) -> None:
    teacher, student = Gaussians(z="latent", y="target"), Gaussians(z="latent", y="target")
    student.shapes["z"] = (5,)
    with pytest.raises(SiteError, match=r"site 'z'.*\(3, 2\).*\(3, 5\)"):
        method()(teacher, student, batch_size=3)


def test_targets_of_different_shape() -> None:
    teacher, student = Gaussians(y="target"), Gaussians(y="target")
    student.shapes["y"] = (2, 2)
    with pytest.raises(SiteError, match=r"site 'y'.*\(3, 2\).*\(3, 2, 2\)"):
        methods.surrogate()(teacher, student, batch_size=3)


class Choice(DGM):
    """One categorical latent."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(shape))

    def generate(self, sites, x=None):
        sites.latent("z", Categorical(logits=self.logits.expand(sites.batch_size, *self.logits.shape)))
        sites.target("y", sites.standard_normal(1))


@pytest.mark.parametrize(("shape", "other"), [((4,), (3,)), ((1, 3), (5, 3)), ((1,), (3,))])
def test_categorical_latents_of_different_shape(shape: tuple, other: tuple) -> None:
    """Noise of another shape must not be broadcast to several variables."""
    expected = rf"site 'z'.*{re.escape(str((2, *shape)))}.*{re.escape(str((2, *other)))}"
    with pytest.raises(SiteError, match=expected):
        methods.surrogate()(Choice(*shape), Choice(*other), batch_size=2)


def test_a_divergence_that_does_not_apply_names_the_site() -> None:
    teacher, student = shifted(0.0, h="deterministic", y="target"), shifted(1.0, h="deterministic", y="target")
    with pytest.raises(DivergenceError, match=r"site 'h'"):
        Objective([Match("h", divergence=kl)])(teacher, student, batch_size=2)


def test_models_of_unequal_precision_are_named() -> None:
    teacher, student = BY_NAME["chain"].pair()
    objective = methods.surrogate()
    with pytest.raises(MatchError, match=r"teacher is of torch\.float64 .*student of torch\.float32; .*teacher\.to"):
        objective(teacher.double(), student.float(), batch_size=2)


def test_a_teacher_is_needed_and_terms_are_needed() -> None:
    student = Gaussians(y="target")
    with pytest.raises(MatchError, match="teacher"):
        methods.surrogate()(None, student, batch_size=2)
    with pytest.raises(MatchError, match="no terms"):
        Objective([])(student, student, batch_size=2)


def test_how_many_rows() -> None:
    with pytest.raises(SiteError, match="batch_size"):
        methods.surrogate()(Gaussians(y="target"), Gaussians(y="target"))
    for none in ({"batch_size": 0}, {"batch_size": -1}, {"x": torch.zeros(0, 2)}, {"batch": Batch(torch.zeros(0, 2))}):
        for objective in (methods.surrogate(), methods.scratch()):
            with pytest.raises(MatchError, match="at least one"):
                objective(Gaussians(y="target"), Gaussians(y="target"), **none)


def test_what_a_models_own_loss_observes_is_passed_on() -> None:
    class Watching(Gaussians):
        def loss(self, batch, *, progress=1.0):
            return Loss.of({"own": batch.y.mean()}, {"seen": batch.y.std()})

    model, batch = Watching(y="target"), Batch(torch.randn(5, 2))
    assert methods.scratch()(None, model, batch=batch).observed == {"seen": batch.y.std()}
    objective = Objective([Match("y")], train_weight=0.5, replay_weight=0.5)
    assert objective(model, model, batch=batch).observed.keys() == {"replay/seen", "train/seen"}


def test_needs() -> None:
    assert methods.surrogate().needs_teacher
    assert not methods.surrogate().needs_data
    assert methods.scratch().needs_data
    assert not methods.scratch().needs_teacher
    assert methods.joint(0.5).needs_data
    assert methods.joint(0.5).needs_teacher
    assert not methods.joint(1.0).needs_data


def test_shares_show_every_term() -> None:
    teacher, student = BY_NAME["loop"].pair()
    loss = methods.surrogate(1e-3)(teacher, student, batch_size=8)
    assert isinstance(student, Loop)
    shares = loss.shares()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert set(shares) == {"z[*]", "pen[*]", "y[*]"}


def test_a_coupling_is_told_how_far_training_is_and_what_the_data_are() -> None:
    seen = []

    class Watching:
        def __call__(self, teacher, student, request):
            seen.append((request.progress, request.y))
            return SharedNoise()(teacher, student, request)

    batch = Batch(y=torch.zeros(4, 2))
    objective = Objective([Match("y")], Watching())
    model = Gaussians(z="latent", y="target")
    objective(model, model, batch=batch, progress=0.25)
    objective(model, model, batch_size=4)
    assert [progress for progress, _ in seen] == [0.25, 1.0]
    assert seen[0][1] is batch.y
    assert seen[1][1] is None

"""Which names a match accepts, and what it calls them on the student's side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.core import methods
from limbeck.core.objective import Match
from limbeck.core.trace import Kind
from limbeck.errors import MatchError


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
def test_a_pattern_accepts_the_names_that_fit(pattern: str, name: str, fits: bool) -> None:
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
def test_the_students_name_follows_the_pattern(teacher, student, name: str, renamed: str) -> None:
    match = Match(teacher, student)
    assert match.accepts(name, Kind.TARGET)
    assert match.student_name(name) == renamed


def test_more_stars_than_the_teacher_has_are_refused() -> None:
    with pytest.raises(MatchError, match=r"z\[\*\]\.\*.*more '\*'"):
        Match("z[*]", "z[*].*")


def test_a_mapping_leaves_no_room_for_a_student_name() -> None:
    with pytest.raises(MatchError, match="mapping"):
        Match({"a": "b"}, "c")


def test_what_is_no_divergence_or_no_weight_is_refused() -> None:
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

"""Which step of the student belongs to which of the teacher."""

from __future__ import annotations

import pytest

from limbeck.core.coupling.depth import Stepped, depth_map, step_name
from limbeck.errors import MatchError
from limbeck.models import Glow, HelmholtzMachine, TableGlow


def pairs(teacher: list[int], student: list[int], depth="steps") -> list[tuple[str, str]]:
    return list(depth_map(teacher, student, depth).items())


def named(level: int, *steps: tuple[int, int]) -> list[tuple[str, str]]:
    return [(step_name(level, left), step_name(level, right)) for left, right in steps]


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        (6, 3, [(2, 1), (4, 2)]),
        (5, 3, [(2, 1), (3, 2)]),
        (4, 4, [(1, 1), (2, 2), (3, 3)]),
        (9, 2, [(4, 1)]),
        (2, 4, [(1, 2)]),  # a deeper student: every step of the teacher has one
        (7, 1, []),
        (1, 7, []),
    ],
)
def test_steps_are_spread_evenly(teacher: int, student: int, expected: list) -> None:
    assert pairs([teacher], [student]) == named(0, *expected)


@pytest.mark.parametrize("teacher", range(1, 12))
@pytest.mark.parametrize("student", range(1, 12))
def test_every_map_goes_up(teacher: int, student: int) -> None:
    found = list(depth_map([teacher, 1], [student, 1]))
    assert len(found) == min(teacher, student)
    assert found[-1] == step_name(0, teacher)
    for side in zip(*pairs([teacher, 1], [student, 1])):
        steps = [int(name.rpartition("[")[2][:-1]) for name in side]
        assert steps == sorted(set(steps))


def test_levels_end_together_and_the_last_end_is_the_latent() -> None:
    assert pairs([8, 8, 4], [2, 1, 4], "levels") == named(0, (8, 2)) + named(1, (8, 1))
    assert pairs([4, 2], [2, 2]) == named(0, (2, 1), (4, 2)) + named(1, (1, 1))


def test_pairs_of_ones_own() -> None:
    assert pairs([4, 5], [2, 3], [(1, 2), (4, 2)]) == named(0, (1, 2), (4, 2)) + named(1, (1, 2), (4, 2))
    assert pairs([4], [2], [(3, 1), (4, 2)]) == named(0, (3, 1))  # the ends of the last level are the latent itself


@pytest.mark.parametrize(
    ("teacher", "student", "depth", "message"),
    [
        ([4], [3], [(4, 2)], "step 4 of the teacher's 4 to step 2 of the student's 3.*the latent"),
        ([4, 4], [4], "steps", "2 levels and the student 1"),
        ([4], [2], [(0, 1)], "step 0 of the teacher and 1 of the student, but level 0 has 4 and 2"),
        ([4], [2], [(2, 3)], "step 2 of the teacher and 3 of the student"),
        ([4], [2], "all", "not 'all'"),
    ],
)
def test_what_does_not_exist_is_refused(teacher: list, student: list, depth, message: str) -> None:
    with pytest.raises(MatchError, match=message):
        depth_map(teacher, student, depth)


def test_flows_have_steps_and_other_models_do_not() -> None:
    assert isinstance(TableGlow(3), Stepped)
    assert Glow(8, 1, 2, 3, 2).step_counts == (3, 3)
    assert not isinstance(HelmholtzMachine(hidden=2), Stepped)

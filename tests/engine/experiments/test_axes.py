"""The grid of a sweep."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.engine.experiments.axes import Axis, grid, short_labels
from limbeck.errors import RecipeError
from limbeck.metrics.sweep_results import value_text

VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.text(max_size=300), st.booleans(), st.none(),
    st.lists(st.integers(), max_size=3),
)  # fmt: skip


def test_grid_is_the_product() -> None:
    axes = [Axis(["a"], [1, 2, 3]), Axis(["b.c", "b.d"], [0.5, 1e-3]), Axis(["e"], ["x"])]
    points = grid(axes)
    assert [point.values for point in points] == list(itertools.product([1, 2, 3], [0.5, 1e-3], ["x"]))
    assert points[1].overrides == {"a": 1, "b.c": 1e-3, "b.d": 1e-3, "e": "x"}
    assert points[1].name == "a=1,b.c+b.d=0.001,e=x"


@given(st.lists(VALUES, min_size=1, max_size=5, unique_by=value_text))
def test_every_point_has_a_directory_of_its_own(values: list[Any]) -> None:
    names = [point.name for point in grid([Axis(["a"], values), Axis(["b"], [1, 2])])]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name.encode()) < 200
        assert not set(name) & set("/\\ '\"*?\0\n")


def test_classes_are_named_shortly() -> None:
    value = {"class_path": "limbeck.methods.surrogate", "init_args": {"latent_weight": 0.1}}
    assert value_text(value) == "surrogate(latent_weight=0.1)"


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        (lambda: [Axis([], [1])], "at least one key"),
        (lambda: [Axis(["a"], [])], "the axis a of the sweep has no values"),
        (lambda: [Axis(["a"], [1, 2, 1])], "has the value 1 twice"),
        (lambda: [Axis(["a"], [1]), Axis(["b", "a"], [2])], "names a twice"),
        (lambda: [Axis(["a", "a"], [1])], "names a twice"),
    ],
)
def test_refused(axes: Any, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        grid(axes())


def test_labels_tell_axes_apart() -> None:
    one, two = Axis(["student.layers", "teacher.layers"], [1]), Axis(["training.steps"], [1])
    assert short_labels([one, two]) == ["layers", "steps"]
    assert short_labels([Axis(["a.x"], [1]), Axis(["b.x"], [1], label="x of b")]) == ["x", "x of b"]
    assert short_labels([Axis(["a.x"], [1]), Axis(["b.x"], [1])]) == ["a.x", "b.x"]

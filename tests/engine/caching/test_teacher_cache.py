"""A teacher cache in a recipe and in one call: the same students, the teacher run once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck
from limbeck.core.methods import scratch
from limbeck.data import Augmentation, Digits
from limbeck.engine import Pairs, TeacherCache
from limbeck.engine.experiments import stand_ins
from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.experiments.stage_keys import student_key
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.stages.progress import Progress
from limbeck.engine.teachers.prepare import prepare
from limbeck.errors import RecipeError
from limbeck.metrics import RunResults
from tests.engine.caching.cached_convolutions import Convolutions, objective, options, rows, taught, teacher
from tests.fast import Fast
from tests.listening import Recorder
from tests.tiny import built, hashes


@pytest.mark.parametrize("given", [{"dtype": "int8"}, {"limit_bytes": 0}])
def test_impossible_settings_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(given))):
        TeacherCache(**given)


class TestUse:
    """In a recipe and in one call."""

    def recipe(self, **changes: Any) -> Recipe:
        found: dict[str, Any] = {
            "title": "Digits", "teacher": Convolutions(6), "student": Convolutions(6), "objective": objective(),
            "method": "ours", "baselines": {"scratch": Baseline(scratch())},
            "evaluation": Fast(), "data": Digits(classes=[0, 1, 2, 3]),
            "target": "labels", "condition": "images", "teacher_training": options(), "training": options(), "seeds": 2,
        }  # fmt: skip
        return Recipe(**found | changes)

    def run(self, recipe: Recipe, folder: Path, progress: Progress | None = None) -> RunResults:
        return Experiment(
            recipe, resolved="", name="digits", directory=folder, cache=folder.parent / "cache", command="",
            progress=progress or Progress(),
        ).run()  # fmt: skip

    def test_a_recipe_fills_it_once_and_trains_the_same_students(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = Recorder()
        self.run(self.recipe(), tmp_path / "without")
        self.run(self.recipe(teacher_cache=TeacherCache()), tmp_path / "with", words)
        assert hashes(tmp_path / "with") == hashes(tmp_path / "without")
        # Once for both seeds; what is finished asks for nothing.
        assert [label for label, _, _ in words.stages].count("teacher cache") == 1
        assert words.expected == words.total
        monkeypatch.setattr(stand_ins, "cached", lambda *_, **__: pytest.fail("asked for a cache"))
        self.run(self.recipe(teacher_cache=TeacherCache()), tmp_path / "with")

    def test_each_seeds_rows_are_kept_where_they_differ(self, tmp_path: Path) -> None:
        words = Recorder()
        self.run(self.recipe(per_class=5, teacher_cache=TeacherCache()), tmp_path / "with", words)
        self.run(self.recipe(per_class=5), tmp_path / "without")
        assert hashes(tmp_path / "with") == hashes(tmp_path / "without")
        made = [steps for label, steps, _ in words.stages if label == "teacher cache"]
        assert made == [3, 3]  # 20 rows of a seed in batches of 8
        assert words.expected == words.total

    def test_a_rehearsal_fills_one_too(self, tmp_path: Path) -> None:
        results = self.run(self.recipe(per_class=5, teacher_cache=TeacherCache()).dry(), tmp_path / "run")
        assert results.values("ours", "accuracy")

    def test_exact_outputs_are_no_part_of_a_students_key(self) -> None:
        """Exact outputs make the same student, rounded ones another."""
        caches = (None, TeacherCache(), TeacherCache(limit_bytes=10**9), TeacherCache("float16"))
        keys = [student_key(self.recipe(teacher_cache=cache), "ours", 0, "t", "r") for cache in caches]
        assert keys[0] == keys[1] == keys[2] != keys[3]
        plain = [student_key(self.recipe(teacher_cache=cache), "scratch", 0, "t", "r") for cache in caches]
        assert len(set(plain)) == 1

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"pairs": Pairs(8)}, "leave out pairs"),
            ({"condition": "none"}, "nothing to look up by"),
            ({"training": options(augmentation=Augmentation())}, r"augmentation\.views"),
        ],
    )
    def test_recipes_that_cannot_have_one_say_so(self, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            self.recipe(teacher_cache=TeacherCache(), **changes)

    def test_one_call_trains_the_same_student(self, tmp_path: Path) -> None:
        students = [built(Convolutions, 7) for _ in range(3)]
        given: dict[str, Any] = {"data": rows(), "training": options(), "progress": False}
        limbeck.distill(teacher(), students[0], objective(), **given)
        limbeck.distill(teacher(), students[1], objective(), teacher_cache=TeacherCache(), cache=tmp_path, **given)
        prepared = prepare(teacher(), torch.rand(2, 1, 8, 8))
        limbeck.distill(taught(tmp_path / "own", prepared), students[2], objective(), **given)
        assert len({weights_fingerprint(student) for student in students}) == 1
        assert list(tmp_path.glob("*/manifest.json"))

    def test_one_call_keeps_it_in_its_directory(self, tmp_path: Path) -> None:
        given: dict[str, Any] = {"data": rows(), "training": options(), "progress": False, "directory": tmp_path}
        found = [
            limbeck.distill(teacher(), built(Convolutions, 7), objective(), teacher_cache=cache, **given).student
            for cache in (TeacherCache(), None, TeacherCache("float16"))
        ]
        assert list(tmp_path.glob("teacher/*/manifest.json"))
        # Exact outputs are found as what would have been trained without; rounded ones are not.
        kept = [weights_fingerprint(student) for student in found]
        assert kept[0] == kept[1] != kept[2]

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"data": rows()}, "give a directory, or cache="),
            ({"cache": "x"}, "give data"),
            (
                {"cache": "x", "data": rows(), "teacher_inputs": torch.zeros(1, 1, 8, 8)},
                "not with pairs or teacher_inputs",
            ),
        ],
    )
    def test_calls_that_cannot_have_one_say_so(self, given: dict[str, Any], words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            limbeck.distill(teacher(), built(Convolutions), objective(), teacher_cache=TeacherCache(), **given)

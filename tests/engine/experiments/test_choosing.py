"""Weights that are chosen on held-out rows: which candidates, on which rows, by what, and what follows from it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import scratch, transfer
from limbeck.core.objective import Match, Objective
from limbeck.data import Digits
from limbeck.engine import ClassifierEvaluation, TeacherCache, Training
from limbeck.engine.experiments.choosing import LEARNING_RATE, Candidate, Choice, candidates, with_candidate
from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.experiments.shared_stages import SharedStages
from limbeck.engine.experiments.stage_keys import student_key
from limbeck.engine.stages.progress import Progress
from limbeck.engine.sweeps.sweep_plan import Point, plan
from limbeck.engine.training import fit
from limbeck.errors import NonFiniteLossError, RecipeError
from limbeck.metrics import RunResults
from limbeck.models import MLPClassifier
from tests.fast import Fast
from tests.listening import Recorder
from tests.tiny import Quick, Tiny, hashes

FEW = Training(steps=3, batch_size=16, checkpoint_every=50, log_every=1)
TASK, HIDDEN = [0.1, 1.0], [10.0, 100.0]


def recipe(**changes: Any) -> Recipe:
    found: dict[str, Any] = {
        "title": "Digits",
        "teacher": MLPClassifier(64, 10, [8, 6]),
        "student": MLPClassifier(64, 10, [6, 5]),
        "objective": transfer(["h[*]:vid@1"]),
        "method": "vid",
        "baselines": {
            "kd": Baseline(transfer(["y:kd"]), choices={"y|data": TASK, LEARNING_RATE: [1e-3]}),
            "scratch": Baseline(scratch()),
        },
        "choices": {"y|data": TASK, "h[*]": HIDDEN},
        "evaluation": Fast(draws=1),
        "data": Digits(),
        "target": "labels",
        "condition": "images",
        "teacher_training": FEW,
        "training": FEW,
        "per_class": 20,
    }
    return Recipe(**found | changes)


def run(of: Recipe, folder: Path, progress: Progress | None = None, **changes: Any) -> RunResults:
    return Experiment(
        of, resolved="", name="digits", directory=folder, cache=folder.parent / "cache", command="",
        progress=progress or Progress(), **changes,
    ).run()  # fmt: skip


def scored(monkeypatch: pytest.MonkeyPatch, best: str) -> list[tuple[str, Batch]]:
    """Let one candidate win, told by the directory of its model; what is measured from now on."""
    from limbeck.engine.experiments import choosing

    seen: list[tuple[str, Batch]] = []
    evaluate = choosing.choose

    def choose(of: Recipe, method: str, stage_of: Any, finished: Any, held_out: Batch, *rest: Any) -> Choice:
        last = [""]

        def named(stage: Any, folder: Path) -> DGM:
            last[0] = folder.name
            model: DGM = finished(stage, folder)
            return model

        def score(self: ClassifierEvaluation, model: DGM, rows: Batch) -> float:
            seen.append((last[0], rows))
            return 0.0 if last[0] == best else 1.0

        monkeypatch.setattr(ClassifierEvaluation, "score", score)
        return evaluate(of, method, stage_of, named, held_out, *rest)

    monkeypatch.setattr("limbeck.engine.experiments.learners.choose", choose)
    return seen


BEST = "y-data=0.1,h=100"


class TestRun:
    def test_the_best_candidate_trains_the_students(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        words, seen = Recorder(), scored(monkeypatch, BEST)
        results = run(recipe(seeds=2), tmp_path / "chosen", words)
        assert [name for name, _ in seen[:4]] == ["y-data=0.1,h=10", BEST, "y-data=1,h=10", "y-data=1,h=100"]
        assert [len(rows) for _, rows in seen] == [40] * 6
        by_hand = recipe(
            seeds=2, choices={}, objective=transfer(["h[*]:vid@100"], task_weight=0.1),
            baselines={"kd": Baseline(transfer(["y:kd"], task_weight=0.1), learning_rate=1e-3)},
        )  # fmt: skip
        run(by_hand, tmp_path / "by hand")
        mine, expected = (hashes(tmp_path / name / "students") for name in ("chosen", "by hand"))
        assert {name: mine[name] for name in expected} == expected
        chosen = {result.method: result.settings for result in results.results if result.seed == 1}
        assert chosen["vid"]["weight of y|data"] == 0.1
        assert chosen["vid"]["weight of h[*]"] == 100.0
        assert "weight of h[*]" not in chosen["scratch"]
        told = [note for note in results.notes if note.startswith(("vid: ", "Weights were chosen"))]
        assert "y|data = 0.1, h[*] = 100, of 4 candidates (y|data = 0.1, h[*] = 10: 1; y|data = 0.1, h" in told[1]
        assert "error rate" in told[0]
        assert "20% of the rows" in told[0]
        assert "40 rows" in told[0]
        assert "scratch had nothing to choose" in told[0]
        assert words.expected == words.total == FEW.steps * (1 + 4 + 2 + 2 * 3)

    def test_the_best_score_of_real_models_wins(self, tmp_path: Path) -> None:
        words = Recorder()
        results = run(recipe(), tmp_path / "run", words)
        folders = sorted(path.name for path in (tmp_path / "run/choices/vid").iterdir())
        assert folders == sorted(candidate.slug for candidate in candidates(recipe().choices))
        scores = {
            name: json.loads((tmp_path / "run/choices/vid" / name / "score.json").read_text()) for name in folders
        }
        assert not list((tmp_path / "run/choices").rglob("*.ckpt"))
        best = min(folders, key=lambda name: scores[name]["result"]["score"])
        settings = next(result.settings for result in results.results if result.method == "vid")
        assert best == Candidate({"y|data": settings["weight of y|data"], "h[*]": settings["weight of h[*]"]}).slug
        assert sum("on 40 held-out rows" in text for text in words.messages) == 6

    def test_a_choice_is_made_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = run(recipe(), tmp_path / "run")
        monkeypatch.setattr(fit, "fit", lambda *_, **__: pytest.fail("trained again"))
        monkeypatch.setattr(ClassifierEvaluation, "score", lambda *_: pytest.fail("measured again"))
        words = Recorder()
        again = run(recipe(), tmp_path / "run", words)
        assert again.notes == first.notes
        assert words.expected == words.total
        # Models of candidates that are gone are not needed again.
        for path in (tmp_path / "run/choices").rglob("model.safetensors"):
            path.unlink()
        assert run(recipe(), tmp_path / "run").notes == first.notes

    def test_candidates_learn_and_are_scored_on_rows_of_their_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is held out is a part of what the first seed's students see, and no candidate learns it."""
        from limbeck.engine.experiments import training_stage

        learned: dict[str, torch.Tensor] = {}
        train = training_stage.fit

        def watching(model: DGM, *rest: Any, **given: Any) -> Any:
            learned[given["label"]] = given["data"].x.flatten(1)
            return train(model, *rest, **given)

        monkeypatch.setattr(training_stage, "fit", watching)
        seen = scored(monkeypatch, BEST)
        run(recipe(seeds=2), tmp_path / "run")
        students = {tuple(row.tolist()) for row in learned["vid, seed 0"]}
        for _, held_out in seen:
            assert held_out.y.bincount().tolist() == [4] * 10
            assert {tuple(row.tolist()) for row in held_out.x.flatten(1)} <= students
        parts = [rows for label, rows in learned.items() if "=" in label]
        assert len(parts) == 6
        for rows in parts:
            assert len(rows) == 160
            own = {tuple(row.tolist()) for row in rows}
            assert own <= students
            assert not own & {tuple(row.tolist()) for row in seen[0][1].x.flatten(1)}

    def test_one_that_diverges_is_not_chosen(self, tmp_path: Path) -> None:
        choices = {LEARNING_RATE: [1e30, 1e-3]}
        words = Recorder()
        plain = {"objective": transfer([]), "method": "plain", "baselines": {}, "choices": choices}
        training = dataclasses.replace(FEW, optimizer="sgd", steps=6)
        results = run(recipe(training=training, **plain), tmp_path / "run", words)
        student = next(result for result in results.results if result.method == "plain")
        assert student.settings["learning_rate"] == 1e-3
        assert any("non-finite" in text for text in words.messages)
        with pytest.raises(RecipeError, match="none of the 1 candidates"):
            run(recipe(training=training, **plain | {"choices": {LEARNING_RATE: [1e30]}}), tmp_path / "none")
        with pytest.raises(NonFiniteLossError):
            run(recipe(training=dataclasses.replace(training, learning_rate=1e30), **plain | {"choices": {}}),
                tmp_path / "not chosen")  # fmt: skip

    def test_a_rehearsal_chooses_too(self, tmp_path: Path) -> None:
        results = run(recipe().dry(), tmp_path / "run")
        assert {result.method for result in results.results} == {"teacher", "vid", "kd", "scratch"}

    def test_workers_of_a_sweep_share_the_candidates(self, tmp_path: Path) -> None:
        """Workers share the candidates, and the point finds them."""
        shared = SharedStages(tmp_path / "stages")
        for method in (None, "vid"):
            Experiment(
                recipe(), resolved="", name="digits", directory=tmp_path / "run", cache=tmp_path / "cache", command="",
                progress=Progress(), shared=shared,
            ).train(method)  # fmt: skip
        before = sum(1 for _ in (tmp_path / "stages").glob("training-*"))
        assert before == 1 + 4 + 1
        run(recipe(), tmp_path / "run", shared=shared)
        # kd's two candidates, kd and scratch.
        assert sum(1 for _ in (tmp_path / "stages").glob("training-*")) == before + 2 + 2

    def test_a_cached_teacher_leads_to_the_same_choice(self, tmp_path: Path) -> None:
        """Candidates find their rows among all; the students are the same as without."""
        results = [
            run(recipe(teacher_cache=cache), tmp_path / name)
            for name, cache in (("with", TeacherCache()), ("without", None))
        ]
        assert hashes(tmp_path / "with") == hashes(tmp_path / "without")
        assert results[0].notes == results[1].notes
        assert len(list((tmp_path / "cache/teachers").iterdir())) == 1


class TestPlan:
    def test_steps_and_keys(self) -> None:
        first, second = plan([Point("a", (), recipe(), "", ""), Point("b", (), recipe(choices={}), "", "")])
        assert {(part.point, part.method, part.steps) for part in [*first, *second]} == {
            (0, None, 3), (0, "vid", 15), (0, "kd", 9), (0, "scratch", 3), (1, "vid", 3),
        }  # fmt: skip

    def test_a_choice_made_is_as_good_as_no_choice(self) -> None:
        chosen = with_candidate(recipe(), "vid", Candidate({"y|data": 0.1, "h[*]": 10.0}))
        by_hand = recipe(choices={}, objective=transfer(["h[*]:vid@10"], task_weight=0.1))
        assert student_key(chosen, "vid", 0, "t", "r") == student_key(by_hand, "vid", 0, "t", "r")
        assert student_key(chosen, "vid", 0, "t", "r") != student_key(recipe(), "vid", 0, "t", "r")

    def test_a_learning_rate_is_its_methods_alone(self) -> None:
        for method in ("vid", "kd"):
            chosen = with_candidate(recipe(), method, Candidate({LEARNING_RATE: 0.5}))
            rates = {name: chosen.training_of(name).learning_rate for name in chosen.methods}
            assert rates == {name: 0.5 if name == method else 1e-3 for name in rates}
            assert not chosen.methods[method].choices


class TestRefused:
    def test_a_learning_rate_that_is_none_names_its_method(self) -> None:
        baseline = dataclasses.replace(recipe().baselines["kd"], learning_rate=-1.0)
        with pytest.raises(RecipeError, match=r"baselines\.kd: learning_rate must be positive, not -1"):
            recipe(baselines={"kd": baseline})

    @pytest.mark.parametrize(
        ("choices", "words"),
        [
            ({"h[0]": [1.0]}, r"'vid', choices: .*did you mean 'h\[\*\]'"),
            ({"h[*]": []}, "numbers from 0 on"),
            ({"h[*]": [-1.0]}, "numbers from 0 on"),
            ({"h[*]": [math.nan]}, "numbers from 0 on"),
            ({"h[*]": [1.0, 1.0]}, "must differ"),
            ({LEARNING_RATE: [0.0]}, "must differ, and learning rates be positive"),
        ],
    )
    def test_impossible_choices_are_refused(self, choices: dict[str, list[float]], words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            recipe(choices=choices)

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
    def test_an_impossible_share_is_refused(self, share: float) -> None:
        with pytest.raises(RecipeError, match="choice_share"):
            recipe(choice_share=share)

    def test_choosing_needs_data(self) -> None:
        with pytest.raises(RecipeError, match="no data"):
            Recipe("", Tiny(), Tiny(), Objective([Match("y")]), Quick(), choices={"y": [1.0]}, teacher_training=None)

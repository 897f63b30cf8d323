"""What is logged beside the loss and not minimised, and what learned divergences leave behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.core.loss import Batch, Loss
from limbeck.core.methods import transfer
from limbeck.core.objective import Combined, Match, Objective
from limbeck.core.objective.fitted import FittedDivergences
from limbeck.engine.experiments.training_stage import TrainingStage
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.progress import Progress
from limbeck.engine.training import checkpoints
from limbeck.engine.training.fit import Fitted, fit
from limbeck.engine.training.history import History
from limbeck.engine.training.variances import learned_variances
from limbeck.models import MLPClassifier
from tests.tiny import LearnedScale, built, counted, in_child

NAMES = ["information/h[0]", "information/h[1]"]


def classifier(seed: int, widths: tuple[int, int]) -> MLPClassifier:
    found = built(MLPClassifier, seed, inputs=6, classes=3, widths=list(widths))
    assert isinstance(found, MLPClassifier)
    return found


def rows() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randint(3, (24,), generator=generator), torch.rand(24, 6, generator=generator))


def vid() -> Objective:
    return transfer(["h[*]:vid@1"])


def options(**changes: Any) -> Training:
    return Training(**{"steps": 10, "batch_size": 8, "learning_rate": 0.01, "log_every": 4} | changes)


def trained(objective: Objective, *, directory: Path | None = None, **changes: Any) -> Fitted:
    teacher, student = classifier(0, (5, 4)).eval(), classifier(1, (3, 4))
    return fit(student, objective, options(**changes), teacher=teacher, data=rows(), directory=directory)


def timeless(history: History) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history.rows]


class TestHistory:
    def test_columns(self, tmp_path: Path) -> None:
        history = trained(vid()).history
        assert history.columns[-4:] == ["learning_rate", "seconds", *NAMES]
        assert history.observed == NAMES
        for row in history.rows:
            terms = {name: value for name, value in row.items() if "|data" in name or "vid" in name}
            assert len(terms) >= 2
            assert row["total"] == pytest.approx(sum(terms.values()), rel=1e-6)
        history.write(tmp_path / "history.csv")
        again = History.read(tmp_path / "history.csv")
        assert (again.columns, again.observed) == (history.columns, history.observed)

    def test_means_of_their_steps(self) -> None:
        one, four = (trained(vid(), steps=8, log_every=every).history.rows for every in (1, 4))
        for name in NAMES:
            means = [sum(row[name] for row in one[start : start + 4]) / 4 for start in (0, 4)]
            assert [row[name] for row in four] == pytest.approx(means, rel=1e-4)

    def test_logging_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = trained(vid()).history
        monkeypatch.setattr(FittedDivergences, "observed", lambda self: {})
        unseen = trained(vid()).history
        assert not unseen.observed
        assert [row["total"] for row in unseen.rows] == [row["total"] for row in seen.rows]
        assert unseen.columns == [name for name in seen.columns if name not in NAMES]

    def test_continued(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted() -> None:
            monkeypatch.setattr(Objective, "forward", counted(Objective.forward, 7))
            trained(vid(), directory=tmp_path, checkpoint_every=3)

        assert in_child(interrupted) == -9
        assert list(tmp_path.glob(checkpoints.LAST))
        found = trained(vid(), directory=tmp_path, checkpoint_every=3)
        assert found.resumed_at == 6
        expected = trained(vid(), checkpoint_every=3).history
        assert timeless(found.history) == timeless(expected)
        assert found.history.columns == expected.columns

    def test_a_loss_of_ones_own(self) -> None:
        """Any objective can show something; also one whose names come and go."""

        class Shown(Objective):
            def forward(self, *rest: Any, **given: Any) -> Loss:
                loss = super().forward(*rest, **given)
                return Loss.of(loss.terms, {"share/even": torch.tensor(2.0 * given["progress"])})

        history = trained(Shown([Match("y")])).history
        assert history.observed == ["share/even"]
        assert history.rows[0]["share/even"] == pytest.approx(2 * (0 + 0.1 + 0.2 + 0.3) / 4)


class TestVariances:
    def test_of_a_stage(self, tmp_path: Path) -> None:
        objective = vid()
        teacher, student = classifier(0, (5, 4)).eval(), classifier(1, (3, 4))
        stage = TrainingStage(
            student, objective, options(), TrainerOptions(), 0, "vid", "key", teacher=teacher, rows=rows()
        )
        stage.run(tmp_path, Progress())
        found = json.loads((tmp_path / "variances.json").read_text())
        assert {site: len(values) for site, values in found.items()} == {"h[0]": 5, "h[1]": 4}
        for index, values in enumerate(found.values()):
            assert values == sorted(values, reverse=True)
            module: Any = list(objective.learned.values())[index]
            assert values == pytest.approx(sorted(module.variances.tolist(), reverse=True), rel=1e-6)
            assert any(abs(value - 5.0) > 1e-3 for value in values)  # they have moved from where [V] starts them

    def test_none_where_none_are_learned(self, tmp_path: Path) -> None:
        objective = Objective([Match("y", divergence=LearnedScale())])
        assert learned_variances(objective) == {}

    def test_several_of_one_site(self) -> None:
        """Of parts of a combination, and of two matches."""
        teacher, student = classifier(0, (5, 4)).eval(), classifier(1, (3, 4))
        objective = Combined({"a": transfer(["h[0]:vid", "h[0]:vid(layers=1)"]), "b": vid()}, {"a": 1.0, "b": 1.0})
        for part in objective.objectives.values():
            part.prepare(teacher, student, rows().x)
        assert sorted(learned_variances(objective)) == ["h[0]", "h[0] (2)", "h[0] (3)", "h[1]"]

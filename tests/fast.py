"""An evaluation of classifiers that costs nothing, for tests of what happens around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limbeck.core.graph import DGM
from limbeck.engine.evaluations.classifiers.classifier_evaluation import ClassifierEvaluation
from limbeck.engine.evaluations.evaluation import Judge, Subject


class Fast(ClassifierEvaluation):
    """Draws no diagrams."""

    def judge(self, dataset: Any, teacher: DGM, cache: Path, seed: int, progress: Any) -> Any:
        return FastJudge()


class FastJudge(Judge):
    def __init__(self) -> None:
        self.references, self.notes, self.reference_key, self.seed = {}, [], "", 0

    def measure(self, subject: Subject) -> dict[str, float]:
        return {"accuracy": float(len(list(subject.model.parameters())))}

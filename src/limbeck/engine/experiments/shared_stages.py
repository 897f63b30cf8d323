"""Stages that several runs have in common, such as one teacher for all points of a sweep: each is done once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from limbeck.core.graph import DGM
from limbeck.engine.experiments.training_stage import TrainingStage
from limbeck.engine.stages.locking import locked
from limbeck.engine.stages.progress import LoggedProgress, Progress
from limbeck.engine.stages.stage import Stage
from limbeck.engine.training.checkpoints import LAST, NEXT, PREVIOUS
from limbeck.files import link_or_copy

__all__ = ["SharedStages"]

_LOG = "log.txt"
# Files that belong to the work in progress and not to its result.
_NOT_RESULTS = frozenset({_LOG, LAST, NEXT, PREVIOUS, "training.json", "evaluation.json"})


class SharedStages:
    """A directory of stages, named by their fingerprints, from which any run takes what it needs.

    Each stage is done in its own folder, ``<name>-<key>``, under a lock: of several processes that need it, one does it
    and the others wait for the result. A run takes the files as hard links where the file system supports them. Links
    need no space and stay valid when the shared folder is deleted. Files are replaced as a whole and never written
    into, so that a change in one place does not reach the other.

    Args:
        directory: where the folders are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def train(self, stage: TrainingStage, progress: Progress, into: Path | None = None) -> tuple[DGM, dict[str, Any]]:
        """Train the model of a stage, or take it if another process has trained it.

        Args:
            stage: what to train.
            progress: receives steps, losses and warnings; the folder's ``log.txt`` keeps them too.
            into: a run's directory for the model, which gets the files and the record; ``None`` for the model alone.

        Returns:
            The finished model in eval mode, and what was measured while it was trained.
        """
        folder = self._folder("training", stage.key)
        with locked(folder, wait=True):
            model, values = stage.run(folder, LoggedProgress(progress, folder / _LOG))
            if into is not None:
                record = stage.record(into)
                record.begin(progress)
                self._take(folder, record, values)
        return model, values

    def measure(self, record: Stage, measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Do an evaluation, or take its result if another process has done it.

        Args:
            record: the evaluation of a run; its directory gets the pictures and the record.
            measure: does the evaluation, given the directory for pictures.

        Returns:
            What was measured.
        """
        folder = self._folder(record.path.stem, record.key)
        with locked(folder, wait=True):
            shared = Stage(folder, record.path.stem, record.key)
            values = shared.result
            if values is None:
                values = measure(folder)
                shared.finish(values)
            self._take(folder, record, values)
        return values

    def _folder(self, name: str, key: str) -> Path:
        return self.directory / f"{name}-{key}"

    def _take(self, folder: Path, record: Stage, values: dict[str, Any]) -> None:
        """Take the files first and write the record last: files without a record do not count."""
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.name not in _NOT_RESULTS and not file.name.startswith("."):
                link_or_copy(file, record.directory / file.name)
        record.finish(values)

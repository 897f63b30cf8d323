"""Stages that several runs have in common, such as one teacher for all points of a sweep: each is done once."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limbeck.core.graph import DGM
from limbeck.engine.experiments.training_stage import TrainingStage
from limbeck.engine.stages.locking import locked
from limbeck.engine.stages.progress import LoggedProgress, Progress
from limbeck.engine.stages.stage import Stage
from limbeck.engine.training.checkpoints import LAST, PREVIOUS
from limbeck.files import atomic_write_bytes, storage_error

__all__ = ["SharedStages"]

_LOG = "log.txt"
# What belongs to the work in progress rather than to its result.
_NOT_RESULTS = frozenset({_LOG, LAST, PREVIOUS, "next.ckpt", "training.json", "evaluation.json"})


class SharedStages:
    """A directory of stages keyed by their fingerprints, from which any run takes what it needs.

    A stage is done in its own folder, ``<name>-<key>``, under a lock: of several processes that need it one does it,
    the others wait and take it. A run takes the files as hard links where the file system has them. They cost no space,
    stay when the shared folder is deleted, and since every file is replaced as a whole, never written into, a change in
    one place does not reach the other.

    Args:
        directory: where the folders are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def train(self, stage: TrainingStage, progress: Progress, into: Path | None = None) -> tuple[DGM, dict[str, Any]]:
        """The model of a stage, trained by whoever comes first.

        Args:
            stage: what to train.
            progress: told steps, losses and warnings; the folder's ``log.txt`` keeps them.
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
        """The result of an evaluation, done by whoever comes first.

        Args:
            record: the evaluation of a run; its directory gets the pictures and the record.
            measure: does it, given the directory for pictures.

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
        """Files first, the record last: without it they do not count."""
        for source in sorted(folder.iterdir()):
            if source.is_file() and source.name not in _NOT_RESULTS and not source.name.startswith("."):
                _link(source, record.directory / source.name)
        record.finish(values)


def _link(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, or a copy of it, at once and as a whole."""
    temporary = target.parent / f".limbeck-{secrets.token_hex(8)}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.samefile(source):
            return
        try:
            os.link(source, temporary)
            os.replace(temporary, target)
        except OSError:  # no hard links here, or too many of them
            with contextlib.suppress(OSError):
                temporary.unlink()
            atomic_write_bytes(target, source.read_bytes())
    except OSError as error:
        raise storage_error(target, error) from None

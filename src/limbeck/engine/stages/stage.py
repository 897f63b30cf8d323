"""Stages of a run: each is keyed by a fingerprint of what it depends on, done once, and never half visible."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from limbeck.core.storage import CONFIG, WEIGHTS
from limbeck.engine.stages.environment import is_main_process
from limbeck.engine.stages.locking import locked
from limbeck.engine.stages.progress import Progress
from limbeck.errors import StorageError
from limbeck.files import atomic_write_text, remove_temporary_files, storage_error

__all__ = ["Stage"]


class Stage:
    """One step of a run with its own record, ``<name>.json`` in its directory.

    Args:
        directory: where the stage's results are.
        name: name of the record, e.g. ``"training"``.
        key: fingerprint of what the stage depends on.
        lasting: folders in the directory that are of use to results of any key, and so are not moved aside with them.
    """

    def __init__(self, directory: Path, name: str, key: str, lasting: Sequence[str] = ()) -> None:
        self.directory = directory
        self.path = directory / f"{name}.json"
        self.key = key
        self.lasting = lasting

    @property
    def result(self) -> dict[str, Any] | None:
        """What the finished stage recorded; ``None`` if it has not finished, or not for this key."""
        record = self._record()
        return record["result"] if record.get("key") == self.key and record.get("finished") else None

    @property
    def begun(self) -> bool:
        """Whether a partial result for this key may be in the directory."""
        return self._record().get("key") == self.key

    def begin(self, progress: Progress) -> None:
        """Claim the directory; results for another key are moved aside, not deleted, and those for this key back.

        Of several processes the main one does it, and the others wait for it. Ask for the result afterwards: it may be
        there now.

        Raises:
            StorageError: the directory cannot be written.
        """
        if not is_main_process():
            return self._wait()
        try:
            if not self.begun and any((self.directory / name).exists() for name in (self.path.name, CONFIG, WEIGHTS)):
                progress.message(f"{self.directory} was made by other settings; {self._make_room()}.")
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.directory, error) from None
        remove_temporary_files(self.directory)
        if not self.begun:
            self._write(finished=False, result={})
        return None

    @contextlib.contextmanager
    def held(self, progress: Progress) -> Iterator[None]:
        """Begin, and hold the directory against other processes.

        Raises:
            StorageError: another process holds it, or it cannot be written.
        """
        while is_main_process():
            with locked(self.directory):
                if self.begun:
                    yield
                    return
                self.begin(progress)  # which may move the directory, and the lock with it: it is taken once more
        self.begin(progress)
        yield

    def reopen(self) -> None:
        """Take the result back: what was made can no longer be read, and must be made again.

        Raises:
            StorageError: the record cannot be written.
        """
        if is_main_process():
            self._write(finished=False, result={})

    def _make_room(self) -> str:
        """Move aside what other settings made, put back what these made before; what was done, to be told."""
        former, aside = self._former(), self._move_aside()
        if former is None:
            self.directory.mkdir(exist_ok=True)
        else:
            former.rename(self.directory)
        for name in self.lasting:
            if (aside / name).exists() and not (self.directory / name).exists():
                (aside / name).rename(self.directory / name)
        back = "" if former is None else f", and {former.name}, which these settings made before, is back"
        return f"it is kept as {aside.name}{back}"

    def _former(self) -> Path | None:
        """What was made for this key and moved aside for another: finished, or else begun."""
        directory = self.directory.resolve()
        found = sorted(directory.parent.glob(f"{glob.escape(directory.name)}.replaced-{self.key}*"))
        records = [Stage(path, self.path.stem, self.key) for path in found]
        begun = [record.directory for record in records if record.begun]
        return next((record.directory for record in records if record.result is not None), begun[0] if begun else None)

    def _move_aside(self) -> Path:
        directory = self.directory.resolve()
        if Path.cwd().is_relative_to(directory):
            raise StorageError(
                f"{directory} holds another model and is the working directory; choose another directory"
            )
        aside = directory.with_name(f"{directory.name}.replaced-{self._record().get('key', 'unknown')}")
        count = 1
        while aside.exists():
            count += 1
            aside = aside.with_name(f"{aside.name.split('~')[0]}~{count}")
        return directory.rename(aside)

    def _wait(self) -> None:
        """The main process may still be measuring the model before. If it dies, there is nothing to wait for."""
        parent = os.getppid()
        while not self.begun:
            if os.getppid() != parent:
                raise StorageError(f"the main process ended before it began {self.directory}")
            time.sleep(0.1)

    def finish(self, result: dict[str, Any]) -> None:
        """Record the result; from now on the stage is not repeated.

        Raises:
            StorageError: the record cannot be written.
        """
        self._write(finished=True, result=result)

    def _write(self, *, finished: bool, result: dict[str, Any]) -> None:
        record = {"key": self.key, "finished": finished, "result": result}
        atomic_write_text(self.path, json.dumps(record, indent=2) + "\n")

    def _record(self) -> dict[str, Any]:
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

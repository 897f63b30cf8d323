"""Stages of a run: each has a fingerprint of what it depends on, is done once, and is visible only when complete."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from limbeck.core.storage import CONFIG, WEIGHTS
from limbeck.engine.stages.locking import LOCK, behind_link, locked
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.ranks import is_main_process
from limbeck.errors import StorageError
from limbeck.files import atomic_write_text, remove_temporary_files, storage_error

__all__ = ["Stage"]


class Stage:
    """One step of a run with its own record, ``<name>.json`` in its directory.

    Args:
        directory: where the stage's results are.
        name: name of the record, e.g. ``"training"``.
        key: fingerprint of what the stage depends on.
        lasting: folders in the directory that are useful for any key and so are not moved aside with the results.
    """

    def __init__(self, directory: Path, name: str, key: str, lasting: Sequence[str] = ()) -> None:
        self.directory = behind_link(directory)
        self.path = self.directory / f"{name}.json"
        self.key = key
        self.lasting = lasting

    @property
    def result(self) -> dict[str, Any] | None:
        """What the finished stage recorded; ``None`` if the stage has not finished for this key."""
        record = self._record()
        return record["result"] if record.get("key") == self.key and record.get("finished") else None

    @property
    def begun(self) -> bool:
        """Whether the directory may have a partial result for this key."""
        return self._record().get("key") == self.key

    def begin(self, progress: Progress) -> None:
        """Claim the directory: results for another key are moved aside, and former results for this key moved back.

        The main process does this, and the others wait for it. Read :attr:`result` afterwards: it may be there now.

        Args:
            progress: receives what was moved.

        Raises:
            StorageError: the directory cannot be written.
        """
        if not is_main_process():
            return self._wait()
        try:
            if not self.begun and any((self.directory / name).exists() for name in (self.path.name, CONFIG, WEIGHTS)):
                progress.message(f"{self.directory} was made by other settings; {self._make_room()}")
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
                self.begin(progress)  # may move the directory together with its lock, which is then taken once more
        self.begin(progress)
        yield

    @contextlib.contextmanager
    def restored_on_failure(self, kept: Collection[str], progress: Progress) -> Iterator[None]:
        """Begin in the block; if it fails with nothing worth keeping, the results that were moved aside come back.

        Otherwise a mistake in a command would dismantle finished work before it is told of.

        Args:
            kept: names of files of which any is worth keeping: the work can be continued from them.
            progress: receives what came back.
        """
        before, former = None, None
        if is_main_process() and not self.begun and self.directory.is_dir():
            before, former = self.directory.stat(), self._former()
        try:
            yield
        except Exception:
            if before is not None and not any((self.directory / name).exists() for name in kept):
                self._restore(before, former, progress)
            raise

    def _restore(self, before: os.stat_result, former: Path | None, progress: Progress) -> None:
        """Put back the directory that was moved aside, told by its identity, and the one that took its place."""
        directory = self.directory.resolve()
        pattern = f"{glob.escape(directory.name)}.replaced-*"
        aside = next((path for path in directory.parent.glob(pattern) if os.path.samestat(path.stat(), before)), None)
        if aside is None:
            return
        for name in self.lasting:
            if (directory / name).exists() and not (aside / name).exists():
                (directory / name).rename(aside / name)
        if former is not None:
            directory.rename(former)
        elif {path.name for path in directory.iterdir()} <= {self.path.name, LOCK}:
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()
        else:
            self._move_aside()
        aside.rename(directory)
        progress.message(f"{self.directory} is as it was before")

    def reopen(self) -> None:
        """Withdraw the result: its files can no longer be read and must be made again.

        Raises:
            StorageError: the record cannot be written.
        """
        if is_main_process():
            self._write(finished=False, result={})

    def _make_room(self) -> str:
        """Move the results of other settings aside and former results of these settings back; says what was done."""
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
        """The directory that was moved aside with a result for this key, preferably a finished one."""
        directory = self.directory.resolve()
        found = sorted(directory.parent.glob(f"{glob.escape(directory.name)}.replaced-{self.key}*"))
        stages = [stage for path in found if (stage := Stage(path, self.path.stem, self.key)).begun]
        finished = [stage for stage in stages if stage.result is not None]
        return next((stage.directory for stage in [*finished, *stages]), None)

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
        """Wait for the main process, which may still measure the model before, unless it has ended."""
        parent = os.getppid()
        while not self.begun:
            if os.getppid() != parent:
                raise StorageError(f"the main process ended before it began {self.directory}")
            time.sleep(0.1)

    def finish(self, result: dict[str, Any]) -> None:
        """Record the result; from then on the stage is not repeated.

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

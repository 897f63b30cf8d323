"""Stages of a run: each is keyed by a fingerprint of what it depends on, done once, and never half visible."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import functools
import hashlib
import inspect
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

import limbeck
from limbeck.core.combination import Combined
from limbeck.core.graph import DGM
from limbeck.core.objective import Objective
from limbeck.core.storage import CONFIG, WEIGHTS
from limbeck.engine.environment import is_main_process
from limbeck.engine.progress import Progress
from limbeck.errors import StorageError
from limbeck.files import atomic_write_text, remove_temporary_files, storage_error

__all__ = ["Stage", "describe_model", "describe_objective", "fingerprint", "locked", "weights_fingerprint"]


def fingerprint(**parts: Any) -> str:
    """Sixteen hexadecimal digits that change when any part does.

    Args:
        parts: JSON values and dataclasses of them.

    Example:
        >>> fingerprint(a=1) == fingerprint(a=1), fingerprint(a=1) == fingerprint(a=2)
        (True, False)
    """

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        raise TypeError(f"{value!r} cannot be part of a fingerprint")

    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe_model(model: DGM) -> dict[str, Any]:
    """Class, constructor arguments and code version of a model: what its weights depend on apart from training."""
    kind = type(model)
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "config": model.config,
        "code": hashlib.sha256("".join(_sources(kind, _parts(model))).encode()).hexdigest()[:16],
        "limbeck": limbeck.__version__,
    }


def _parts(model: DGM) -> set[str]:
    """Names of modules of the model's own library, or of one that it names, in which its parts are defined."""
    kinds = {type(part).__module__ for part in model.modules()}
    named = str(model.config.get("network", "")).partition(":")[0]  # a network that is built by name
    library = type(model).__module__.partition(".")[0]
    return {kind for kind in kinds if kind != "__main__" and (kind.partition(".")[0] == library or kind == named)}


def _sources(kind: type, parts: Iterable[str] = ()) -> list[str]:
    """The code of a model: of its module and its parts', and of modules beside these in their package that they use."""
    module = sys.modules.get(kind.__module__)
    if module is None or kind.__module__ == "__main__":
        return [_source(kind)]
    found = {module.__name__: module, **{name: sys.modules[name] for name in parts}}
    waiting = list(found.values())
    while waiting:
        current = waiting.pop()
        package = current.__name__.rpartition(".")[0]
        for value in vars(current).values() if package else ():
            name = getattr(value, "__module__", None)
            if isinstance(name, str) and name not in found and name.rpartition(".")[0] == package:
                found[name] = sys.modules[name]
                waiting.append(found[name])
    return [_source(found[name]) for name in sorted(found)]


def _source(of: type | ModuleType) -> str:
    try:
        return inspect.getsource(of)
    except (OSError, TypeError):  # defined at an interactive prompt
        return ""


def describe_objective(objective: Objective) -> Any:
    """Coupling, matches and weights as plain values, the same in every process."""
    if isinstance(objective, Combined):
        parts = {name: describe_objective(part) for name, part in objective.objectives.items()}
        return {"parts": parts, "weights": _describe(objective.weights)}
    found = {
        "coupling": _describe(objective.coupling),
        "matches": [_describe(match) for match in objective.matches],
        "weight": objective.weight,
        "train_weight": objective.train_weight,
        "replay": [objective.replay_weight, objective.replay],
    }
    if type(objective) is not Objective:  # one with a loss and settings of its own
        own = {name: value for name, value in vars(objective).items() if isinstance(value, bool | int | float | str)}
        plain = {name: value for name, value in own.items() if not name.startswith("_") and name != "training"}
        found |= {"class": f"{type(objective).__module__}.{type(objective).__qualname__}", "settings": plain}
    return found


def _describe(value: Any) -> Any:
    if isinstance(value, functools.partial):
        return {"partial": _describe(value.func), "args": _describe(value.args), "keywords": _describe(value.keywords)}
    if isinstance(value, nn.Module):
        return {"module": f"{type(value).__module__}.{value!r}", "weights": weights_fingerprint(value)}
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        told = [field.name for field in dataclasses.fields(value) if field.metadata.get("fingerprint", True)]
        return {"class": kind, **{name: _describe(getattr(value, name)) for name in told}}
    if isinstance(value, Mapping):
        return {str(key): _describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(item) for item in value]
    if callable(value):
        return _describe_callable(value)
    return value


def _describe_callable(value: Any) -> Any:
    """By name and, since two of one name can differ, by code, defaults and what they enclose."""
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    if isinstance(value, FunctionType):
        enclosed = [_describe(cell.cell_contents) for cell in value.__closure__ or ()]
        given = [_describe(value.__defaults__), _describe(value.__kwdefaults__)]
        # The library's own code is told by its version; a user's may change from one run to the next.
        own = name.startswith("limbeck.")
        code = limbeck.__version__ if own else hashlib.sha256(repr(_code(value.__code__)).encode()).hexdigest()[:16]
        return {"function": name, "code": code, "enclosed": enclosed, "defaults": given}
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return name
    return {"object": name, "attributes": _describe(vars(value))}


def _code(code: CodeType) -> list[Any]:
    constants = [_code(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]


def weights_fingerprint(model: nn.Module) -> str:
    """Hash of every weight and buffer, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class Stage:
    """One step of a run with its own record, ``<name>.json`` in its directory.

    Args:
        directory: where the stage's results are.
        name: name of the record, e.g. ``"training"``.
        key: fingerprint of what the stage depends on.
    """

    def __init__(self, directory: Path, name: str, key: str) -> None:
        self.directory = directory
        self.path = directory / f"{name}.json"
        self.key = key

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
        """Claim the directory; results for another key are moved aside, not deleted.

        Of several processes the main one does it, and the others wait for it.

        Raises:
            StorageError: the directory cannot be written.
        """
        if not is_main_process():
            return self._wait()
        try:
            if not self.begun and any((self.directory / name).exists() for name in (self.path.name, CONFIG, WEIGHTS)):
                aside = self._move_aside()
                progress.message(f"{self.directory} was made by other settings; it is kept as {aside.name}.")
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.directory, error) from None
        remove_temporary_files(self.directory)
        if not self.begun:
            self._write(finished=False, result={})
        return None

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


@contextlib.contextmanager
def locked(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a directory, so that two processes never write into it at once. The lock dies with the process.

    Args:
        directory: made if missing.
        wait: whether to wait for another process that holds it, rather than to refuse.

    Raises:
        StorageError: another process holds it, or the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = (directory / ".lock").open("w")
    except OSError as error:
        raise storage_error(directory, error) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise storage_error(directory, error) from None
            raise StorageError(
                f"another process is working in {directory}; wait for it, or choose another --name"
            ) from None
        yield

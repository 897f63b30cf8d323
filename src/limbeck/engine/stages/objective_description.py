"""An objective as plain values for fingerprints: what is compared, how and with which weights."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping
from enum import Enum
from types import BuiltinFunctionType, FunctionType
from typing import Any

from torch import Tensor, nn

import limbeck
from limbeck.core.objective import Combined, Objective
from limbeck.engine.stages.fingerprints import describe_tensor, weights_fingerprint
from limbeck.engine.stages.script_code import code_values, own_code
from limbeck.names import public_name

__all__ = ["PLAIN", "describe_objective", "describe_value", "plain_attributes"]

PLAIN = (bool, int, float, str)
"""Types of values that are written down as they are."""


def describe_objective(objective: Objective) -> Any:
    """Coupling, matches and weights as plain values, the same in every process."""
    if isinstance(objective, Combined):
        parts = {name: describe_objective(part) for name, part in objective.objectives.items()}
        return {"parts": parts, "weights": describe_value(objective.weights)}
    found = {
        "coupling": describe_value(objective.coupling),
        "matches": [describe_value(match) for match in objective.matches],
        "weight": objective.weight,
        "train_weight": objective.train_weight,
        "replay": [objective.replay_weight, objective.replay],
    }
    if type(objective) is not Objective:  # a subclass with its own loss and settings
        own = plain_attributes(objective)
        plain = {name: value for name, value in own.items() if not name.startswith("_")}
        found |= {"class": public_name(type(objective)), "settings": plain, **_own(objective)}
    return found


def describe_value(value: Any) -> Any:
    """A setting as plain values: a module or a tensor by its numbers, a function by its code.

    The names of the entries are part of the keys of finished work, and so must not change.
    """
    if isinstance(value, functools.partial):
        return {
            "partial": describe_value(value.func),
            "args": describe_value(value.args),
            "keywords": describe_value(value.keywords),
        }
    if isinstance(value, nn.Module):
        told = {"module": public_name(type(value)), "told": repr(value), "weights": weights_fingerprint(value)}
        own = _own(*value.modules())
        # What the user's own module says of itself need not name all that it was constructed with.
        return {**told, **own, "settings": [_settings(part) for part in value.modules()]} if own else told
    if isinstance(value, Tensor):
        return describe_tensor(value)
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.metadata.get("fingerprint", True)]
        settings = {name: describe_value(getattr(value, name)) for name in names}
        return {"class": public_name(type(value)), **settings, **_own(value)}
    if isinstance(value, Mapping):
        return {str(key): describe_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe_value(item) for item in value]
    if callable(value):
        return _describe_callable(value)
    return value


def _describe_callable(value: Any) -> Any:
    """A callable by its name and, because two of the same name can differ, by code, defaults and enclosed values."""
    name = public_name(value)
    if isinstance(value, FunctionType):
        enclosed = [describe_value(cell.cell_contents) for cell in value.__closure__ or ()]
        given = [describe_value(value.__defaults__), describe_value(value.__kwdefaults__)]
        # The version identifies the library's own code; a user's code may change from one run to the next.
        own = name.startswith("limbeck.")
        code = limbeck.__version__ if own else _code_hash(value)
        return {"function": name, "code": code, "enclosed": enclosed, "defaults": given, **_own(value)}
    told: Any = name
    if not isinstance(value, type) and hasattr(value, "__dict__"):
        told = {"object": name, "attributes": describe_value(vars(value))}
    user_code = _own(value)
    return {"callable": told, **user_code} if user_code else told


def _own(*values: Any) -> dict[str, str]:
    """The entry for the user's own code behind values; none for code that a version identifies."""
    found = own_code(*values)
    return {} if found is None else {"own_code": found}


def _settings(part: nn.Module) -> dict[str, Any]:
    """What a module was constructed with, as far as its weights do not tell it."""
    kept = part.state_dict()
    unsaved = {name: buffer for name, buffer in part.named_buffers(recurse=False) if name not in kept}
    functions = {name: told for name, item in vars(part).items() if (told := _function(item))}
    return plain_attributes(part) | {name: describe_tensor(buffer) for name, buffer in unsaved.items()} | functions


def _function(value: Any) -> list[Any]:
    """A function by its name and code; nothing of what is none. What it encloses may be the module that has it."""
    if isinstance(value, functools.partial):
        given = [*value.args, *(item for pair in sorted(value.keywords.items()) for item in pair)]
        return [*_function(value.func), *(item for item in given if isinstance(item, PLAIN))]
    if isinstance(value, BuiltinFunctionType):
        return [value.__name__]
    return [public_name(value), _code_hash(value)] if isinstance(value, FunctionType) else []


def _code_hash(function: FunctionType) -> str:
    return hashlib.sha256(repr(code_values(function.__code__)).encode()).hexdigest()[:16]


def plain_attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object that are plain values, but for whether it is in training mode."""
    found = {name: item for name, item in vars(value).items() if isinstance(item, PLAIN)}
    return {name: item for name, item in found.items() if name != "training"}

"""A model as plain values for fingerprints: its class, constructor arguments and code, without its weights."""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

import limbeck
from limbeck.core.graph import DGM
from limbeck.engine.stages.fingerprints import fingerprint, weights_fingerprint
from limbeck.engine.stages.objective_description import PLAIN, describe_value, plain_attributes
from limbeck.engine.stages.script_code import SCRIPT, sources_behind
from limbeck.engine.stages.source_code import code_hash, is_own, source_text, sources_of
from limbeck.errors import ModelError
from limbeck.names import public_name

__all__ = ["describe_model", "model_key"]


def describe_model(model: DGM) -> dict[str, Any]:
    """Class, constructor arguments and code version of a model: what its weights depend on apart from training."""
    kind = type(model)
    return {
        "class": public_name(kind),
        "config": describe_value(model.config),
        "code": code_hash(_sources(model)),
        "limbeck": limbeck.__version__,
    }


def model_key(model: DGM) -> str:
    """Fingerprint of a finished model: class, constructor arguments, code and weights.

    Raises:
        ModelError: it has constructor arguments that have no fingerprint.
    """
    changed = _changed_arguments(model)
    try:
        return fingerprint(
            model=describe_model(model), weights=weights_fingerprint(model), **({"changed": changed} if changed else {})
        )
    except TypeError as error:
        raise ModelError(
            f"{type(model).__name__} has no fingerprint: of its constructor arguments, {error}; pass numbers, texts, "
            "lists, tensors or modules"
        ) from None


def _changed_arguments(model: DGM) -> dict[str, Any]:
    """Attributes that had the name and value of a constructor argument: ``model.steps = 4`` after ``Model(steps=8)``.

    An argument "auto" leaves the value to the model.
    """
    given = {name: value for name, value in model.config.items() if isinstance(value, PLAIN) and value != "auto"}
    return {name: own for name, own in plain_attributes(model).items() if name in given and own != given[name]}


def _sources(model: DGM) -> list[str]:
    """The code of a model: of its module, of its parts' modules, of the user's bases of both, and of helpers."""
    kind, modules = type(model), _parts(model)
    own = {kind.__module__.partition(".")[0], "limbeck"}
    classes = {type(part) for part in model.modules()}
    if kind.__module__ not in sys.modules:
        return [*(source_text(part, own) for part in classes if part.__module__ == kind.__module__),
                *sources_of(modules, own=own)]  # fmt: skip
    modules |= {kind.__module__} - {SCRIPT}
    return sources_behind([*classes, *_functions(model)], modules, own=own)


def _functions(model: DGM) -> list[Any]:
    """Functions that a model is made of: what builds its network, and what its parts were given."""
    module, _, name = str(model.config.get("network", "")).partition(":")
    given = [value for part in model.modules() for value in vars(part).values() if isinstance(value, FunctionType)]
    return [*given, *([getattr(sys.modules.get(module), name, None)] if name else [])]


def _parts(model: DGM) -> set[str]:
    """Modules in which the model's parts are defined: of its own library, the user's own, or that it is told to use."""
    kinds = {type(part).__module__ for part in model.modules()}
    named = str(model.config.get("network", "")).partition(":")[0]  # the module of a network that is built by name
    library = type(model).__module__.partition(".")[0]
    found = {kind for kind in kinds if kind != SCRIPT and (kind.partition(".")[0] == library or kind == named)}
    above = {base.__module__ for part in model.modules() for base in type(part).__mro__}
    return found | {module for module in above if is_own(module)}

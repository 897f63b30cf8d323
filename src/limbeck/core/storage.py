"""Saving and loading models as ``config.json`` + ``model.safetensors``: readable, portable, and never a pickle."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors

from limbeck.errors import ModelError
from limbeck.files import atomic_write_bytes
from limbeck.layouts import FOREIGN
from limbeck.names import public_name

if TYPE_CHECKING:
    from limbeck.core.graph import DGM

__all__ = ["CONFIG", "WEIGHTS", "load", "save", "written_config"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

_ROOMS = ("core", "models")
"""Rooms of the library whose modules a saved model may have imported: to import one does nothing else."""

Model = TypeVar("Model", bound="DGM")


def save(model: DGM, directory: str | Path) -> None:
    """Write a model's constructor arguments and weights.

    Each file is written aside and renamed, the weights last, so that a killed process leaves the old model or the new.

    Args:
        model: any model whose constructor arguments are JSON values.
        directory: created if missing.

    Raises:
        ModelError: the arguments are not JSON values, or the model was prepared for running only.
        StorageError: the directory cannot be written.
    """
    text = written_config(model)
    if model.batch_norms_folded:  # its weights could not be loaded again
        raise ModelError(
            f"this {type(model).__name__} was made by limbeck.prepare, for running only: its batch norms are folded "
            "into other layers; save the model that it was made from"
        )
    directory = Path(directory)
    # Cloning unties views; safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    atomic_write_bytes(directory / CONFIG, text.encode())
    atomic_write_bytes(directory / WEIGHTS, dump_tensors(tensors))


def written_config(model: DGM) -> str:
    """The text of a model's ``config.json``.

    Args:
        model: any model.

    Raises:
        ModelError: its constructor arguments are not JSON values that are read as they were written, or have no names,
            so that the model cannot be saved.
    """
    kind = type(model)
    record = {"class": public_name(kind), "config": model.config}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL and name in model.config:
            raise ModelError(
                f"{kind.__name__} cannot be saved: its constructor takes *{name}, which have no names to be told by; "
                "let it take one list instead"
            )
    strays = [key for key in _keys(model.config) if not isinstance(key, str)]
    if strays:
        raise ModelError(
            f"{kind.__name__} cannot be saved: its constructor arguments have a dictionary with the key {strays[0]!r}, "
            "which JSON turns into a text; use texts as keys"
        )
    try:
        return json.dumps(record, indent=2) + "\n"
    except TypeError as error:
        raise ModelError(
            f"{kind.__name__} cannot be saved: its constructor arguments are not plain JSON values ({error}); "
            "pass numbers, texts, lists and dictionaries, and build modules inside the constructor (of a wrapped "
            "network tell how it is built: NetworkClassifier.wrap(..., network=, settings=))"
        ) from None


def _keys(value: Any) -> Iterator[Any]:
    """The keys of all dictionaries in a config, at any depth."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _keys(item)


def load(cls: type[Model], directory: str | Path, *, map_location: str | torch.device = "cpu") -> Model:
    """Read a model.

    Only the library's own models and classes that the caller has already imported are ever constructed, so that a
    model directory cannot run code of its choosing.

    Args:
        cls: the expected class; :class:`~limbeck.DGM` accepts every model.
        directory: what :func:`save` wrote, or one of the layouts of other libraries (:mod:`limbeck.layouts`).
        map_location: device of the loaded weights.

    Returns:
        The model, in eval mode.

    Raises:
        ModelError: a file is missing or corrupt, or the directory holds a model of another class.
    """
    directory = Path(directory)
    for index, reader in FOREIGN.items():
        if (directory / index).is_file():
            read: Model = getattr(_find_class(reader.model, cls, directory), reader.method)(directory)
            return read.to(map_location)
    record = _read_config(directory)
    found = _find_class(record["class"], cls, directory)
    try:
        model = found(**record["config"])
    except TypeError as error:
        raise ModelError(f"{directory / CONFIG} does not fit {found.__name__} ({error})") from None
    path = directory / WEIGHTS
    try:
        tensors = load_tensors(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; the directory holds a model without weights") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is corrupt or unreadable ({error}); copy the model again or train it again") from None
    # Loading copies into the parameters that are there, which would round float64 weights to float32.
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in tensors and tensor.is_floating_point() and tensors[name].is_floating_point():
            tensor.data = tensor.data.to(tensors[name].dtype)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path} does not fit the model that {CONFIG} describes: {reason}") from None
    return model.to(map_location).eval()


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    if not directory.is_dir():
        raise ModelError(f"{directory} is not a directory; give the folder that holds {CONFIG} and {WEIGHTS}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; {directory} is not a saved limbeck model") from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} is not readable JSON ({error})") from None
    if not (
        isinstance(record, dict) and isinstance(record.get("class"), str) and isinstance(record.get("config"), dict)
    ):
        raise ModelError(f"{path} has no 'class' and 'config'; {directory} is not a saved limbeck model")
    return record


def _find_class(path: str, expected: type[Model], directory: Path) -> type[Model]:
    if path in (f"{expected.__module__}.{expected.__qualname__}", public_name(expected)):
        return expected
    module_name, _, name = path.rpartition(".")
    found = _own_class(module_name, name) if module_name.startswith("limbeck.") else None
    if found is None:
        found = getattr(sys.modules.get(module_name), name, None)
    if found is None:
        if module_name.startswith("limbeck."):
            raise ModelError(f"{directory}: this version of limbeck has no {path!r}; upgrade it")
        raise ModelError(
            f"{directory} holds a {path}, which is not imported; import its module first (on the command "
            f"line: --import={module_name}), or call {name}.from_pretrained(...)"
        )
    if not (isinstance(found, type) and issubclass(found, expected)):
        raise ModelError(f"{directory} holds a {path}, not the expected {expected.__name__}")
    return found


def _own_class(module_name: str, name: str) -> Any:
    """A name of this library, also if its module has moved since and a package above it still exports the name."""
    packages = module_name.split(".")
    if packages[1] not in _ROOMS:
        return None
    for count in range(len(packages), 1, -1):
        try:
            found = getattr(importlib.import_module(".".join(packages[:count])), name, None)
        except ImportError:
            continue
        if found is not None:
            return found
    return None

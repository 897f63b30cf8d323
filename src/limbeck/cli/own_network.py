"""A user's own networks on the command line: built by a named function or class, with weights from a file."""

from __future__ import annotations

import difflib
import importlib
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["OwnNetwork", "import_builder", "is_builder", "read_weights"]

_BUILDER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")


def is_builder(given: str | None) -> bool:
    """Whether ``--teacher`` or ``--student`` names what builds a network: ``module:name``, or one of ours.

    Example:
        >>> is_builder("mine.nets:build"), is_builder("WideResNet"), is_builder("runs/teacher")
        (True, True, False)
    """
    if given is None or Path(given).exists():
        return False
    from limbeck.models import networks

    return _BUILDER.fullmatch(given) is not None or given in networks.__all__


@dataclass(frozen=True)
class OwnNetwork:
    """One of the two networks of a command line.

    Attributes:
        role: ``"teacher"`` or ``"student"``.
        name: what builds it.
        settings: the arguments that it is built with.
        module: the network.
        constants: mean and deviation of each channel that the images of a saved model are normalised by; ``None`` for
            networks that are built, and models that do not normalise.
    """

    role: str
    name: str
    settings: dict[str, Any]
    module: nn.Module
    constants: list[list[float]] | None = None

    @property
    def feature_paths(self) -> dict[str, str]:
        """The paths of the layers that a network of this library names itself: ``h[0]``, ``h[1]``, ..."""
        return {f"h[{i}]": path for i, path in enumerate(getattr(self.module, "feature_paths", ()))}

    @classmethod
    def saved(cls, role: str, directory: str, settings: Mapping[str, Any]) -> OwnNetwork:
        """Load the network of a model that ``limbeck distill`` saved.

        Args:
            role: ``"teacher"`` or ``"student"``.
            directory: of the saved model.
            settings: arguments on the command line; there must be none, since it is built already.

        Raises:
            RecipeError: it is a model of another class, or there are settings.
        """
        from limbeck.core.graph import DGM
        from limbeck.models import NetworkClassifier

        model = DGM.from_pretrained(directory)
        where = f"--{role}={directory} is a saved {type(model).__name__}"
        if settings:
            raise RecipeError(f"{where}; --{role}.{next(iter(settings))}: it is built already; leave it out")
        if not isinstance(model, NetworkClassifier):
            raise RecipeError(f"{where}, not a network that this command saved; give one, or --{role}=my.module:build")
        constants = [model.mean.flatten().tolist(), model.deviation.flatten().tolist()] if model.normalize else None
        name, arguments = str(model.config["network"]), dict(model.config["settings"] or {})
        return cls(role, name, arguments, model.network, constants)

    @classmethod
    def built(
        cls, role: str, given: str, settings: Mapping[str, Any], texts: Mapping[str, str] | None = None
    ) -> OwnNetwork:
        """Import, build and load.

        Args:
            role: ``"teacher"`` or ``"student"``.
            given: what builds it, see :func:`is_builder`.
            settings: its arguments, and ``weights``, a file: ``.safetensors``, or a state dict that torch saved.
            texts: the same as typed, for arguments that are texts.

        Raises:
            RecipeError: the module cannot be imported, or it has nothing of that name that builds a network.
            ModelError: the arguments or the weights do not fit.
        """
        from limbeck.models.wrapped.building import build, builder

        arguments = dict(settings)
        weights = arguments.get("weights")
        of_file = isinstance(weights, str) and (weights.endswith(_WEIGHTS) or Path(weights).is_file())
        if of_file:
            del arguments["weights"]
        import_builder(role, given)
        try:
            arguments |= _as_typed(builder(given), texts or {}, arguments)
            module = build(given, arguments)
            if of_file:
                _load(module, read_weights(str(weights)), f"--{role}.weights={weights}", given)
        except ModelError as error:
            raise ModelError(f"--{role}={given}: {error}") from None
        except Exception as error:  # the user's code may raise anything
            told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise ModelError(
                f"--{role}={given}{' with ' + told if told else ''}: {type(error).__name__}: "
                f"{' '.join(str(error).split())}"
            ) from error
        return cls(role, given, arguments, module)


def read_weights(path: str) -> dict[str, Tensor]:
    """The state dict in a file; nothing in it is run.

    Args:
        path: ``.safetensors``, or what ``torch.save`` made of a state dict, alone or under the key ``state_dict``.

    Raises:
        ModelError: there is no such file, or it holds something else.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        if path.endswith(".safetensors"):
            return load(Path(path).read_bytes())
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"the file of weights {path} does not exist") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is corrupt or unreadable ({error})") from None
    except Exception as error:  # torch's reader has no errors of its own; a pickle of anything else is refused
        raise ModelError(
            f"{path} is not a state dict ({type(error).__name__}); save one with "
            "safetensors.torch.save_file(network.state_dict(), FILE)"
        ) from None
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not (isinstance(found, dict) and found and all(isinstance(value, torch.Tensor) for value in found.values())):
        raise ModelError(f"{path} holds no state dict: names and tensors were expected")
    return {str(name): tensor for name, tensor in found.items()}


def _as_typed(made: Callable[..., Any], texts: Mapping[str, str], arguments: Mapping[str, Any]) -> dict[str, str]:
    """Those arguments that are annotated as texts, as they were typed: ``no`` is false in YAML."""
    try:
        hints = typing.get_type_hints(made.__init__ if isinstance(made, type) else made)  # type: ignore[misc]
    except NameError:  # names that are imported for type checkers alone
        return {}
    found = {}
    for name, text in texts.items():
        kinds = typing.get_args(hints.get(name)) or (hints.get(name),)
        if name in arguments and (text in kinds or (str in kinds and type(arguments[name]) not in kinds)):
            found[name] = text
    return found


def import_builder(role: str, given: str) -> None:
    """Import the module that the user named; a saved model is never obeyed in this way.

    Args:
        role: ``"teacher"`` or ``"student"``.
        given: what builds its network, see :func:`is_builder`.

    Raises:
        RecipeError: the module cannot be imported, or has nothing of that name.
    """
    module, colon, name = given.partition(":")
    if not colon:
        return
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise RecipeError(f"--{role}={given}: {error}; run in the directory of the module, or set PYTHONPATH") from None
    except Exception as error:  # the user's code may raise anything
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise RecipeError(f"--{role}={given}: the module {module} cannot be imported: {told}") from error
    if not hasattr(found, name):
        near = difflib.get_close_matches(name, [known for known in vars(found) if known[:1] != "_"], n=2)
        told = f"; did you mean {' or '.join(near)}?" if near else ""
        raise RecipeError(f"--{role}={given}: the module {module} has no {name!r}{told}")


def _load(module: nn.Module, tensors: dict[str, Tensor], where: str, given: str) -> None:
    """Give a network its weights, all of them."""
    if all(name.startswith("module.") for name in tensors):  # as DistributedDataParallel names them
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    own = module.state_dict()
    missing, further = [n for n in own if n not in tensors], [n for n in tensors if n not in own]
    shapes = [
        f"{name} is {tuple(tensors[name].shape)} there and {tuple(own[name].shape)} here"
        for name in own.keys() & tensors.keys()
        if own[name].shape != tensors[name].shape
    ]
    told = [f"{len(missing)} weights are missing, first {missing[0]}"] if missing else []
    told += [f"{len(further)} are of other names, first {further[0]}"] if further else []
    told += [f"{len(shapes)} have other shapes: {sorted(shapes)[0]}"] if shapes else []
    if told:
        raise ModelError(f"{where} holds weights of another network than {given} builds: {'; '.join(told)}")
    module.load_state_dict(tensors)

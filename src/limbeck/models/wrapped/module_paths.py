"""Modules of a network by path: whether there is one, and which one reads the penultimate feature."""

from __future__ import annotations

import difflib

import torch
from torch import nn

from limbeck.errors import ModelError

__all__ = ["check_path", "penultimate_path"]

_HEADS = ("fc", "classifier", "head", "heads")  # how the last part of a classifier is usually called
_SHOWN = 20


def check_path(network: nn.Module, path: str) -> None:
    """Refuse a path at which a network has no module.

    Raises:
        ModelError: names modules with similar paths; or the path leads into a TorchScript module, whose parts run no
            hooks, so that nobody can look at what they give.

    Example:
        >>> check_path(nn.Sequential(nn.Linear(2, 2)), "1")
        Traceback (most recent call last):
            ...
        limbeck.errors.ModelError: Sequential has no module '1'; it has: 0
    """
    _check_no_script(network, path)
    try:
        if path:
            network.get_submodule(path)
            return
    except AttributeError:
        pass
    names = [name for name, _ in network.named_modules() if name]
    near = difflib.get_close_matches(path, names, n=3, cutoff=0.4)
    told = f"near: {', '.join(near)}" if near else f"it has: {', '.join(names[:_SHOWN])}"
    raise ModelError(f"{type(network).__name__} has no module {path!r}; {told}")


def _check_no_script(network: nn.Module, path: str) -> None:
    above: nn.Module | None = network
    for part in path.split("."):
        if isinstance(above, torch.jit.ScriptModule):
            raise ModelError(
                f"the outputs of {path!r} cannot be looked at: torch.jit.trace and torch.jit.script hide what happens "
                "inside a network. Wrap the network that it was made from, or name no features and compare its logits"
            )
        above = getattr(above, part, None)


def penultimate_path(network: nn.Module) -> str | None:
    """Path of the linear layer that gives the logits, whose input is what is called the penultimate feature.

    It is the last linear layer of the part that is called ``fc``, ``classifier``, ``head`` or ``heads``, if there is
    one, else of the whole network. "Last" is the order in which modules were registered, which is that of their use in
    nearly every network.

    Args:
        network: a classifier.

    Returns:
        The path, or ``None`` if there is no linear layer.

    Example:
        >>> penultimate_path(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        '3'
    """
    found: list[str] = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    for head in _HEADS:
        within = [path for path in found if f"{path}.".startswith(f"{head}.")]
        if within:
            return within[-1]
    return found[-1] if found else None

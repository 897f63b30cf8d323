"""Looking at the activations of a network while it runs, by hooks that are gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from limbeck.core.sites import Sites
from limbeck.errors import ModelError

__all__ = ["PENULTIMATE", "Taps"]

PENULTIMATE = "penultimate"
"""Name of the site that the last linear layer reads."""


class Taps:
    """While a network runs inside the ``with`` block, outputs of its modules are declared as sites.

    Args:
        sites: where to.
        network: what runs.
        features: site names to module paths.
        penultimate: path of the linear layer whose input is a site, too; ``None`` for none.
    """

    def __init__(self, sites: Sites, network: nn.Module, features: Mapping[str, str], penultimate: str | None) -> None:
        self._sites = sites
        self._network = network
        self._features = features
        self._penultimate = penultimate
        self._handles: list[RemovableHandle] = []
        self._seen: dict[str, tuple[Tensor, int]] = {}

    def __enter__(self) -> Self:
        try:
            for name, path in self._features.items():
                module = self._network.get_submodule(path)
                self._handles.append(module.register_forward_hook(self._output(name, path)))
            if self._penultimate is not None:
                module = self._network.get_submodule(self._penultimate)
                hook = self._input(self._penultimate)
                self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def check(self) -> None:
        """Make sure, after a run, that every site was declared and still is what the module gave.

        Raises:
            ModelError: a module did not run, or its output was changed in place afterwards.
        """
        paths = {PENULTIMATE: self._penultimate} if self._penultimate is not None else {}
        for name, path in {**self._features, **paths}.items():
            if name not in self._seen:
                raise ModelError(
                    f"the module {path!r} did not run, so there is no {name!r}; name a module that the forward pass of "
                    f"{type(self._network).__name__} calls itself, not a list of modules or a part that only training "
                    "uses"
                )
            value, version = self._seen[name]
            if version != _version(value):
                raise ModelError(
                    f"the output of the module {path!r} is changed in place by what comes after it, such as "
                    "nn.ReLU(inplace=True) or +=; name the module that changes it, or make that one not in-place"
                )

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _output(self, name: str, path: str) -> Callable[..., Tensor]:
        def declare(module: nn.Module, inputs: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise ModelError(
                    f"the module {path!r} returns a {type(output).__name__}, but a feature is one tensor; name a "
                    "module inside it"
                )
            return self._declare(name, path, output)

        return declare

    def _input(self, path: str) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
        def declare(
            module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if inputs:
                return (self._declare(PENULTIMATE, path, inputs[0]), *inputs[1:]), named
            first = next(iter(named))  # input=x, or whatever a module of one's own calls it
            return inputs, {**named, first: self._declare(PENULTIMATE, path, named[first])}

        return declare

    def _declare(self, name: str, path: str, value: Tensor) -> Tensor:
        if name in self._seen:
            raise ModelError(
                f"the module {path!r} runs more than once in one forward pass of {type(self._network).__name__}, so "
                f"its values are several; for {name!r} name a module that runs once"
            )
        self._seen[name] = value, _version(value)
        return self._sites.deterministic(name, value)


def _version(value: Tensor) -> int:
    """How often a tensor was changed in place; compiled code and inference mode do not tell, and say 0."""
    return 0 if torch.compiler.is_compiling() or value.is_inference() else value._version

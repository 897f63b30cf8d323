"""Looking at the activations of a network while it runs, by hooks that are gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from limbeck.core.in_place import changes
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
        guessed: whether nobody named that layer, so that there is no such site if it does not run, or more than once.
    """

    def __init__(
        self,
        sites: Sites,
        network: nn.Module,
        features: Mapping[str, str],
        penultimate: str | None,
        guessed: bool = False,
    ) -> None:
        self._sites = sites
        self._network = network
        self._features = features
        self._penultimate = penultimate
        self._guessed = guessed
        self._inputs: list[tuple[Tensor, int]] = []
        self._handles: list[RemovableHandle] = []
        self._seen: dict[str, tuple[Tensor, int]] = {}

    def __enter__(self) -> Self:
        try:
            for name, path in self._features.items():
                module = self._network.get_submodule(path)
                self._handles.append(module.register_forward_hook(self._output(name, path)))
            if self._penultimate is not None:
                module = self._network.get_submodule(self._penultimate)
                self._handles.append(module.register_forward_pre_hook(self._input, with_kwargs=True))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def check(self) -> None:
        """Make sure, after a run, that every feature was declared and still is what its module gave; declare the last.

        The input of the last linear layer is declared only here, since a guessed layer may run again until the end.

        Raises:
            ModelError: a module did not run, or more than once, or its output was changed in place afterwards.
        """
        for name, path in self._features.items():
            if name not in self._seen:
                raise self._not_run(name, path)
            value, version = self._seen[name]
            if version != changes(value):
                raise _changed(f"the output of the module {path!r}")
        if self._penultimate is None:
            return
        fault = self._fault(self._penultimate)
        if fault is None:
            self._sites.deterministic(PENULTIMATE, self._inputs[0][0])
        elif not self._guessed:
            raise fault

    def _fault(self, path: str) -> ModelError | None:
        """Why what the last linear layer reads can be no site; ``None`` if it can."""
        if len(self._inputs) != 1:
            return self._run_again(PENULTIMATE, path) if self._inputs else self._not_run(PENULTIMATE, path)
        value, version = self._inputs[0]
        return None if version == changes(value) else _changed(f"the input of the module {path!r}")

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

    def _input(
        self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Look at what the last linear layer reads; whether it is a site is known when the network has run."""
        first = None if inputs else next(iter(named))  # input=x, or whatever a module of one's own calls it
        value = inputs[0] if first is None else named[first]
        self._inputs.append((value, changes(value)))
        given = self._sites.given(PENULTIMATE)
        taken = value if given is None else given
        return ((taken, *inputs[1:]), named) if first is None else (inputs, {**named, first: taken})

    def _declare(self, name: str, path: str, value: Tensor) -> Tensor:
        if name in self._seen:
            raise self._run_again(name, path)
        self._seen[name] = value, changes(value)
        return self._sites.deterministic(name, value)

    def _not_run(self, name: str, path: str) -> ModelError:
        return ModelError(
            f"the module {path!r} did not run, so there is no {name!r}; name a module that the forward pass of "
            f"{type(self._network).__name__} calls itself, not a list of modules or a part that only training uses"
        )

    def _run_again(self, name: str, path: str) -> ModelError:
        return ModelError(
            f"the module {path!r} runs more than once in one forward pass of {type(self._network).__name__}, so its "
            f"values are several; for {name!r} name a module that runs once"
        )


def _changed(what: str) -> ModelError:
    return ModelError(
        f"{what} is changed in place by what comes after it, such as nn.ReLU(inplace=True) or +=; name the module that "
        "changes it, or make that one not in-place"
    )

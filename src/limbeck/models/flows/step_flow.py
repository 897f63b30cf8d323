"""Flows of other libraries: any invertible steps that tell their log-determinants, as a graph of sites."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from limbeck.core.precision import precise
from limbeck.errors import ModelError
from limbeck.models.flows.bijection import Bijection, Level, Standardize
from limbeck.models.flows.flow import Flow

__all__ = ["ForeignStep", "StepFlow"]


class ForeignStep(Bijection):
    """Modules of another library as one step, in the order from data to latents.

    Args:
        modules: each maps rows to rows of as many elements.
        forward: name of their method from data towards latents; it is given the rows, and the conditioning input if
            there is one.
        inverse: name of their method back; if it returns a pair, its second part is not used.
        log_det: name of a method that is given a module's input and output and returns the log-determinant; ``None`` if
            ``forward`` returns the pair of output and log-determinant. One number for all rows, one a row, or one an
            element.
        places: which element of the data each element of these modules' input is, shape (elements,), if a permutation
            came before; results are put back in the places of the data.
    """

    places: Tensor | None
    back: Tensor | None

    def __init__(
        self,
        modules: Sequence[nn.Module],
        forward: str = "forward",
        inverse: str = "inverse",
        log_det: str | None = None,
        places: Tensor | None = None,
    ) -> None:
        super().__init__()
        for module in modules:
            for name in (forward, inverse, *([log_det] if log_det else [])):
                if not callable(getattr(module, name, None)):
                    raise ModelError(
                        f"a {type(module).__name__} has no method {name!r}; name the methods of your steps with "
                        "forward=..., inverse=... and log_det=..."
                    )
        self.parts = nn.ModuleList(modules)
        self.names = (forward, inverse, log_det)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("back", None if places is None else places.argsort(), persistent=False)

    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total: Tensor | float = 0
        h = _moved(h, self.places)
        name, _, log_det = self.names
        for part in self.parts:
            result = _call(part, name, h, x)
            if log_det is not None:
                following = result
                change = getattr(part, log_det)(h, following)
            else:
                following, change = _pair(part, name, result)
            total = total + (change if change.ndim < 2 else precise(change).flatten(1).sum(1))
            h = following
        return _moved(h, self.back), total  # type: ignore[return-value]

    @override
    def inverse(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        h = _moved(h, self.places)
        for part in reversed(self.parts):
            result = _call(part, self.names[1], h, x)
            h = result if isinstance(result, Tensor) else result[0]
        return _moved(h, self.back)


class StepFlow(Flow):
    """A flow of another library, by its steps; the latents are standard normal.

    A module with parameters is a step, and so is a sequence of modules. One without parameters belongs to the step
    before it, or is a step of its own after a permutation. A permutation disappears, which is found out by trying: its
    neighbours are run in its order, and every site stays in the places of the data, so that flows with different
    permutations can be compared.

    The modules cannot be written to a file. Make a subclass whose constructor takes plain values and builds them, and
    ``save_pretrained`` works as for any model.

    Args:
        steps: modules, or sequences of modules, in the order from data to latents.
        shape: of a row, without the batch; a number of columns, or sizes.
        forward: see :class:`ForeignStep`.
        inverse: see :class:`ForeignStep`.
        log_det: see :class:`ForeignStep`.
        mixes: whether a step mixes elements by a learned matrix (an invertible convolution, a rotation), so that
            element i of a latent does not belong to element i of the data.
        standardize: whether columns are standardised first; likelihoods stay those of the data in their own units.

    Raises:
        ModelError: there is no step, or one lacks a method.

    Example:
        >>> class Stretch(nn.Module):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.log_scale = nn.Parameter(torch.ones(2))
        ...     def forward(self, h):
        ...         return h * self.log_scale.exp(), self.log_scale.sum()
        ...     def inverse(self, h):
        ...         return h * (-self.log_scale).exp()
        >>> StepFlow([Stretch(), Stretch()], 2).trace(batch_size=3)
        Trace(u[0]: latent, h[0][1]: deterministic, y: target, log_prob: deterministic)
    """

    def __init__(
        self,
        steps: Sequence[nn.Module | Sequence[nn.Module]],
        shape: int | Sequence[int],
        forward: str = "forward",
        inverse: str = "inverse",
        log_det: str | None = None,
        mixes: bool = False,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self._shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self._mixes = mixes
        names: dict[str, Any] = {"forward": forward, "inverse": inverse, "log_det": log_det}
        places: Tensor | None = None
        groups: list[tuple[list[nn.Module], Tensor | None]] = []
        entry: list[nn.Module] = []
        for step in steps:
            modules = [step] if isinstance(step, nn.Module) else list(step)
            fixed = not any(True for module in modules for _ in module.parameters())
            swap = _permutation(ForeignStep(modules, **names), self._shape) if fixed else None
            if swap is not None:
                places = swap if places is None else places[swap]
            elif not fixed:
                groups.append((modules, places))
            elif groups and groups[-1][1] is places:
                groups[-1][0].extend(modules)
            elif groups or places is not None:
                groups.append((modules, places))
            else:
                entry.extend(modules)
        if not groups:
            raise ModelError("a flow needs at least one step with parameters; there is none")
        first: list[Bijection] = [Standardize(*self._shape)] if standardize else []
        if entry:
            first.append(ForeignStep(entry, **names))
        self.body = Level([ForeignStep(modules, **names, places=order) for modules, order in groups], first)

    @property
    @override
    def levels(self) -> Sequence[Level]:
        return (self.body,)

    @property
    @override
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self._shape,)

    @property
    @override
    def keeps_columns(self) -> bool:
        return not self._mixes


@torch.no_grad()
def _permutation(step: ForeignStep, shape: tuple[int, ...]) -> Tensor | None:
    """Where each element of the result comes from, if all that a step does is to permute.

    Copies are tried: a module may set its constants by the first rows that it sees, or draw random numbers. In both
    modes, since it may do so in one only.
    """
    found = []
    with torch.random.fork_rng(devices=[]):
        for training in (True, False):
            found.append(_moves(copy.deepcopy(step).train(training), shape))
    first, second = found
    if first is None or second is None or not torch.equal(first, second):
        return None
    constants = any(buffer.is_floating_point() for buffer in step.buffers())
    still = torch.equal(first, torch.arange(len(first)))
    return None if still and constants else first  # constants that change nothing may be set later


def _moves(step: ForeignStep, shape: tuple[int, ...]) -> Tensor | None:
    """Where each element of the result comes from, if these rows are permuted."""
    count = torch.Size(shape).numel()
    like = next((buffer for buffer in step.buffers() if buffer.is_floating_point()), torch.empty(0))
    ramp = torch.arange(1, count + 1).to(like)
    probe = torch.stack([ramp, -ramp / count]).view(2, *shape)
    # In a conditional flow a permutation may insist on an input that it does not use, whatever the numbers in it.
    for x in (None, probe.new_full((2, 1), torch.nan)):
        try:
            result, _ = step.forward(probe, x)
        except (TypeError, ValueError, RuntimeError, IndexError):
            continue
        break
    else:
        return None  # it uses a conditioning input, or needs another dtype: no plain permutation
    if result.numel() != probe.numel():
        return None
    flat, source = result.reshape(2, -1), probe.view(2, -1)
    index = flat[0].round().long() - 1
    if not torch.equal(index.sort().values, torch.arange(count)) or not torch.equal(source[:, index], flat):
        return None
    return index


def _moved(h: Tensor, index: Tensor | None) -> Tensor:
    """Elements of each row rearranged."""
    return h if index is None else h.flatten(1)[:, index].view_as(h)


def _call(module: nn.Module, name: str, h: Tensor, x: Tensor | None) -> Any:
    method = getattr(module, name)
    return method(h) if x is None else method(h, x)


def _pair(module: nn.Module, name: str, result: Any) -> tuple[Tensor, Tensor]:
    if isinstance(result, tuple | list) and len(result) == 2:
        return result[0], result[1]
    raise ModelError(
        f"{type(module).__name__}.{name} returns a {type(result).__name__}, not a pair of rows and log-determinants; "
        "name the method that gives the log-determinant with log_det=..."
    )

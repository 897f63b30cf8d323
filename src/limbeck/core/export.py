"""Exporting a model as one program without Python: its noise, and what it is conditioned on, are the inputs.

With its noise given, a model is a pure function of weights, noise and ``x``, so ``torch.export`` can write it down.
Whoever runs the file needs torch, not this library, and draws the noise, whose laws and shapes the file tells.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from typing_extensions import override

from limbeck.core.expectation import mean
from limbeck.core.exported import DESCRIPTION, Exported, Input, Output
from limbeck.core.reparam import Law
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_VALUE, Kind, Trace, keep_fields
from limbeck.errors import ModelError
from limbeck.files import atomic_write_bytes
from limbeck.names import public_name

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from limbeck.core.graph import DGM

__all__ = ["export"]

_X = "the input x"  # no name of a site
_EXAMPLE_ROWS = 2  # 0 and 1 are sizes that tracing would take for constants


def export(model: DGM, path: str | Path, *, output: Output = "mean", x: Tensor | None = None) -> Exported:
    """Write a model as a program of ``torch.export`` for any number of rows.

    The program's arguments are ``(noise, x)`` as in :meth:`limbeck.DGM.forward`, or ``(y, x)`` for densities. Noise on
    which the output does not depend, as a mean on that of the targets, is left out.

    Args:
        model: any model; it is written as it is in eval mode, on its own device.
        path: of the file, by custom ``.pt2``.
        output: ``mean`` of each target's law (class probabilities where it is categorical), a ``sample`` of it, or
            ``log_prob``, the log density of rows y in nats, of models that have one.
        x: a few rows of the conditioning input, shape (batch, ...), of models that have one; only its shape and dtype
            count.

    Returns:
        What the program asks for and gives; the file holds it too, as ``limbeck.json``.

    Raises:
        ModelError: the model has no such output, wants or has no ``x``, or cannot be written as a program.
        StorageError: the file cannot be written.

    Example:
        >>> from limbeck.models import GaussianChain
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as directory:
        ...     told = export(GaussianChain(layers=2), f"{directory}/chain.pt2")
        ...     program = torch.export.load(f"{directory}/chain.pt2").module()
        >>> told.noise["z[2]"]
        Input(shape=(1,), dtype='float32', law='normal')
        >>> program({name: torch.rand(5, *one.shape) for name, one in told.noise.items()}, None)["y"].shape
        torch.Size([5, 1])
    """
    if output not in get_args(Output):
        raise ModelError(f"the output of an exported model is mean, sample or log_prob, not {output!r}")
    if output == "log_prob" and not callable(getattr(model, "log_prob", None)):
        raise ModelError(f"a {type(model).__name__} has no log_prob of rows in closed form; export its mean or sample")
    if x is not None:
        x = x[:1].expand(_EXAMPLE_ROWS, *x.shape[1:]).clone()
    buffer = io.BytesIO()
    with _as_shipped(model):
        trace = _example(model, x)
        program, described = _densities(model, trace, x) if output == "log_prob" else _draws(model, trace, x, output)
        text = json.dumps(dataclasses.asdict(described), indent=2)
        torch.export.save(program, buffer, extra_files={DESCRIPTION: text})
    atomic_write_bytes(Path(path), buffer.getvalue())
    return described


class _Draw(nn.Module):
    """The targets as a function of the noise that matters; the rest is constant."""

    def __init__(self, model: DGM, output: Output, constant: dict[str, Tensor]) -> None:
        super().__init__()
        self.model = model
        self.output = output
        self.constant = {name: rows[:1].clone() for name, rows in constant.items()}

    @override
    def forward(self, noise: dict[str, Tensor], x: Tensor | None) -> dict[str, Tensor]:
        given = next(iter(noise.values())) if x is None else x
        constant = {name: row.expand(given.shape[0], *row.shape[1:]) for name, row in self.constant.items()}
        keep = keep_fields(KEEP_VALUE if self.output == "sample" else KEEP_DISTRIBUTION, Kind.TARGET)
        trace = self.model.trace(given.shape[0], x, noise={**constant, **noise}, keep=keep)
        if self.output == "sample":
            return trace.targets
        return {site.name: mean(site.distribution) for site in trace.of_kind(Kind.TARGET) if site.distribution}


class _Density(nn.Module):
    """Log densities of rows."""

    def __init__(self, model: DGM) -> None:
        super().__init__()
        self.model = model

    @override
    def forward(self, y: Tensor, x: Tensor | None) -> dict[str, Tensor]:
        log_prob: Callable[..., Tensor] = self.model.log_prob  # type: ignore[assignment]
        return {"log_prob": log_prob(y) if x is None else log_prob(y, x)}


def _draws(model: DGM, trace: Trace, x: Tensor | None, output: Output) -> tuple[ExportedProgram, Exported]:
    noise = trace.noise
    custom = [name for name in noise if trace[name].law is Law.CUSTOM]
    if custom:
        raise ModelError(
            f"a {type(model).__name__} cannot be exported: the noise of its site {custom[0]!r} has a law of its own, "
            "which a file cannot tell; give the law normal, uniform or Gumbel noise"
        )
    # A point mass draws nothing: its noise has no numbers.
    inputs = {name: rows for name, rows in noise.items() if trace[name].law is not Law.NONE}
    constant = {name: rows for name, rows in noise.items() if name not in inputs}
    program = _traced(_Draw(model, output, constant), inputs, x)
    used = _used(program, [*inputs, _X])
    if x is not None and _X not in used:
        raise ModelError(f"the {output} of this {type(model).__name__} does not depend on an input x; leave it out")
    used.discard(_X)
    if not used and x is None:
        raise ModelError(
            f"the {output} of this {type(model).__name__} does not depend on any noise; there is no program"
        )
    if used != inputs.keys():
        constant = {name: rows for name, rows in noise.items() if name not in used}
        inputs = {name: rows for name, rows in inputs.items() if name in used}
        program = _traced(_Draw(model, output, constant), inputs, x)
    wanted = {name: _input(rows, trace[name].law) for name, rows in inputs.items()}
    return program, _described(model, output, program, wanted, x, None)


def _densities(model: DGM, trace: Trace, x: Tensor | None) -> tuple[ExportedProgram, Exported]:
    y = model.join_targets(trace.targets)
    program = _traced(_Density(model), y, x)
    return program, _described(model, "log_prob", program, {}, x, y)


def _example(model: DGM, x: Tensor | None) -> Trace:
    """A run of a few rows, with every site's noise and value."""
    try:
        return model.trace(_EXAMPLE_ROWS, x)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        without = "without an input x" if x is None else f"with rows x of shape {tuple(x.shape[1:])}"
        raise ModelError(
            f"the {type(model).__name__} cannot be run {without} ({told}); give export a few rows x of the shape that "
            "it is conditioned on"
        ) from error


def _traced(module: nn.Module, argument: Tensor | dict[str, Tensor], x: Tensor | None) -> ExportedProgram:
    """The program of a module for any number of rows, or as many as its parts can take."""
    rows = {0: torch.export.Dim.AUTO}
    shapes = (rows if isinstance(argument, Tensor) else dict.fromkeys(argument, rows), None if x is None else rows)
    model = type(module.model).__name__
    try:
        # Decomposed into what has no side effects, so that what no output needs is left out.
        program: ExportedProgram = torch.export.export(
            module.eval(), (argument, x), dynamic_shapes=shapes
        ).run_decompositions({})
    except Exception as error:  # torch raises errors of many kinds, according to what it cannot follow
        raise ModelError(
            f"torch.export cannot follow the program of this {model}: {_reason(error)}. A program that is exported may "
            "not read values back, as bool(...), .item() and .numpy() do"
        ) from error
    sized = next((node for node in program.graph.nodes if node.meta.get("unbacked_bindings")), None)
    if sized is not None:
        raise ModelError(
            f"the program of this {model} has sizes that depend on values, by {sized.target}; torch could write it, "
            "but not load it again. Keep such indices as a buffer or a list"
        )
    if not program.range_constraints:
        raise ModelError(
            f"the program of this {model} is for {_EXAMPLE_ROWS} rows alone, because it takes the number of rows for a "
            "constant; ask for x.shape[0] in place of len(x), and let sites.zeros and the like make the roots"
        )
    return program


def _reason(error: Exception) -> str:
    """The first line of an error of torch, and the line of the program that it names."""
    text = str(error).strip()
    place = re.search(r'File "(.+)", line (\d+), in .*\n\s*(.+)', text)
    told = text.partition("\n")[0].rstrip(".")
    return f"{told} ({place[1]}, line {place[2]}: {place[3].strip()})" if place else told


def _used(program: ExportedProgram, names: list[str]) -> set[str]:
    """Names of the inputs on which some output depends, and not only on how many rows it has."""
    size = torch.ops.aten.sym_size.int
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    given = dict(zip(program.graph_signature.user_inputs, names, strict=False))
    return {
        given[node.name]
        for node in inputs
        if node.name in given and any(user.target is not size for user in node.users)
    }


@contextlib.contextmanager
def _as_shipped(model: DGM) -> Iterator[None]:
    """In eval mode, without gradients, and with laws that do not check their values, which no program can follow."""
    modes = [(module, module.training) for module in model.modules()]
    checks = Distribution._validate_args
    noisy = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = noisy.level
    try:
        model.eval()
        Distribution.set_default_validate_args(False)
        noisy.setLevel(logging.CRITICAL)  # what it says of a failure is in the error
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
            warnings.filterwarnings("ignore", "The tensor attributes? ", UserWarning)  # of recurrent layers' own
            yield
    finally:
        noisy.setLevel(level)
        Distribution.set_default_validate_args(checks)
        for module, training in modes:
            module.training = training


def _described(
    model: DGM,
    output: Output,
    program: ExportedProgram,
    noise: dict[str, Input],
    x: Tensor | None,
    y: Tensor | None,
) -> Exported:
    results: dict[str, Any] = program.module()(*program.example_inputs[0])
    (most,) = {int(bounds.upper) if bounds.upper < torch.iinfo(torch.int64).max else None
               for bounds in program.range_constraints.values()}  # fmt: skip
    return Exported(
        model=public_name(type(model)),
        output=output,
        noise=noise,
        x=None if x is None else _input(x),
        y=None if y is None else _input(y),
        outputs={name: tuple(value.shape[1:]) for name, value in results.items()},
        max_rows=most,
    )


def _input(rows: Tensor, law: Law | None = None) -> Input:
    # Reversed noise is uniform too; a law that is not random has no numbers.
    named = {None: None, Law.REVERSED: Law.UNIFORM.value}.get(law, law.value if law else None)
    return Input(tuple(rows.shape[1:]), str(rows.dtype).removeprefix("torch."), named)

"""``limbeck export DIR``: writes a saved model as a program that runs without this library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse.typing import PositiveInt

from limbeck.cli.conditions import one_hot, rows_in_turn
from limbeck.cli.families import Family, family_of
from limbeck.cli.parsing import new_parser, parse_unless_help
from limbeck.cli.printing import say
from limbeck.cli.words import import_modules
from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from torch import Tensor

    from limbeck.core.exported import Exported, Input

__all__ = ["run"]

_PROGRAM = ".pt2"


def run(words: Sequence[str]) -> None:
    """Write the program and say what it asks for and gives.

    Args:
        words: the command line after ``limbeck export``.
    """
    parser = _new_parser()
    import_modules(parser, words)
    found = parse_unless_help(parser, words)
    if found is None:
        return
    out = Path(found.out)
    if out.suffix != _PROGRAM:
        raise RecipeError(f"--out must end in {_PROGRAM}, which torch.export.load asks for, not {out.name!r}")
    from limbeck.core.export import export
    from limbeck.core.graph import DGM

    family = family_of(DGM.from_pretrained(found.directory))
    model = family.at_steps(found.steps)
    say(_told(out, export(model, out, output=found.output, x=_example(family, found))))


def _new_parser() -> ArgumentParser:
    parser = new_parser("limbeck export", "Write a saved model as a program that runs without limbeck.")
    parser.add_argument("directory", type=str, help="directory of the saved model or pipeline")
    parser.add_argument("--out", type=str, default="model.pt2", help="file to write")
    parser.add_argument(
        "--output", type=Literal["mean", "sample", "log_prob"], default="mean",
        help="what the program computes: the mean of each target's distribution (class probabilities), a sample of it, "
        "or the log density of rows, in nats",
    )  # fmt: skip
    parser.add_argument(
        "--x_shape", type=list[PositiveInt] | None, default=None,
        help="for models that are given an input x of numbers: the shape of a row, such as [3,32,32]",
    )  # fmt: skip
    parser.add_argument(
        "--x", type=str | None, default=None,
        help="for other inputs: a .safetensors file of one tensor, a row for each input",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=PositiveInt | None, default=None,
        help="for diffusion models: how often the network is evaluated for a sample; by default as saved",
    )  # fmt: skip
    return parser


def _example(family: Family, found: Namespace) -> Tensor | None:
    """A row like those that the model is given, shape (1, ...); ``None`` for models that are given none."""
    import torch

    if found.x is not None and found.x_shape is not None:
        raise RecipeError("--x and --x_shape both tell the input; leave one out")
    if found.x is not None:
        return rows_in_turn(found.x, 1)
    if found.x_shape is not None:
        return torch.zeros(1, *found.x_shape)
    domain = one_hot(family, "domain", 0 if getattr(family.model, "domains", 0) else None, 1)
    return one_hot(family, "class", None, 1) if domain is None else domain


def _told(out: Path, exported: Exported) -> str:
    """One line for the file, and one for each of its inputs and outputs."""
    rows = "any number of rows" if exported.max_rows is None else f"at most {exported.max_rows} rows"
    lines = [f"{out}: {exported.output} of {exported.model.rpartition('.')[2]}, for {rows}"]
    inputs = {**exported.noise, "x": exported.x, "y": exported.y}
    lines += [f"  in   {name}: {_row(one)}" for name, one in inputs.items() if one is not None]
    lines += [f"  out  {name}: {list(shape)}" for name, shape in exported.outputs.items()]
    return "\n".join(lines)


def _row(one: Input) -> str:
    return f"{list(one.shape)} {one.dtype}{f', {one.law} noise' if one.law else ''}"

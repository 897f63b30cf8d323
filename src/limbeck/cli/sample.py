"""``limbeck sample DIR``: draws from a saved model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse.typing import NonNegativeFloat, PositiveInt

from limbeck.cli.conditions import one_hot, rows_in_turn
from limbeck.cli.families import Family, family_of
from limbeck.cli.parsing import new_parser, parse_unless_help
from limbeck.cli.printing import say
from limbeck.cli.words import import_modules
from limbeck.errors import ModelError, RecipeError, lacks_memory

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from torch import Generator, Tensor

    from limbeck.core.graph import DGM

__all__ = ["run"]

_TABLES = (".csv", ".npz")
_TENSORS = ".safetensors"
_PICTURE = ".png"
_COLUMNS = 8  # images in a row


def run(words: Sequence[str]) -> None:
    """Draw samples and write them as a picture, as tensors or as a table.

    Args:
        words: the command line after ``limbeck sample``.
    """
    parser = _new_parser()
    import_modules(parser, words)
    found = parse_unless_help(parser, words)
    if found is None:
        return
    if found.out is not None and Path(found.out).suffix not in (_PICTURE, _TENSORS, *_TABLES):
        raise RecipeError(f"--out must end in .png or .safetensors, .csv or .npz, not {Path(found.out).name!r}")
    from limbeck.core.first_parameter import first_parameter
    from limbeck.core.graph import DGM

    family = family_of(DGM.from_pretrained(found.directory))
    model = family.at_steps(found.steps)
    generator = _generator(found.seed)
    x = _condition(family, found)
    if x is not None and x.is_floating_point():
        x = x.to(first_parameter(model, x).dtype)
    try:
        draws = family.makes_drawings(x)
        # The mean of a pen that is down or up is neither.
        output: Literal["mean", "sample"] = "sample" if draws else found.output
        targets = model.sample(found.n, x, temperature=found.temperature, generator=generator, output=output)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        if lacks_memory(error):
            raise
        raise RecipeError(_unfit(family, x, found.x, error)) from error
    table = None if draws else _table_of(model, targets)
    out = Path(found.out or ("samples.png" if table is None else "samples.csv"))
    if found.columns is not None and out.suffix != _PICTURE:
        raise RecipeError(f"--columns is the number of images in a row of a .png, but --out is {out}; leave it out")
    columns = found.columns or _COLUMNS
    if out.suffix in _TABLES:
        if table is None:
            raise RecipeError(f"--out={out}: {type(model).__name__} makes no table; write .png or .safetensors")
        _write_table(table, out)
    elif out.suffix == _TENSORS:
        _write_tensors(targets, out)
    elif draws:
        _write_drawings(targets, out, family, columns)
    elif table is not None:
        raise RecipeError(f"--out={out}: {type(model).__name__} makes rows of a table, no images; write .csv or .npz")
    else:
        _write_grid(targets, out, columns)
    say(f"{found.n} samples: {out}")


def _new_parser() -> ArgumentParser:
    parser = new_parser("limbeck sample", "Draw samples from a saved model, or from a pipeline of diffusers.")
    parser.add_argument("directory", type=str, help="directory of the saved model or pipeline")
    parser.add_argument("--n", type=PositiveInt, default=64, help="number of samples")
    parser.add_argument(
        "--out", type=str, default=None,
        help="file to write: .png for a grid of images, .safetensors for all targets as tensors, .csv or .npz for a "
        "table; by default samples.csv if the model makes rows of a table, otherwise samples.png",
    )  # fmt: skip
    parser.add_argument(
        "--temperature", type=NonNegativeFloat, default=1.0, help="factor of the noise of the latents; 0 for none"
    )
    parser.add_argument("--seed", type=int, default=0, help="fixes the noise")
    parser.add_argument(
        "--domain", type=int | None, default=None,
        help="for models of several domains: number of the domain to draw from, from 0",
    )  # fmt: skip
    parser.add_argument(
        "--class", type=int | None, default=None,
        help="for models of several classes: number of the class to draw, from 0; by default each class in turn",
    )  # fmt: skip
    parser.add_argument(
        "--x", type=str | None, default=None,
        help="for models that are given an input x: a .safetensors file of one tensor, a row for each input; the rows "
        "are taken in turn",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=PositiveInt | None, default=None,
        help="for diffusion models: how often the network is evaluated for a sample, at evenly spaced times; by "
        "default as saved",
    )  # fmt: skip
    parser.add_argument(
        "--columns", type=PositiveInt | None, default=None, help=f"images in a row of the grid; by default {_COLUMNS}"
    )
    parser.add_argument(
        "--output", type=Literal["mean", "sample"], default="mean",
        help="what is written of each target's distribution: its mean, or a sample, which has the observation noise",
    )  # fmt: skip
    return parser


def _generator(seed: int) -> Generator:
    import torch

    try:
        return torch.Generator().manual_seed(seed)
    except (RuntimeError, ValueError):
        raise RecipeError(f"--seed={seed} has more than 64 bits; give a smaller number") from None


def _condition(family: Family, found: Namespace) -> Tensor | None:
    """The conditioning input: that of a file, or one that asks for a domain or for classes, one-hot.

    Returns:
        Shape (rows, ...); ``None`` for models that are given none.

    Raises:
        RecipeError: the model has no domains or classes, or none of this number, or the file holds no input.
    """
    if found.x is not None:
        if found.domain is not None or found["class"] is not None:
            raise RecipeError("--x gives the model's input; leave out --domain and --class")
        return rows_in_turn(found.x, found.n)
    x = one_hot(family, "domain", found.domain, found.n)
    other = one_hot(family, "class", found["class"], found.n)
    return other if x is None else x


def _unfit(family: Family, x: Tensor | None, file: str | None, error: Exception) -> str:
    """What to say of a model that raised an error of its own while it was sampled."""
    kind, told = type(family.model).__name__, f"{type(error).__name__}: {' '.join(str(error).split())}"
    if x is None:
        return (
            f"the {kind} cannot be sampled without an input x ({told}); if it is a conditional model, give "
            "--x=FILE.safetensors, a tensor with a row for each input"
        )
    given = f"--x={file}, {' x '.join(map(str, x.shape[1:]))} each" if file else "this input"
    return f"the {kind} cannot be sampled given {given}: {told}"


def _table_of(model: DGM, targets: Mapping[str, Tensor]) -> Tensor | None:
    """The targets if together they are rows of a table, shape (rows, columns); ``None`` for other models."""
    try:
        joined = model.join_targets(targets)
    except ModelError:
        return None
    return joined if joined.ndim == 2 else None


def _write_table(rows: Tensor, out: Path) -> None:
    """Rows as text, one a line with all digits, or as the array ``samples`` of a NumPy archive."""
    import io

    import numpy as np

    from limbeck.core.precision import precise
    from limbeck.files import atomic_write_bytes

    rows = precise(rows) if rows.is_floating_point() else rows  # numpy has no bfloat16
    text = io.BytesIO()
    if out.suffix == ".npz":
        np.savez(text, samples=rows.numpy())
    else:
        names = ",".join(str(column) for column in range(rows.shape[1]))
        digits = 17 if rows.dtype.itemsize > 4 else 9
        np.savetxt(text, rows.numpy(), fmt=f"%.{digits}g", delimiter=",", header=names, comments="")
    atomic_write_bytes(out, text.getvalue())


def _write_tensors(targets: Mapping[str, Tensor], out: Path) -> None:
    from safetensors.torch import save

    from limbeck.files import atomic_write_bytes

    atomic_write_bytes(out, save({name: value.contiguous() for name, value in targets.items()}))


def _write_drawings(targets: dict[str, Tensor], out: Path, family: Family, columns: int) -> None:
    from limbeck.engine.evaluations.strokes.stroke_figure import save_drawings
    from limbeck.engine.evaluations.strokes.stroke_models import drawings_of

    save_drawings(None, drawings_of(family.model, targets), out, columns=columns)


def _write_grid(targets: dict[str, Tensor], out: Path, columns: int) -> None:
    from limbeck.engine.evaluations.images.image_samples import image_targets
    from limbeck.pictures import save_grid

    save_grid(image_targets(targets).numpy(), out, columns=columns)

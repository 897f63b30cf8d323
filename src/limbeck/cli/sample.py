"""``limbeck sample DIR``: draws from a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limbeck.cli.parsing import help_wanted, import_modules, new_parser, parse
from limbeck.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.core.graph import DGM

__all__ = ["at_steps", "run"]

_ENDINGS = (".png", ".safetensors", ".csv", ".npz")


def run(words: Sequence[str]) -> None:
    """Write a picture of samples, or every target as safetensors.

    Args:
        words: the command line after ``limbeck sample``.
    """
    parser = new_parser("limbeck sample", "Draw samples from a saved model, or from a pipeline of diffusers.")
    parser.add_argument("directory", type=str, help="directory of the saved model or pipeline")
    parser.add_argument("--n", type=int, default=64, help="number of samples")
    parser.add_argument(
        "--out", type=str, default=None,
        help="a .png grid, or .safetensors with all targets, or .csv or .npz with rows of a table; by default "
        "samples.png, and samples.csv of a model of tables",
    )  # fmt: skip
    parser.add_argument("--temperature", type=float, default=1.0, help="scale of the latents' noise")
    parser.add_argument("--seed", type=int, default=0, help="fixes the noise")
    parser.add_argument(
        "--domain", type=int | None, default=None, help="number of the domain to draw from, if the model has any"
    )
    parser.add_argument(
        "--class", type=int | None, default=None,
        help="number of the class to draw, if the model has any; by default each in turn",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int | None, default=None,
        help="of a diffusion model: evaluations of its network, at evenly spaced times; by default as it was saved",
    )  # fmt: skip
    parser.add_argument("--columns", type=int, default=8, help="images in a row of the grid")
    parser.add_argument("--draw", type=str, default="mean", help="'mean' of the last conditional, or a 'sample' of it")
    import_modules(parser, words)
    if help_wanted(words):
        parser.print_help()
        return
    found = parse(parser, words)
    for name in ("n", "columns"):
        if found[name] < 1:
            raise RecipeError(f"--{name} must be at least 1, not {found[name]}")
    if found.temperature < 0:
        raise RecipeError(f"--temperature must not be negative, but is {found.temperature}")
    if found.draw not in ("mean", "sample"):
        raise RecipeError(f"--draw must be 'mean' or 'sample', not {found.draw!r}")
    if found.out is not None and Path(found.out).suffix not in _ENDINGS:
        raise RecipeError(f"--out must end in .png or .safetensors, .csv or .npz, not {Path(found.out).name!r}")
    import torch

    from limbeck.core.graph import DGM

    model = at_steps(DGM.from_pretrained(found.directory), found.steps)
    try:
        generator = torch.Generator().manual_seed(found.seed)
    except (RuntimeError, ValueError):
        raise RecipeError(f"--seed={found.seed} has more than 64 bits; give a smaller number") from None
    x = _condition(model, "domain", found.domain, found.n)
    x = _condition(model, "class", found["class"], found.n) if x is None else x
    draws = _makes_drawings(model, x)
    # The mean of a pen that is down or up is neither.
    output: Literal["sample", "mean"] = "sample" if draws or found.draw == "sample" else "mean"
    targets = model.sample(found.n, x, temperature=found.temperature, generator=generator, output=output)
    rows = [value for value in targets.values() if value.ndim == 2]
    of_tables = len(rows) == len(targets) == 1
    out = Path(found.out or ("samples.csv" if of_tables else "samples.png"))
    if out.suffix in (".csv", ".npz"):
        if not of_tables:
            raise RecipeError(f"--out={out}: {type(model).__name__} makes no table; write .png or .safetensors")
        _write_table(rows[0], out)
    elif out.suffix == ".safetensors":
        from safetensors.torch import save

        from limbeck.files import atomic_write_bytes

        atomic_write_bytes(out, save({name: value.contiguous() for name, value in targets.items()}))
    elif draws:
        from limbeck.engine.evaluations.strokes.stroke_figure import save_drawings
        from limbeck.engine.evaluations.strokes.stroke_models import drawings_of

        save_drawings(None, drawings_of(model, targets), out, columns=found.columns)
    else:
        from limbeck.engine.evaluations.images.image_samples import image_targets
        from limbeck.pictures import save_grid

        save_grid(image_targets(targets).numpy(), out, columns=found.columns)
    _tell(f"{found.n} samples: {out}")


def _write_table(rows: Tensor, out: Path) -> None:
    """Rows as text, one a line with all digits, or as the array ``samples`` of an archive of numpy's."""
    import io

    import numpy as np

    from limbeck.files import atomic_write_bytes

    text = io.BytesIO()
    if out.suffix == ".npz":
        np.savez(text, samples=rows.numpy())
    else:
        names = ",".join(str(column) for column in range(rows.shape[1]))
        digits = 17 if rows.dtype.itemsize > 4 else 9
        np.savetxt(text, rows.numpy(), fmt=f"%.{digits}g", delimiter=",", header=names, comments="")
    atomic_write_bytes(out, text.getvalue())


def at_steps(model: DGM, steps: int | None) -> DGM:
    """A diffusion model whose network is evaluated so many times.

    Args:
        model: any model.
        steps: ``--steps``; ``None`` for the model as it is.

    Raises:
        RecipeError: it is no diffusion model.
    """
    from limbeck.models import DDIM

    if steps is None:
        return model
    if not isinstance(model, DDIM):
        raise RecipeError(f"--steps: {type(model).__name__} in this directory is no diffusion model; leave it out")
    return model.resampled(steps=steps, spacing="trailing", start=None)


def _condition(model: DGM, kind: Literal["domain", "class"], number: int | None, rows: int) -> Tensor | None:
    """The conditioning input that asks for one domain or class, one-hot, shape (rows, domains or classes)."""
    many = "domains" if kind == "domain" else "classes"
    count = _classes(model) if kind == "class" else getattr(model, "domains", 0)
    if not count:
        if number is not None:
            raise RecipeError(f"--{kind}: {type(model).__name__} in this directory has no {many}; leave it out")
        return None
    import torch

    if number is None and kind == "class":
        return torch.eye(count)[torch.arange(rows) % count]
    if number is None or not 0 <= number < count:
        raise RecipeError(f"--{kind}: this model has {count} {many}; give one from 0 to {count - 1}")
    return torch.eye(count)[number].expand(rows, -1)


def _classes(model: DGM) -> int:
    """How many classes a model draws images of; what a classifier tells apart is something else."""
    from limbeck.models import DDIM

    return model.classes if isinstance(model, DDIM) else 0


def _makes_drawings(model: DGM, x: Tensor | None) -> bool:
    """Whether what a model makes is rows of (dx, dy, pen), in one target or several."""
    from limbeck.models import DDIM

    if isinstance(model, DDIM):  # whose samples take long
        return False
    try:
        y = model.join_targets(model.sample(1, None if x is None else x[:1]))
    except ModelError:  # several targets that form no one y
        return False
    return y.ndim == 3 and y.shape[2] in (3, 4)


def _tell(text: str) -> None:
    from rich.console import Console

    Console().print(text, soft_wrap=True, highlight=False)

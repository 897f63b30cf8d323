"""``limbeck sample DIR``: draws from a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limbeck.cli.parsing import help_wanted, import_modules, new_parser, parse
from limbeck.errors import RecipeError

__all__ = ["run"]


def run(words: Sequence[str]) -> None:
    """Write a picture of samples, or every target as safetensors.

    Args:
        words: the command line after ``limbeck sample``.
    """
    parser = new_parser("limbeck sample", "Draw samples from a saved model.")
    parser.add_argument("directory", type=str, help="directory of the saved model")
    parser.add_argument("--n", type=int, default=64, help="number of samples")
    parser.add_argument("--out", type=str, default="samples.png", help="a .png grid, or .safetensors with all targets")
    parser.add_argument("--temperature", type=float, default=1.0, help="scale of the latents' noise")
    parser.add_argument("--seed", type=int, default=0, help="fixes the noise")
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
    out = Path(found.out)
    if out.suffix not in (".png", ".safetensors"):
        raise RecipeError(f"--out must end in .png or .safetensors, not {out.name!r}")
    import torch

    from limbeck.core.graph import DGM
    from limbeck.engine.image_samples import image_targets
    from limbeck.files import atomic_write_bytes
    from limbeck.pictures import save_grid

    model = DGM.from_pretrained(found.directory)
    generator = torch.Generator().manual_seed(found.seed)
    targets = model.sample(found.n, temperature=found.temperature, generator=generator, output=found.draw)
    if out.suffix == ".png":
        save_grid(image_targets(targets).numpy(), out, columns=found.columns)
    else:
        from safetensors.torch import save

        atomic_write_bytes(out, save({name: value.contiguous() for name, value in targets.items()}))
    _tell(f"{found.n} samples: {out}")


def _tell(text: str) -> None:
    from rich.console import Console

    Console().print(text, soft_wrap=True, highlight=False)

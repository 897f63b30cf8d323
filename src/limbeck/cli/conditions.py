"""The input x of a conditional model, as the command line tells it: a file of rows, or a class or domain by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from limbeck.cli.families import Family
from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["one_hot", "rows_in_turn"]

_TENSORS = ".safetensors"


def rows_in_turn(path: str, rows: int) -> Tensor:
    """Inputs from a file of one tensor with a row for each, again from the first where they are too few.

    Args:
        path: that ``--x`` names.
        rows: how many are wanted.

    Returns:
        Shape (rows, ...).

    Raises:
        RecipeError: the file is of another kind, or holds no or several tensors.
    """
    import torch

    from limbeck.cli.own_network import read_weights

    if not path.endswith(_TENSORS):
        raise RecipeError(f"--x={path} must be a file that ends in {_TENSORS}")
    tensors = read_weights(path)
    if len(tensors) != 1 or any(tensor.ndim == 0 or len(tensor) == 0 for tensor in tensors.values()):
        raise RecipeError(f"--x={path} must hold one tensor with a row for each input, not {sorted(tensors)}")
    (given,) = tensors.values()
    return given[torch.arange(rows) % len(given)]


def one_hot(family: Family, kind: Literal["domain", "class"], number: int | None, rows: int) -> Tensor | None:
    """The input that asks for one domain or class, or for each class in turn.

    Args:
        family: of the model.
        kind: what is numbered.
        number: from 0; ``None`` if it was not given.
        rows: how many are wanted.

    Returns:
        Shape (rows, classes or domains); ``None`` for models that have none.

    Raises:
        RecipeError: the model has none of this number, or has domains and none is named.
    """
    import torch

    many = "domains" if kind == "domain" else "classes"
    count = family.classes if kind == "class" else getattr(family.model, "domains", 0)
    if not count:
        if number is not None:
            raise RecipeError(f"--{kind}: {type(family.model).__name__} in this directory has no {many}; leave it out")
        return None
    if number is None and kind == "class":
        return torch.eye(count)[torch.arange(rows) % count]
    if number is None or not 0 <= number < count:
        raise RecipeError(f"--{kind}: this model has {count} {many}; give one from 0 to {count - 1}")
    return torch.eye(count)[number].expand(rows, -1)

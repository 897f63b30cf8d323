"""The units of a flow's networks, by name: recipes and saved models say which in a word."""

from __future__ import annotations

from torch import nn

from limbeck.errors import ModelError

__all__ = ["activation_class"]


def activation_class(name: str) -> type[nn.Module]:
    """The class of ``torch.nn`` of this name.

    Args:
        name: such as ``"SiLU"``.

    Raises:
        ModelError: there is no such class.

    Example:
        >>> activation_class("SiLU")()
        SiLU()
    """
    found = getattr(nn, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelError(f"activation must be the name of a class of torch.nn such as 'ELU', not {name!r}")
    return found

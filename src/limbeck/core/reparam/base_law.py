"""A law without the wrappers that declare some of its batch dimensions to be one event."""

from __future__ import annotations

from typing import Any

from torch.distributions import Distribution, Independent

__all__ = ["base_law"]


def base_law(law: Distribution | None) -> Any:
    """A law without its ``Independent`` wrappers, which do not change its family.

    Args:
        law: any; ``None`` stays so.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> base_law(Independent(Normal(torch.zeros(4, 3), 1.0), 1))
        Normal(loc: torch.Size([4, 3]), scale: torch.Size([4, 3]))
    """
    while isinstance(law, Independent):
        law = law.base_dist
    return law

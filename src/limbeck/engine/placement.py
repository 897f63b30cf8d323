"""Having a model on another device for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from limbeck.core.graph import DGM

__all__ = ["chosen_device", "placed"]


def chosen_device(name: str) -> torch.device:
    """A device by its name; ``"auto"`` is a GPU if there is one, else the CPU."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


@contextmanager
def placed(model: DGM, device: torch.device) -> Iterator[None]:
    """Have a model on a device, and put it back where it was."""
    before = next(model.parameters(), torch.empty(0)).device
    model.to(device)
    try:
        yield
    finally:
        model.to(before)

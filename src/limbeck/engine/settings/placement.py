"""Where a model runs: devices by their names, and having a model on another one for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM

__all__ = ["chosen_device", "placed", "running_device"]


def chosen_device(name: str) -> torch.device:
    """A device by its name; ``"auto"`` is a GPU if there is one, else the CPU."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def running_device(accelerator: str) -> torch.device:
    """Where a teacher runs beside a training: the accelerator that Lightning takes for this process, or the CPU."""
    if accelerator == "cpu" or not torch.accelerator.is_available():
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    return torch.device(kind.type, int(os.environ.get("LOCAL_RANK", "0")) % torch.accelerator.device_count())


@contextmanager
def placed(model: DGM, device: torch.device) -> Iterator[None]:
    """Have a model on a device, and put it back where it was."""
    before = first_parameter(model).device
    model.to(device)
    try:
        yield
    finally:
        model.to(before)

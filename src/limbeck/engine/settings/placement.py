"""Where a model runs: devices by their names, and having a model on another one for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.errors import RecipeError

__all__ = ["check_device", "chosen_device", "placed", "running_device"]


def chosen_device(name: str) -> torch.device:
    """A device by its name; ``"auto"`` is a GPU if there is one, else the CPU.

    Raises:
        RecipeError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    device = torch.device(name)
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    here = found is not None and device.type == found.type and (device.index or 0) < torch.accelerator.device_count()
    if device.type != "cpu" and not here:
        raise RecipeError(f"there is no device {name!r} here; give device: auto, which takes a GPU if there is one")
    return device


def check_device(name: str) -> None:
    """Check the name of a device, which may be one of another machine.

    Raises:
        RecipeError: no device has such a name.
    """
    try:
        torch.device("cpu" if name == "auto" else name)
    except RuntimeError:
        raise RecipeError(f"evaluation.device must be auto, cpu, cuda, cuda:1 or the like, not {name!r}") from None


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

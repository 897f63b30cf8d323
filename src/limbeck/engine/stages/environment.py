"""Software and hardware of a run, for its record."""

from __future__ import annotations

import os
import platform
from importlib import metadata

__all__ = ["describe_environment"]

_PACKAGES = ("limbeck", "torch", "lightning", "torchmetrics", "numpy", "scikit-learn")


def describe_environment() -> dict[str, str]:
    """Label to text: Python, packages, system, processor, threads, accelerator."""
    import torch

    found = {"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["processor"] = f"{os.cpu_count()} logical cores, {torch.get_num_threads()} threads"
    found["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found

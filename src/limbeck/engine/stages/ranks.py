"""Which of the processes of a run this is. Launchers tell each process its number in the environment."""

from __future__ import annotations

import os

__all__ = ["RANK_VARIABLES", "is_main_process", "process_rank"]

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
"""Environment variables in which launchers keep numbers of processes; the first is the number among all of them."""


def process_rank() -> str:
    """The number of this process among those that train one model together, as text.

    Returns:
        ``"0"`` for the process that writes files and for one that runs alone; otherwise the first of
        :data:`RANK_VARIABLES` that has another value.
    """
    return next((rank for name in RANK_VARIABLES if (rank := os.environ.get(name, "0")) != "0"), "0")


def is_main_process() -> bool:
    """Whether this process writes files; in distributed training the others only train."""
    return process_rank() == "0"

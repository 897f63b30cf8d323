"""Processes that end with the process that started them. Imports nothing slow, so that it starts fast."""

from __future__ import annotations

import os
import threading
import time

__all__ = ["end_with"]


def end_with(parent: int) -> None:
    """Watch the parent of this process, and end this process when the parent is gone.

    If a command is killed, its processes must not continue beside those of the next command, or wait for work forever.

    Args:
        parent: process number of the parent.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, name="limbeck-parent", daemon=True).start()

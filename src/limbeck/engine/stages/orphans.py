"""Processes that end with the one that started them, however it ended. Imports nothing slow, to start at once."""

from __future__ import annotations

import os
import threading
import time

__all__ = ["end_with"]


def end_with(parent: int) -> None:
    """Watch the parent of this process, and end when it is gone.

    A process whose command was killed must not go on beside those of the next one, nor wait for work that never comes.

    Args:
        parent: its process number.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, name="limbeck-parent", daemon=True).start()

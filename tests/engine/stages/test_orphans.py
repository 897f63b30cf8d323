"""A process ends with the one that started it."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

from limbeck.engine.stages.orphans import end_with
from tests.tiny import die


def start_and_die(sender: Connection) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=linger, args=(os.getpid(), sender))
    child.start()
    time.sleep(0.5)
    assert child.is_alive()
    die()


def linger(parent: int, sender: Connection) -> None:
    end_with(parent)
    time.sleep(60)


def test_ends_when_the_parent_is_killed() -> None:
    """The pipe closes when the last process that holds its other end is gone."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    parent = multiprocessing.get_context("fork").Process(target=start_and_die, args=(sender,))
    parent.start()
    sender.close()
    parent.join()
    begun = time.monotonic()
    try:
        assert receiver.poll(30)
        receiver.recv()
        raise AssertionError("nothing was sent")
    except EOFError:
        assert time.monotonic() - begun < 30

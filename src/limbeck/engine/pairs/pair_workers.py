"""Further processes that make pairs at the same time."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cloudpickle
import torch

from limbeck.core.graph import DGM
from limbeck.data.pairs.claims import claims
from limbeck.data.pairs.store import CLAIMS
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.pair_recording import Recording
from limbeck.engine.stages.orphans import end_with
from limbeck.engine.stages.ranks import is_main_process

__all__ = ["helpers"]


@contextlib.contextmanager
def helpers(
    recorded: Recording, teacher: DGM, pairs: Pairs, shards: Sequence[int], device: torch.device
) -> Iterator[Callable[[], None]]:
    """Start up to ``pairs.workers - 1`` further processes; they end with the context, whatever happens.

    All processes, this one included, have equal shares of the threads. Results do not depend on the number of
    processes, but the number of threads can change their rounding, as everywhere.

    Args:
        recorded: gets the pairs.
        teacher: makes the pairs; it is on the CPU.
        pairs: how many processes, and how pairs are made.
        shards: numbers of the shards to be made, each by the process that comes to it first.
        device: where the teacher runs.

    Yields:
        A function that waits until the processes are done, and raises the error that stopped one of them.
    """
    number = min(pairs.workers, len(shards)) if is_main_process() else 1
    if number == 1:
        yield lambda: None
        return
    from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

    all_threads = torch.get_num_threads()
    threads = max(1, all_threads // number)
    packed = cloudpickle.dumps((recorded, teacher, pairs, list(shards)))
    paths = [os.path.abspath(path) for path in sys.path]
    executor = ProcessPoolExecutor(number - 1, initializer=end_with, initargs=(os.getpid(),))
    torch.set_num_threads(threads)
    try:
        waiting = [executor.submit(_help, packed, os.getcwd(), paths, device, threads) for _ in range(number - 1)]

        def finish() -> None:
            for one in waiting:
                # If one was killed, the others have done its part by now.
                with contextlib.suppress(TerminatedWorkerError):
                    one.result()

        yield finish
    finally:
        torch.set_num_threads(all_threads)
        executor.shutdown(wait=True, kill_workers=True)


def _help(packed: bytes, directory: str, paths: Sequence[str], device: torch.device, threads: int) -> None:
    """The work of one further process; it is unpickled after the modules that it names can be found."""
    from limbeck.engine.pairs.pair_writing import write

    os.chdir(Path(directory))
    sys.path.extend(path for path in paths if path not in sys.path)
    torch.set_num_threads(threads)
    recorded, teacher, pairs, shards = cloudpickle.loads(packed)
    with claims(recorded.store.directory / CLAIMS) as held:
        write(recorded, teacher, pairs, shards, device, held)

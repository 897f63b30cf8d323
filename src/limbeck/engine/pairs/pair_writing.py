"""Filling a recording, by one process or several; each shard is made once, and an interruption loses little."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from limbeck.core.expectation import mean
from limbeck.core.first_parameter import first_parameter
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOTHING, Kind, Site
from limbeck.data.pairs.claims import Claims, claims
from limbeck.data.pairs.layout import encode
from limbeck.data.pairs.store import CLAIMS, PairStore
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.pair_recording import Recording
from limbeck.engine.pairs.pair_report import PairReport
from limbeck.engine.pairs.pair_sites import PairSite
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.units import amount
from limbeck.errors import ModelError

__all__ = ["fill", "write"]

_WAIT = 0.1  # seconds between two looks at what other processes have done
_TOLD = 1.0  # seconds of checking above which there is a message


def fill(
    recorded: Recording, teacher: DGM, pairs: Pairs, progress: Progress, device: torch.device, label: str = "pairs"
) -> None:
    """Make the missing pairs, together with any other process that does the same; return when all pairs are there.

    Existing files are checked first. A damaged one is named and made again; the others are kept.

    Args:
        recorded: gets the pairs.
        teacher: makes the pairs; it is moved to the device, and back to the CPU.
        pairs: how many pairs, and how they are made.
        progress: receives runs of the teacher, size and time.
        device: where the teacher runs.
        label: what to call this.

    Raises:
        ModelError: the teacher makes numbers that are not finite.
        StorageError: the disk is full, or permission is missing.
    """
    from limbeck.engine.pairs.pair_workers import helpers

    store = recorded.store
    with claims(store.directory / CLAIMS) as held:
        held.clean()
        missing = _missing(store, pairs, held, progress, label)
        report = PairReport(pairs, store, len(missing), progress, label)
        if missing:
            with helpers(recorded, teacher, pairs, missing, device) as wait_for_them:
                write(recorded, teacher, pairs, missing, device, held, report)
                wait_for_them()
            teacher.cpu()


def _missing(store: PairStore, pairs: Pairs, held: Claims, progress: Progress, label: str) -> list[int]:
    """Numbers of the shards to be made; damaged ones are deleted."""
    begun, there = time.monotonic(), 0
    shards = store.shards(pairs.rows)
    for shard in shards:
        if not store.has(shard):
            continue
        there += 1
        if not store.damage(shard):
            continue
        held.take(shard, wait=True)
        # Another process may have found it too, and mended it meanwhile.
        why = store.damage(shard) if store.has(shard) else ""
        if why:
            progress.message(f"{label}: {store.path(shard)} is damaged ({why}); it is made again.")
            store.remove(shard)
        held.release(shard)
    seconds = time.monotonic() - begun
    if seconds > _TOLD:
        size = amount(there * store.layout.shard_rows * store.layout.row_bytes)
        progress.message(f"{label}: checked {size} in {seconds:.0f} s.")
    return [shard for shard in shards if not store.has(shard)]


def write(
    recorded: Recording,
    teacher: DGM,
    pairs: Pairs,
    shards: Sequence[int],
    device: torch.device,
    held: Claims,
    report: PairReport | None = None,
) -> None:
    """Write shards that no other process has written or is writing, until all of them are there.

    Args:
        recorded: gets the pairs.
        teacher: makes the pairs; it is moved to the device.
        pairs: has the number of rows that the teacher makes at once.
        shards: numbers of the shards.
        device: where the teacher runs.
        held: claims on shards.
        report: receives each run of the teacher, and each shard that another process made.
    """
    teacher.to(device)
    store, waiting = recorded.store, list(shards)
    while waiting:
        busy = []
        for shard in waiting:
            own = False
            if not store.has(shard):
                if not held.take(shard):
                    busy.append(shard)
                    continue
                try:
                    if not store.has(shard):
                        own = True
                        store.write(shard, _made(recorded, teacher, pairs, shard, report))
                finally:
                    held.release(shard)
            if report is not None and not own:
                report.elsewhere()
        waiting = busy
        if waiting:
            time.sleep(_WAIT)


def _made(recorded: Recording, teacher: DGM, pairs: Pairs, shard: int, report: PairReport | None) -> dict[str, Tensor]:
    """The rows of a shard: field name to values as stored, a pure function of teacher and shard."""
    parts: dict[str, list[Tensor]] = {site.name: [] for site in recorded.sites if site.dtype is not None}
    for pages in _batches(pairs, shard):
        for name, rows in _rows(recorded, teacher, pages, report).items():
            parts[name].append(rows)
        if report is not None:
            report.made()
    return {name: torch.cat(rows) for name, rows in parts.items()}


def _batches(pairs: Pairs, shard: int) -> Iterator[range]:
    """Pages of each run of the teacher, which do not depend on the number of processes."""
    size = pairs.shard_rows // pairs.page_rows
    for start in range(0, size, pairs.batch_pages):
        yield range(shard * size + start, shard * size + min(start + pairs.batch_pages, size))


def _rows(recorded: Recording, teacher: DGM, pages: range, report: PairReport | None) -> dict[str, Tensor]:
    like = first_parameter(teacher)
    chosen, noise = recorded.noise.draw(pages)
    given = {name: value.to(like) for name, value in noise.items()}
    count = len(pages) * recorded.noise.page_rows
    for site in recorded.sites:
        if site.kind == "target":
            given[site.name] = like.new_zeros(count, *site.shape)  # only the law is kept: nothing needs to be drawn
    wanted = {site.name for site in recorded.sites if site.dtype is not None}

    def keep(name: str, kind: Kind) -> int:
        return KEEP_DISTRIBUTION if name in wanted else KEEP_NOTHING

    first = pages[0] * recorded.noise.page_rows
    where = f"in the pairs {first} to {first + count - 1}"
    try:
        with frozen(teacher):
            trace = teacher.trace(count, recorded.inputs_of(chosen, like), noise=given, keep=keep)
    except ValueError as error:  # a law that checks its parameters
        told = str(error).splitlines()[0]
        raise ModelError(f"pairs: the teacher makes numbers that are not finite, {where} ({told})") from None
    return {site.name: _stored(site, trace[site.name], where, report) for site in recorded.sites if site.dtype}


def _stored(site: PairSite, found: Site, where: str, report: PairReport | None) -> Tensor:
    """The mean of a target or the value of a state as it is stored, shape (rows, ...), on the CPU."""
    assert site.dtype is not None
    values = mean(found.kept_distribution())
    rows = encode(values, site.dtype).cpu()
    if site.dtype == "uint8":
        if report is not None:
            report.clamped(site.name, values)
        finite = values.isfinite()
    else:
        finite = rows.isfinite()
    if not bool(finite.all()):
        large = f" or too large for {site.dtype}" if site.dtype == "float16" else ""
        raise ModelError(f"pairs: the teacher's {site.name!r} has numbers that are not finite{large}, {where}")
    return rows

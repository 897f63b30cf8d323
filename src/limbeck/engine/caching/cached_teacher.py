"""A teacher whose outputs are looked up by its inputs; couplings and objectives need not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Distribution
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.reparam import Law
from limbeck.core.reparam.discrete_gradient import Relaxation
from limbeck.core.sites import Sites
from limbeck.core.stand_in import StandIn
from limbeck.core.trace import KEEP_DISTRIBUTION, Keep, Kind, Trace, keep_all, keep_fields
from limbeck.data.caching.row_keys import RowKeys
from limbeck.data.caching.store import CacheStore, Column
from limbeck.engine.caching.cached_laws import dismantle, laid_out, rebuild
from limbeck.engine.stages.progress import Progress
from limbeck.errors import ModelError

__all__ = ["KEYS", "CachedSite", "CachedTeacher"]

KEYS = "keys"
"""Name of the array that holds the two hashes of each row."""

_TOLD_FROM = 1000  # rows requested before anything is said of how many are missing
_MANY = 0.1  # share of missing rows above which the cache does not help


@dataclass(frozen=True)
class CachedSite:
    """A site of the teacher's program.

    Attributes:
        name: the site's.
        kind: deterministic or target.
        columns: parameter of its law to the array that holds it; ``None`` if it is not stored.
    """

    name: str
    kind: Kind
    columns: Mapping[str, Column] | None


class CachedTeacher(StandIn):
    """A teacher without latents that knows its outputs for many inputs, made by :func:`limbeck.engine.cached`.

    Each row of an input is identified by a hash of its bits, so that neither the number and the order of the rows
    matter, nor who shuffles and augments them. For a known row the sites have the stored laws. For any other row the
    teacher runs, which is as right and only slower. It also runs for a site that was not stored, and where a run is
    given noises, values or a temperature.

    In some matrix products of odd sizes, rounding depends on the place of a row in its batch. Outputs, and so losses,
    then equal those of the teacher up to rounding; otherwise they are the same bit for bit.

    Args:
        source: the teacher.
        store: its outputs.
        sites: all sites of its program, in the order of the program.
        progress: receives a message if many rows are not known.

    Attributes:
        rows_requested: number of rows that runs were given so far.
        missed: number of those that the teacher had to run for.
    """

    def __init__(
        self, source: DGM, store: CacheStore, sites: tuple[CachedSite, ...], progress: Progress | None = None
    ) -> None:
        super().__init__(source)
        self.store = store
        self.sites = sites
        self.rows_requested = 0
        self.missed = 0
        self._progress = progress or Progress()
        self._told: set[str] = set()
        self._keys = RowKeys()
        known = store.array(KEYS)
        order = known[:, 0].argsort(stable=True)
        self._sorted = known[order]
        self._order = order

    @override
    def trace(
        self,
        batch_size: int | None = None,
        x: Tensor | None = None,
        *,
        noise: Mapping[str, Tensor] | None = None,
        laws: Mapping[str, Law] | None = None,
        values: Mapping[str, Tensor] | None = None,
        keep: Keep = keep_all,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        relaxation: Relaxation | None = None,
    ) -> Trace:
        """Look up a run; see :meth:`limbeck.DGM.trace`."""
        real = x is None or noise is not None or values is not None or temperature != 1.0
        run = self.source.trace if real else super().trace
        return run(batch_size, x, noise=noise, laws=laws, values=values, keep=keep, generator=generator,
                   temperature=temperature, relaxation=relaxation)  # fmt: skip

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Declare what the teacher would, from what is stored of it."""
        if x is None:
            raise ModelError("a cached teacher is asked for known inputs; give x, or ask the teacher itself (.source)")
        found = _Looked(self, x)
        for site in self.sites:
            if site.kind is Kind.TARGET:
                sites.target(site.name, found.law(site))
            else:
                sites.derived(site.name, partial(found.value, site))

    @override
    def key_parts(self) -> dict[str, object]:
        """The key of the stored outputs, which may be rounded."""
        return {"cached": self.store.key}

    def look_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where rows are stored.

        Args:
            x: shape (batch, ...).

        Returns:
            Their places in the store (int64), and whether they are missing there, so that the place means nothing
            (bool); both on the CPU, shape (batch,).
        """
        first, second = (hashes.cpu() for hashes in self._keys(x))
        place = torch.searchsorted(self._sorted[:, 0].contiguous(), first).clamp_(max=len(self._sorted) - 1)
        there = (self._sorted[place, 0] == first) & (self._sorted[place, 1] == second)
        missing = int((~there).sum())
        self.rows_requested += len(x)
        self.missed += missing
        if missing and self.rows_requested >= _TOLD_FROM and self.missed > _MANY * self.rows_requested:
            self.tell(
                "missed",
                f"teacher cache: {self.missed} of {self.rows_requested} rows are not in it, and the teacher runs for "
                "them; is there augmentation without a fixed number of views?",
            )
        return self._order[place], ~there

    def tell(self, subject: str, text: str) -> None:
        """Report something, once per subject."""
        if subject not in self._told:
            self._told.add(subject)
            self._progress.message(text)


class _Looked:
    """One batch: what is stored of it, and runs of the teacher for the rest, made only when they are needed."""

    def __init__(self, teacher: CachedTeacher, x: Tensor) -> None:
        self.teacher = teacher
        self.x = x
        self.places, absent = teacher.look_up(x)
        self.absent = absent.nonzero().flatten()
        self._whole: Trace | None = None
        self._rest: Trace | None = None

    def value(self, site: CachedSite) -> Tensor:
        """The value of a deterministic site, shape (batch, ...)."""
        law = self.law(site)
        value: Tensor = law.value  # type: ignore[attr-defined]
        return value

    def law(self, site: CachedSite) -> Distribution:
        """The law of a site, batch first."""
        if site.columns is None or len(self.absent) == len(self.x):
            if site.columns is None:
                self.teacher.tell(
                    site.name,
                    f"teacher cache: {site.name!r} is asked for, but was not stored, so the teacher runs for it in "
                    "each step",
                )
            self._whole = self._run(self.x) if self._whole is None else self._whole
            return _law(self._whole, site.name)
        parameters = {name: self._read(column) for name, column in site.columns.items()}
        if len(self.absent):
            self._rest = self._run(self.x[self.absent.to(self.x.device)]) if self._rest is None else self._rest
            fresh, _ = dismantle(_law(self._rest, site.name), site.name)
            for name, rows in parameters.items():
                rows[self.absent.to(rows.device)] = fresh[name].to(rows.dtype)
        return rebuild(parameters, next(iter(site.columns.values())).details["law"])

    def _read(self, column: Column) -> Tensor:
        rows = self.teacher.store.array(column.name)[self.places].to(self.x.device)
        return laid_out(rows.to(getattr(torch, column.details["dtype"])), column.details["order"])

    def _run(self, x: Tensor) -> Trace:
        # With a generator of its own: the targets that it draws are not used, and all other random numbers stay as
        # they are.
        generator = torch.Generator(device=x.device)
        source = self.teacher.source
        with torch.no_grad():
            keep = keep_fields(KEEP_DISTRIBUTION, Kind.DETERMINISTIC, Kind.TARGET)
            return source.trace(x=x, keep=keep, generator=generator)


def _law(trace: Trace, name: str) -> Distribution:
    return trace[name].kept_distribution()

"""A teacher that replays recorded runs; couplings and objectives need not know that it does not run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Normal
from typing_extensions import override

from limbeck.core.delta import Delta
from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.reparam import Law
from limbeck.core.reparam.discrete_gradient import Relaxation
from limbeck.core.reparam.noise import draw
from limbeck.core.stand_in import StandIn
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOISE, KEEP_VALUE, Keep, Kind, Site, Trace, keep_all
from limbeck.data.pairs.layout import decode
from limbeck.engine.pairs.pair_recording import Recording
from limbeck.engine.pairs.pair_rows import PairRows
from limbeck.engine.pairs.pair_sites import PairSite
from limbeck.errors import ModelError

__all__ = ["RecordedTeacher"]


class RecordedTeacher(StandIn):
    """A teacher whose runs were recorded: :meth:`trace` reads random ones of them instead of running it.

    Latents, the laws of the targets and the stored states are those of the real teacher, up to the rounding of the
    stored means. The real teacher itself (:attr:`source`) does the runs that are given noises, values or a temperature,
    and all inference. An objective that needs more than runs takes it by :func:`~limbeck.core.stand_in.real_model`.

    Rows are read in whole pages, which are chosen at random with replacement by the generator, by default torch's
    global one on the CPU. The engine seeds that one for each step, so that a training that continues reads the same
    rows. Reading takes some microseconds per row (``benchmarks/pairs.py``), so no thread reads ahead.

    A teacher with a conditioning input was recorded with inputs of its own. Ask for rows first, and pass their input::

        x = teacher.choose(batch_size)
        loss = objective(teacher, student, x=x).total

    Args:
        source: the real teacher.
        recorded: its runs.
        first: the first page that is replayed.
        pages: number of pages that are replayed.
        held_out: number of pages before ``first`` that make up :attr:`held_out`.
    """

    chooses_inputs = True

    def __init__(self, source: DGM, recorded: Recording, first: int, pages: int, held_out: int = 0) -> None:
        super().__init__(source)
        self.recorded = recorded
        self.first = first
        self.pages = pages
        self.held_out_pages = held_out
        self._chosen: PairRows | None = None
        self._x: Tensor | None = None

    def __len__(self) -> int:
        return self.pages * self._page_rows

    @property
    def _page_rows(self) -> int:
        return self.recorded.noise.page_rows

    @property
    @override
    def held_out_rows(self) -> int:
        """Number of pairs that this teacher never replays."""
        return self.held_out_pages * self._page_rows

    @cached_property
    def held_out(self) -> RecordedTeacher | None:
        """The same teacher on the pairs that this one never replays; ``None`` if none were held out."""
        if not self.held_out_pages:
            return None
        return RecordedTeacher(self.source, self.recorded, self.first - self.held_out_pages, self.held_out_pages)

    @override
    def key_parts(self) -> dict[str, object]:
        """Which pairs these are, and how they are stored."""
        return {"pairs": [self.recorded.store.layout.key, self.first, self.pages, self.held_out_pages]}

    # ------------------------------------------------------------------------------------------------ which rows

    @override
    def choose(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Choose the rows of the next runs, if the teacher has a conditioning input.

        Args:
            batch_size: number of rows.
            generator: source of the choice; by default torch's global one.

        Returns:
            Their conditioning input, shape (batch_size, ...), to be passed to the runs; ``None`` if the teacher has
            none. Then nothing is chosen, and each run has rows of its own.
        """
        if self.recorded.inputs is None:
            return None
        return self._choose(PairRows.random(self.first, self.pages, self._page_rows, batch_size, generator))

    @contextlib.contextmanager
    def reading(self, start: int, stop: int) -> Iterator[Tensor | None]:
        """Inside the context, every run replays the rows from ``start`` up to ``stop``.

        Args:
            start: number of a row, from 0.
            stop: one beyond the last, at most ``len(self)``.

        Yields:
            Their conditioning input, shape (stop - start, ...); ``None`` if the teacher has none.
        """
        try:
            yield self._choose(PairRows.span(self.first, self._page_rows, start, stop))
        finally:
            self._chosen = self._x = None

    def _choose(self, rows: PairRows) -> Tensor | None:
        self._chosen = rows
        numbers = self.recorded.noise.inputs_only(rows.pages)
        self._x = self.recorded.inputs_of(None if numbers is None else rows.of(numbers), self._like())
        return self._x

    def _wanted(self, batch_size: int | None, x: Tensor | None, generator: torch.Generator | None) -> PairRows:
        chosen = self._chosen
        if self.recorded.inputs is None:
            if chosen is not None:
                return chosen
            size = batch_size if batch_size is not None or x is None else len(x)
            if size is None:
                raise ModelError("how many rows? Give batch_size")
            return PairRows.random(self.first, self.pages, self._page_rows, size, generator)
        if chosen is None or x is None or not _same(x, self._x):
            raise ModelError(
                "this recorded teacher has conditioning inputs of its own: take x = teacher.choose(batch_size), then "
                "pass x=x; or ask the teacher itself (teacher.source)"
            )
        return chosen

    # ------------------------------------------------------------------------------------------------------- runs

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
        """Replay recorded runs; see :meth:`limbeck.DGM.trace`.

        With ``keep_all``, the default, states that were not stored are left out.

        Raises:
            ModelError: a state is to be kept that was not stored, or ``x`` is not what :meth:`choose` returned.
        """
        if noise is not None or values is not None or temperature != 1.0:
            return self.source.trace(batch_size, x, noise=noise, laws=laws, values=values, keep=keep,
                                     generator=generator, temperature=temperature, relaxation=relaxation)  # fmt: skip
        rows = self._wanted(batch_size, x, generator)
        drawn: dict[str, Tensor] | None = None
        sites: dict[str, Site] = {}
        for site in self.recorded.sites:
            kept = keep(site.name, Kind(site.kind))
            if not kept:
                continue
            if site.kind == "latent":
                drawn = self.recorded.noise.draw(rows.pages)[1] if drawn is None else drawn
                sites[site.name] = self._latent(site, self._placed(drawn[site.name], rows), kept)
            elif site.dtype is not None:
                stored = self._placed(self.recorded.store.read(site.name, rows.pages), rows)
                sites[site.name] = self._stored(site, stored, kept, generator)
            elif keep is not keep_all:
                raise ModelError(self._not_stored(site.name))
        return Trace(sites, rows.count, [site.name for site in self.recorded.sites])

    def _latent(self, site: PairSite, noise: Tensor, kept: int) -> Site:
        zeros = torch.zeros_like(noise)
        law = Normal(zeros, torch.ones_like(zeros), validate_args=False) if kept & KEEP_DISTRIBUTION else None
        return Site(site.name, Kind.LATENT, Law.NORMAL, law, noise if kept & KEEP_VALUE else None,
                    noise if kept & KEEP_NOISE else None)  # fmt: skip

    def _stored(self, site: PairSite, value: Tensor, kept: int, generator: torch.Generator | None) -> Site:
        if site.kind == "deterministic":
            delta = Delta(value) if kept & KEEP_DISTRIBUTION else None
            return Site(site.name, Kind.DETERMINISTIC, Law.NONE, delta, value if kept & KEEP_VALUE else None)
        found = Site(site.name, Kind.TARGET, Law.NORMAL)
        if kept & KEEP_DISTRIBUTION:
            found.distribution = site.law_of(value)
        if kept & (KEEP_VALUE | KEEP_NOISE):
            noise = draw(Law.NORMAL, value.shape, value, generator)
            found.noise = noise if kept & KEEP_NOISE else None
            found.value = value + site.scale * noise if kept & KEEP_VALUE else None
        return found

    def _placed(self, read: Tensor, rows: PairRows) -> Tensor:
        """Rows on the teacher's device and in its precision; bytes are decoded after the transfer."""
        like = self._like()
        return decode(rows.of(read).to(like.device), like.dtype)

    def _like(self) -> Tensor:
        return first_parameter(self.source)

    def _not_stored(self, name: str) -> str:
        stored = [site.name for site in self.recorded.sites if site.kind == "deterministic" and site.dtype is not None]
        return (
            f"the recorded pairs hold no state {name!r}, which the objective asks for; add it to pairs.states "
            f"(now: {', '.join(stored) or 'none'}), or let the teacher run anew (pairs: false)"
        )


def _same(x: Tensor, chosen: Tensor | None) -> bool:
    return x is chosen or (chosen is not None and x.shape == chosen.shape and torch.equal(x, chosen.to(x)))

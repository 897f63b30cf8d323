"""What a pair holds of a teacher's run: its noise as a seed, the means of its targets, and states on request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from limbeck.core.first_parameter import first_parameter
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.reparam import Law
from limbeck.core.trace import Kind, Site
from limbeck.data.pairs.layout import PairDtype, PairField
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.errors import ModelError

__all__ = ["PairNoise", "PairSite", "noise_probe", "sites_of"]

_PROBED = 2  # rows of the run that shows what a teacher's sites are
_DIGITS = 8  # multiplies the noise of the probe before it is rounded


@dataclass(frozen=True)
class PairSite:
    """One site of a recorded teacher.

    Attributes:
        name: its name.
        kind: ``"latent"``, ``"target"`` or ``"deterministic"``.
        shape: of one row.
        dtype: how it is stored; ``None`` if it is not, as a latent, which is drawn again from its seed.
        scale: for a target, the standard deviation of its law.
        event_dims: for a target, the number of dimensions of a row that its law counts as one event.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: PairDtype | None = None
    scale: float = 1.0
    event_dims: int = 0

    @property
    def field(self) -> PairField | None:
        """The array that stores it."""
        return None if self.dtype is None else PairField(self.name, self.shape, self.dtype)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> PairSite:
        """The inverse of :func:`dataclasses.asdict`, also after JSON."""
        return cls(**{**record, "shape": tuple(record["shape"])})

    def law_of(self, mean: Tensor) -> Distribution:
        """The law of a target with a stored mean.

        Args:
            mean: shape (batch, *shape).
        """
        law = Normal(mean, torch.full_like(mean, self.scale), validate_args=False)
        return Independent(law, self.event_dims, validate_args=False) if self.event_dims else law


def sites_of(teacher: DGM, pairs: Pairs, x: Tensor | None = None) -> list[PairSite]:
    """Which sites a teacher has and how they are stored, from one run of two rows.

    Args:
        teacher: the model.
        pairs: how to store them.
        x: conditioning inputs, shape (inputs, ...), if the model has one.

    Returns:
        All sites in the order of the program.

    Raises:
        ModelError: a latent is not standard normal, a target's law is not a Gaussian of one scale, or a state to be
            stored does not exist.
    """
    like = first_parameter(teacher)
    example = None if x is None else x[torch.arange(_PROBED) % len(x)].to(like)
    with frozen(teacher), seeded(0):
        trace = teacher.trace(_PROBED if example is None else None, example)
    patterns = [re.compile(re.escape(state).replace(r"\*", ".*")) for state in pairs.states]
    found = [_described(site, pairs, patterns) for _, site in trace.items()]
    for text, pattern in zip(pairs.states, patterns, strict=True):
        if not any(site.kind == "deterministic" and pattern.fullmatch(site.name) for site in found):
            known = ", ".join(site.name for site in found if site.kind == "deterministic") or "none"
            raise ModelError(f"pairs.states: the teacher has no deterministic site {text!r}; it has: {known}")
    return found


def _described(site: Site, pairs: Pairs, patterns: Sequence[re.Pattern[str]]) -> PairSite:
    law = site.kept_distribution()
    plain, event_dims = (law.base_dist, law.reinterpreted_batch_ndims) if isinstance(law, Independent) else (law, 0)
    shape = tuple(law.batch_shape + law.event_shape)[1:]
    if site.mask is not None:
        raise ModelError(f"pairs: {site.name!r} does not exist in every row, which cannot be recorded; {_MEND}")
    if site.kind is Kind.DETERMINISTIC:
        stored = any(pattern.fullmatch(site.name) for pattern in patterns)
        return PairSite(site.name, "deterministic", shape, pairs.state_dtype if stored else None)
    if site.kind is Kind.LATENT:
        standard = isinstance(plain, Normal) and bool((plain.loc == 0).all()) and bool((plain.scale == 1).all())
        if not standard or event_dims or site.law is not Law.NORMAL:
            raise ModelError(f"pairs: the latent {site.name!r} is not standard normal given all others; {_MEND}")
        return PairSite(site.name, "latent", shape)
    if not isinstance(plain, Normal) or not bool((plain.scale == plain.scale.flatten()[0]).all()):
        raise ModelError(
            f"pairs: the law of the target {site.name!r} is {law}, but only a Gaussian of one fixed scale can be "
            f"recorded; {_MEND}"
        )
    return PairSite(site.name, "target", shape, pairs.dtype, float(plain.scale.flatten()[0]), event_dims)


_MEND = "leave pairs out, and the teacher runs anew in each step"


@dataclass(frozen=True)
class PairNoise:
    """The noise of every page as a pure function of its number.

    A page has one seed. It gives the conditioning input of each row first, then the noise of each latent in the order
    of the program, always on the CPU and in float32.

    Attributes:
        seed: of all pages.
        page_rows: rows of a page.
        latents: name to shape of one row.
        inputs: number of conditioning inputs; 0 if there are none.
    """

    seed: int
    page_rows: int
    latents: Mapping[str, tuple[int, ...]]
    inputs: int = 0

    def draw(self, pages: Sequence[int]) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The noise of some pages, one after another.

        Args:
            pages: their numbers.

        Returns:
            Which conditioning input each row has, shape (len(pages) * page_rows,), if there are any; and latent name to
            noise, shape (len(pages) * page_rows, ...).
        """
        rows = self.page_rows
        noise = {name: torch.empty(len(pages) * rows, *shape) for name, shape in self.latents.items()}
        chosen = torch.empty(len(pages) * rows, dtype=torch.int64) if self.inputs else None
        for place, generator in enumerate(self._generators(pages)):
            part = slice(place * rows, (place + 1) * rows)
            if chosen is not None:
                torch.randint(self.inputs, (rows,), generator=generator, out=chosen[part])
            for name, shape in self.latents.items():
                torch.randn(rows, *shape, generator=generator, out=noise[name][part])
        return chosen, noise

    def inputs_only(self, pages: Sequence[int]) -> Tensor | None:
        """The first of the two results of :meth:`draw`."""
        if not self.inputs:
            return None
        rows = (self.page_rows,)
        return torch.cat([torch.randint(self.inputs, rows, generator=one) for one in self._generators(pages)])

    def _generators(self, pages: Sequence[int]) -> Iterator[torch.Generator]:
        generator = torch.Generator()  # one for all: a new one costs as much as a page of small images
        for page in pages:
            yield generator.manual_seed(derive_seed(self.seed, "pairs", page))


def noise_probe() -> str:
    """Hash of a few numbers, which is another one if a version of torch draws other noise from the same seed.

    The numbers are rounded: processors differ in the last bits, and pairs may be read on another one than made them.
    """
    numbers = torch.randn(64, generator=torch.Generator().manual_seed(0))
    return hashlib.sha256(repr(numbers.mul(_DIGITS).round().int().tolist()).encode()).hexdigest()[:16]

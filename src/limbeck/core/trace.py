"""Sites and traces: what one run of a program leaves behind.

A :class:`Trace` maps site names to :class:`Site` records in the order in which the program declared them. What a record
holds is decided by the caller (see :data:`KEEP_ALL`), so that a long program costs no more memory than its loss needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor
from torch.distributions import Distribution
from typing_extensions import override

from limbeck.core.precision import precise
from limbeck.core.reparam import Law
from limbeck.core.stacking import family
from limbeck.errors import SiteError

__all__ = [
    "KEEP_ALL",
    "KEEP_DISTRIBUTION",
    "KEEP_NOISE",
    "KEEP_NOTHING",
    "KEEP_SHARED_NOISE",
    "KEEP_VALUE",
    "Keep",
    "Kind",
    "Site",
    "Trace",
    "keep_all",
    "keep_fields",
    "keep_only",
]

# Plain integers rather than an enum.Flag: they are tested at every site of every step.
KEEP_NOTHING = 0
KEEP_DISTRIBUTION = 1
KEEP_VALUE = 2
KEEP_NOISE = 4
KEEP_ALL = KEEP_DISTRIBUTION | KEEP_VALUE | KEEP_NOISE


class Kind(Enum):
    """What a site is for ([U] Sec. 2: latent variables z, target variables y; hidden features f of Eq. 8).

    A coupling may put further sites beside those of the generative program: a posterior is a latent of the inference
    program, a reconstruction is a target decoded from a code, and the data's value of a target is a site too.
    """

    LATENT = "latent"
    DETERMINISTIC = "deterministic"
    TARGET = "target"
    POSTERIOR = "posterior"
    RECONSTRUCTION = "reconstruction"
    DATA = "data"

    # Kinds are dictionary keys at every site of every step, and Enum's own hash is a call of Python code.
    __hash__ = object.__hash__


KEEP_SHARED_NOISE = {Kind.LATENT: KEEP_NOISE, Kind.TARGET: KEEP_VALUE, Kind.DETERMINISTIC: KEEP_NOTHING}
"""What a student that shares its teacher's noise is given of a run: the latents' noise and the targets' values."""

Keep = Callable[[str, Kind], int]
"""Decides from a site's name and kind which of its fields a trace stores (a sum of ``KEEP_*``)."""


def keep_all(name: str, kind: Kind) -> int:
    """Store everything about every site: for inspecting a model."""
    return KEEP_ALL


def keep_only(wanted: str) -> Keep:
    """Store the distribution of one site and nothing else."""
    return lambda name, kind: KEEP_DISTRIBUTION if name == wanted else KEEP_NOTHING


def keep_fields(fields: int, *kinds: Kind) -> Keep:
    """Store the same fields of every site of some kinds, and nothing of the other sites.

    Args:
        fields: a sum of ``KEEP_*``.
        kinds: which sites; all of them if none are given.

    Example:
        >>> keep = keep_fields(KEEP_VALUE, Kind.TARGET)
        >>> keep("y", Kind.TARGET) == KEEP_VALUE, keep("z", Kind.LATENT) == KEEP_NOTHING
        (True, True)
    """
    if not kinds:
        return lambda name, kind: fields
    return lambda name, kind: fields if kind in kinds else KEEP_NOTHING


@dataclass(slots=True)
class Site:
    """One variable of a run.

    Attributes:
        name: unique within the program, e.g. ``"z1"`` or ``"z[3]"``.
        kind: latent, deterministic or target.
        law: law of the noise that drew it.
        distribution: its conditional distribution given its parents; batch first. ``None`` if not kept.
        value: its value, shape ``distribution.batch_shape + distribution.event_shape``. ``None`` if not kept.
        noise: the noise it was drawn from; ``None`` if not kept, or if the value was given.
        mask: the rows in which the site exists, bool of shape (batch,); ``None`` where it exists in all.
    """

    name: str
    kind: Kind
    law: Law
    distribution: Distribution | None = None
    value: Tensor | None = None
    noise: Tensor | None = None
    mask: Tensor | None = None

    def kept_distribution(self) -> Distribution:
        """The distribution, where the program needs one.

        Raises:
            SiteError: it was not kept.
        """
        if self.distribution is None:
            raise SiteError(f"site {self.name!r}: its distribution was not kept")
        return self.distribution

    def kept_value(self) -> Tensor:
        """The value, where the program needs one.

        Raises:
            SiteError: it was not kept.
        """
        if self.value is None:
            raise SiteError(f"site {self.name!r}: its value was not kept")
        return self.value


class Trace:
    """Ordered mapping from site name to :class:`Site`.

    It differs from :class:`dict` in one point: :attr:`values` is the mapping from names to *sampled values*, in the
    shape that :meth:`limbeck.DGM.trace` takes back, as :attr:`noise` is for noises.

    Attributes:
        batch_size: number of rows.
        declared: names of all sites of the run in the order of the program, kept or not.
        given: names for which the run was given values, as far as the program did not ask for them by itself.
    """

    __slots__ = ("_sites", "batch_size", "declared", "given")

    def __init__(self, sites: dict[str, Site], batch_size: int, declared: Iterable[str] = ()) -> None:
        self._sites = sites
        self.batch_size = batch_size
        self.declared = declared
        self.given: set[str] = set()

    def __getitem__(self, name: str) -> Site:
        try:
            return self._sites[name]
        except KeyError:
            raise SiteError(f"no site {name!r} was kept; this trace has: {', '.join(self._sites) or 'none'}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._sites

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    @override
    def __repr__(self) -> str:
        return f"Trace({', '.join(f'{name}: {site.kind.value}' for name, site in self._sites.items())})"

    def keys(self) -> KeysView[str]:
        """Site names in the order of the program."""
        return self._sites.keys()

    def items(self) -> ItemsView[str, Site]:
        """Names and sites in the order of the program."""
        return self._sites.items()

    def of_kind(self, *kinds: Kind) -> list[Site]:
        """The kept sites of the given kinds, in the order of the program."""
        return [site for site in self._sites.values() if site.kind in kinds]

    @property
    def noise(self) -> dict[str, Tensor]:
        """Name to noise, for every random site that was drawn here and whose noise was kept."""
        return {name: site.noise for name, site in self._sites.items() if site.noise is not None}

    @property
    def laws(self) -> dict[str, Law]:
        """Name to law of its noise, for every site of :attr:`noise`."""
        return {name: site.law for name, site in self._sites.items() if site.noise is not None}

    @property
    def values(self) -> dict[str, Tensor]:
        """Name to value of every random site whose value was kept."""
        return {
            name: site.value
            for name, site in self._sites.items()
            if site.value is not None and site.kind is not Kind.DETERMINISTIC
        }

    @property
    def targets(self) -> dict[str, Tensor]:
        """Name to value of every target whose value was kept."""
        return {s.name: s.value for s in self.of_kind(Kind.TARGET) if s.value is not None}

    def add(self, site: Site) -> None:
        """Append a site that the program itself did not declare.

        Args:
            site: under a name that is not in use.
        """
        self._sites[site.name] = site
        self.declared = [*self.declared, site.name]

    def beside(self, other: Trace, suffix: str, kind: Kind) -> Trace:
        """This trace followed by the sites of another run, all as sites of one kind.

        Args:
            other: a run with the same number of rows.
            suffix: is appended to its names, so that they differ from those of this trace.
            kind: the kind that its sites have here.
        """
        sites = dict(self._sites)
        for name, site in other.items():
            sites[name + suffix] = dataclasses.replace(site, name=name + suffix, kind=kind)
        return Trace(sites, self.batch_size, [*self.declared, *(name + suffix for name in other.declared)])

    def log_prob(self, *kinds: Kind) -> Tensor:
        """Log density of the kept values under their own conditionals, summed over sites.

        Args:
            kinds: kinds of random site to include; by default latents and targets: log p(y, z | x), [U] Eq. 1.

        Returns:
            Shape (batch,), in nats, in single precision or better.

        Raises:
            SiteError: a site's distribution or value was not kept, or a value was given under a name of no site.
        """
        self._check_given()
        total: Tensor | None = None
        for site in self.of_kind(*(kinds or (Kind.LATENT, Kind.TARGET))):
            if site.distribution is None or site.value is None:
                raise SiteError(f"site {site.name!r}: its distribution and value were not kept, so it has no log_prob")
            # A law may be in half precision, as under autocast: its sums would keep two or three digits.
            columns = -1 if self.batch_size else 0  # of no rows, torch cannot tell how long they are
            term = precise(site.distribution.log_prob(site.value)).reshape(self.batch_size, columns).sum(1)
            if site.mask is not None:
                term = torch.where(site.mask, term, 0.0)
            total = term if total is None else total + term
        if total is None:
            raise SiteError("the trace has no site of the kinds asked for, so it has no log_prob")
        return total

    def _check_given(self) -> None:
        """Refuse the density of a run that was given values of no site: those meant instead were drawn, or are missing.

        A loop may stop before its last value, so that a name with an index need not be that of a site.
        """
        if strays := self.given.difference(self.declared):
            families = {family(name) for name in self.declared}
            if unknown := sorted(name for name in strays if family(name) not in families):
                raise SiteError(
                    f"a value was given for {unknown[0]!r}, but the sites are {', '.join(self.declared)}: the log_prob "
                    "would not be that of the given values"
                )

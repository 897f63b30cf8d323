"""The object to which a program declares its sites: it draws, replays or replaces each value, and records sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, TransformedDistribution

from limbeck.core.delta import Delta
from limbeck.core.in_place import changes
from limbeck.core.reparam import Law, convert, is_discrete, law, noise_like, push, temper
from limbeck.core.reparam.discrete_gradient import Relaxation, relax
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOISE, KEEP_VALUE, Keep, Kind, Site, Trace, keep_all
from limbeck.errors import LimbeckError, SiteError

__all__ = ["Sites"]


class Sites:
    """One execution of a program.

    A random site's value is, in this order: the given value; ``push(distribution, given noise)``; for a *target*, or if
    no noises were given at all, ``push(distribution, fresh noise)``. A latent without noise in a run that was given
    noises is an error: with fresh noise in even one latent, the loss between two identical models would not be zero.

    Args:
        batch_size: number of rows, dimension 0 of every site.
        device: where :meth:`zeros` and :meth:`standard_normal` put their tensors.
        dtype: floating-point type of the same.
        noise: name to noise, or ``None`` to draw everything.
        laws: name to law of the given noise; converted where the site's own law differs (a teacher's normal noise
            serves a student's Laplace site through the probability-integral transform).
        values: name to value; these sites are not drawn.
        keep: which fields of which sites the trace stores.
        generator: source of fresh noise.
        temperature: scales the noise of every latent (1 = the model's own law).
        relaxation: which gradient discrete latents pass backwards; by default none.
    """

    __slots__ = ("_generator", "_keep", "_laws", "_noise", "_relaxation", "_seen", "_temperature", "_values",
                 "_watched", "batch_size", "device", "dtype", "trace")  # fmt: skip

    def __init__(
        self,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
        *,
        noise: Mapping[str, Tensor] | None = None,
        laws: Mapping[str, Law] | None = None,
        values: Mapping[str, Tensor] | None = None,
        keep: Keep = keep_all,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        relaxation: Relaxation | None = None,
    ) -> None:
        if isinstance(batch_size, Tensor | float):
            raise SiteError(
                f"batch_size is a number of rows, not a {type(batch_size).__name__}; give a conditioning input as x=..."
            )
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self._noise = noise
        self._laws = laws
        self._values: Mapping[str, Tensor] = values or {}
        self._keep = keep
        self._generator = generator
        self._temperature = temperature
        self._relaxation = relaxation
        # A dictionary rather than a set: the trace lists the names in the order of the program.
        self._seen: dict[str, None] = {}
        self._watched: list[tuple[str, Tensor, int]] = []
        self.trace = Trace({}, batch_size, self._seen)

    def latent(self, name: str, distribution: Distribution, mask: Tensor | None = None) -> Tensor:
        """Declare a random variable that is marginalised.

        Args:
            name: unique name, e.g. ``"z1"``; in loops ``f"z[{step}]"``.
            distribution: its conditional law; dimension 0 of its batch shape is the batch.
            mask: the rows in which the variable exists, bool of shape (batch,), where rows differ in their graph, such
                as sequences in their length. The other rows' value, law and parameters count for nothing, but must be
                valid: at a scale of 0 the gradient would be NaN all the same.

        Returns:
            Its value, shape ``distribution.batch_shape + distribution.event_shape``.

        Raises:
            SiteError: the name was used before, or a shape does not fit.
            ReparameterizationError: the distribution is not known to :mod:`limbeck.core.reparam`.
        """
        return self._random(name, distribution, Kind.LATENT, mask)

    def target(self, name: str, distribution: Distribution, mask: Tensor | None = None) -> Tensor:
        """Declare a random variable that the model is for. Arguments, result and errors as for :meth:`latent`."""
        return self._random(name, distribution, Kind.TARGET, mask)

    def deterministic(self, name: str, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Declare a hidden feature, so that it can be matched; a degenerate distribution ([U] Sec. 3.5).

        Where a value was given for this name, the program continues from that value, while the site's law remains the
        model's own: the point mass at ``value``. So each step of a deep deterministic program can be compared by
        itself, as each conditional of a random program can.

        Args:
            name: unique name.
            value: the feature, shape (batch, ...).
            mask: the rows in which it exists, as for :meth:`latent`.

        Returns:
            ``value``, or the value that was given for this name.

        Raises:
            SiteError: the given value has another shape, or the mask is not one bool a row.
        """
        self._declare(name)
        taken = self._values.get(name, value)
        if taken.shape != value.shape:
            raise SiteError(
                f"site {name!r}: its value has shape {tuple(value.shape)}, but one of shape {tuple(taken.shape)} was "
                "given; teacher and student must agree on shared sites"
            )
        if mask is not None:
            self._check_mask(name, mask)
        kept = self._keep(name, Kind.DETERMINISTIC)
        if taken is not value:
            self._watched.append((name, taken, changes(taken)))
        if kept:
            self._watched.append((name, value, changes(value)))
            self.trace._sites[name] = Site(
                name,
                Kind.DETERMINISTIC,
                Law.NONE,
                Delta(value) if kept & KEEP_DISTRIBUTION else None,
                taken if kept & KEEP_VALUE else None,
                mask=mask,
            )
        return taken

    def derived(self, name: str, compute: Callable[[], Tensor]) -> None:
        """Declare a hidden quantity that nothing else of the program depends on: computed only if the trace keeps it.

        Args:
            name: unique name.
            compute: gives the quantity, shape (batch, ...).
        """
        if self._keep(name, Kind.DETERMINISTIC) or name in self._values:
            self.deterministic(name, compute())
        else:
            self._declare(name)

    def given(self, name: str) -> Tensor | None:
        """The value that was given for a site, before it is declared; ``None`` if it will be drawn.

        A recurrent program that is given all its values can run all steps in one call. It may only change how fast the
        program runs, never what it computes.
        """
        self.trace.given.discard(name)
        return self._values.get(name)

    def check_unchanged(self) -> None:
        """Make sure, after the program, that values which were given, or are kept, are those that were declared.

        Raises:
            SiteError: one was changed in place afterwards, or a tensor that it is a part of.
        """
        for name, value, before in self._watched:
            if changes(value) != before:
                whole = "a tensor that it is a part of" if value._is_view() else "its value"
                raise SiteError(
                    f"site {name!r}: {whole} was changed in place after it was declared, such as by "
                    "nn.ReLU(inplace=True), += or clamp_, so that another value would be compared and passed on; make "
                    "a new tensor instead, or declare a clone()"
                )

    def zeros(self, *shape: int) -> Tensor:
        """Zeros of shape (batch, *shape) on the model's device, for roots of the graph."""
        return torch.zeros(self.batch_size, *shape, device=self.device, dtype=self.dtype)

    def standard_normal(self, *shape: int) -> Normal:
        """The unit Gaussian with batch shape (batch, *shape): the usual root."""
        zeros = self.zeros(*shape)
        return Normal(zeros, torch.ones_like(zeros), validate_args=False)

    def _declare(self, name: str) -> None:
        if name in self._seen:
            raise SiteError(f"site {name!r} is declared twice; in a loop use indexed names such as f'{name}[{{step}}]'")
        self._seen[name] = None

    def _random(self, name: str, distribution: Distribution, kind: Kind, mask: Tensor | None) -> Tensor:
        self._declare(name)
        if not isinstance(distribution, Distribution):
            raise SiteError(
                f"site {name!r}: its law must be a distribution, such as torch.distributions.Normal, not a "
                f"{type(distribution).__name__}; declare a value that is not random by sites.deterministic"
            )
        batch_shape = distribution.batch_shape
        shape = batch_shape + distribution.event_shape
        if not batch_shape or batch_shape[0] != self.batch_size:
            raise SiteError(
                f"site {name!r}: dimension 0 of its distribution must be the batch ({self.batch_size}), but its batch "
                f"shape is {tuple(batch_shape)}; expand it, or use sites.zeros / sites.standard_normal for roots"
            )
        site_law = Law.NONE  # a given value needs no noise, so its distribution need not be known to `reparam`
        try:
            noise: Tensor | None = None
            value = self._values.get(name)
            if value is None:
                site_law = law(distribution)
                noise = self._noise_for(name, distribution, kind, site_law, shape)
                value = push(distribution, noise)
                if self._relaxation is not None and kind is Kind.LATENT and is_discrete(distribution):
                    value = relax(distribution, noise, value, self._relaxation)
        except LimbeckError as error:
            raise type(error)(f"site {name!r}: {error}") from None
        if value.shape != shape:
            raise SiteError(
                f"site {name!r}: its value has shape {tuple(value.shape)} but its distribution is over shape "
                f"{tuple(shape)}; teacher and student must agree on shared sites"
            )
        if mask is not None:
            self._check_mask(name, mask)
        kept = self._keep(name, kind)
        if kept & KEEP_VALUE or noise is None:
            self._watched.append((name, value, changes(value)))
        if kept:
            self.trace._sites[name] = Site(
                name,
                kind,
                site_law,
                distribution if kept & KEEP_DISTRIBUTION else None,
                value if kept & KEEP_VALUE else None,
                noise if kept & KEEP_NOISE else None,
                mask,
            )
        return value

    def _check_mask(self, name: str, mask: Tensor) -> None:
        if mask.shape != (self.batch_size,) or mask.dtype != torch.bool:
            raise SiteError(
                f"site {name!r}: its mask is {mask.dtype} of shape {tuple(mask.shape)}, but must be one bool a row "
                f"({self.batch_size})"
            )

    def _noise_for(self, name: str, distribution: Distribution, kind: Kind, site_law: Law, shape: torch.Size) -> Tensor:
        given = None if self._noise is None else self._noise.get(name)
        if given is None:
            if self._noise is not None and kind is Kind.LATENT:
                raise SiteError(
                    f"no noise was given for this latent (noises: {', '.join(self._noise) or 'none'}); teacher and "
                    "student must have the same latents, or the match must say which belongs to which"
                )
            noise = noise_like(distribution, self._generator)
        else:
            noise = given
            source = site_law if self._laws is None else self._laws.get(name, site_law)
            if source is not site_law:
                noise = convert(noise, source, site_law)
            # The usual case, decided without a call.
            fits = noise.shape == shape and site_law is not Law.GUMBEL and site_law is not Law.CUSTOM
            if not fits and noise.shape != (needed := _noise_shape(distribution, site_law, noise)):
                raise SiteError(
                    f"its noise has shape {tuple(noise.shape)} but its distribution needs shape {tuple(needed)}; "
                    "teacher and student must agree on the shape of latents that share noise; limbeck.methods.mapped "
                    "is for latents that do not correspond"
                )
        if self._temperature != 1.0 and kind is Kind.LATENT:
            noise = temper(noise, site_law, self._temperature)
        return noise


def _noise_shape(distribution: Distribution, site_law: Law, noise: Tensor) -> torch.Size:
    """Shape of the distribution's noise: a cheap guess or, where that does not fit, a draw with a generator of its own.

    A categorical's noise is one number per category; a transformed distribution's has the shape of its base's value.
    """
    base: Any = distribution
    while isinstance(base, Independent | TransformedDistribution):
        base = base.base_dist
    if site_law is Law.GUMBEL and hasattr(base, "logits") and base.logits.shape == noise.shape:
        return noise.shape
    return noise_like(distribution, torch.Generator()).shape

"""Directed graphical models as generative programs over named sites ([U] Sec. 2, Eq. 1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.expectation import mean
from limbeck.core.first_parameter import first_parameter
from limbeck.core.frozen import frozen
from limbeck.core.recorded_arguments import recorded_arguments
from limbeck.core.reparam import Law
from limbeck.core.reparam.discrete_gradient import Relaxation
from limbeck.core.sites import Sites
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_VALUE, Keep, Kind, Trace, keep_all, keep_fields
from limbeck.core.trainable import Trainable
from limbeck.errors import ModelError, SiteError

__all__ = ["DGM"]


class DGM(Trainable, ABC):
    """A deep directed graphical model, written as the program that generates its variables.

    Subclass it, declare every variable to ``sites`` in :meth:`generate`, and every method of the library works on it.
    Constructor arguments that are plain JSON values make the model saveable without further code.

    Example:
        >>> from torch import nn
        >>> from torch.distributions import Normal
        >>> class Chain(DGM):
        ...     def __init__(self, width: int = 2) -> None:
        ...         super().__init__()
        ...         self.layer = nn.Linear(width, width)
        ...     def generate(self, sites, x=None):
        ...         z = sites.latent("z", sites.standard_normal(2))
        ...         sites.target("y", Normal(self.layer(z), 0.1 * torch.ones_like(z)))
        >>> trace = Chain().trace(batch_size=3)
        >>> trace
        Trace(z: latent, y: target)
        >>> again = Chain().trace(noise=trace.noise)
        >>> torch.equal(again["z"].value, trace["z"].value)
        True
    """

    config: dict[str, Any]
    """Constructor arguments, recorded automatically; written to ``config.json``."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the constructor's arguments, so that ``save_pretrained`` can write them."""
        model = super().__new__(cls)
        object.__setattr__(model, "config", recorded_arguments(cls.__init__, model, *args, **kwargs))
        return model

    @abstractmethod
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """The generative program p(y, z | x): declare every latent, hidden feature and target in turn.

        Args:
            sites: declare each variable with ``latent``, ``deterministic`` or ``target``; each returns its value.
            x: conditioning input, shape (batch, ...), if the model has one.
        """

    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        """The inference program q(z | y, x), optional: declare latents under the names that ``generate`` uses.

        Args:
            sites: as for :meth:`generate`.
            y: observed target, shape (batch, ...).
            x: conditioning input, if the model has one.
        """
        raise ModelError(f"{type(self).__name__} has no inference program; define infer(self, sites, y, x=None)")

    def join_targets(self, targets: Mapping[str, Tensor]) -> Tensor:
        """The targets of a run as one ``y``, the way :meth:`loss` and :meth:`infer` take it.

        By default the only target itself; a model with several overrides this and :meth:`split_targets`.

        Args:
            targets: target name to value, shape (batch, ...).

        Returns:
            Shape (batch, ...).

        Raises:
            ModelError: there are several targets and the model does not say how they form a ``y``.
        """
        if len(targets) != 1:
            raise ModelError(
                f"{type(self).__name__} has the targets {', '.join(targets)}; define join_targets(self, targets) and "
                "split_targets(self, y, x=None) to say how they form one y"
            )
        return next(iter(targets.values()))

    def split_targets(self, y: Tensor, x: Tensor | None = None) -> dict[str, Tensor]:
        """The inverse of :meth:`join_targets`: target name to value, shape (batch, ...).

        Args:
            y: observed target, shape (batch, ...).
            x: conditioning input, shape (batch, ...), if the model has one.

        Raises:
            ModelError: as for :meth:`join_targets`.
        """
        # A run on one row gives the names: it must change no statistics, and use none of the caller's random numbers.
        # (torch.compile cannot follow a generator, but removes draws whose values are not used.)
        generator = None if torch.compiler.is_compiling() else torch.Generator().manual_seed(0)
        row, keep = None if x is None else x[:1], keep_fields(KEEP_VALUE, Kind.TARGET)
        with frozen(self):
            run = self.trace(1, row, keep=keep, generator=generator)
            self.join_targets(run.targets)
        return dict.fromkeys(run.targets, y)

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
        """Run :meth:`generate` once.

        Given noises, the latents are deterministic and the model is p(y | noise, x): the semi-auxiliary form
        ([U] Sec. 3.1); given the noises of the targets too, the run is a pure function.

        Args:
            batch_size: number of rows; may be left out when ``x``, ``noise`` or ``values`` are given.
            x: conditioning input, shape (batch, ...).
            noise: name to noise; see :class:`~limbeck.core.sites.Sites` for what may be left out.
            laws: name to law of the given noise, where it may differ from the site's own.
            values: name to value, shape (batch, ...): these sites are not drawn.
            keep: what the trace stores.
            generator: source of fresh noise; by default torch's global one.
            temperature: scales the noise of the latents.
            relaxation: which gradient discrete latents pass backwards; by default none.

        Returns:
            The trace of the run.

        Raises:
            SiteError: the batch size is unknown, or a site does not fit what was given for it.
        """
        sites = self._sites(batch_size, x, noise, values, laws=laws, keep=keep, generator=generator,
                            temperature=temperature, relaxation=relaxation)  # fmt: skip
        # An inference program is given values of a whole run, some of which may belong to no site of its own.
        sites.trace.given.update(values or ())
        self.generate(sites, x)
        sites.check_unchanged()
        return sites.trace

    def trace_inference(
        self,
        y: Tensor,
        x: Tensor | None = None,
        *,
        noise: Mapping[str, Tensor] | None = None,
        laws: Mapping[str, Law] | None = None,
        values: Mapping[str, Tensor] | None = None,
        keep: Keep = keep_all,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Trace:
        """Run :meth:`infer` once.

        Args:
            y: observed target, shape (batch, ...).
            x: conditioning input, shape (batch, ...).
            noise: as for :meth:`trace`.
            laws: as for :meth:`trace`.
            values: as for :meth:`trace`.
            keep: as for :meth:`trace`.
            generator: as for :meth:`trace`.
            temperature: scales the noise of the latents: at 0 each is the mean of its Gaussian or the mode of its
                category.

        Returns:
            The trace of the run.
        """
        sites = self._sites(len(y), x, noise, values, laws=laws, keep=keep, generator=generator,
                            temperature=temperature)  # fmt: skip
        self.infer(sites, y, x)
        sites.check_unchanged()
        return sites.trace

    @torch.no_grad()
    def sample(
        self,
        batch_size: int | None = None,
        x: Tensor | None = None,
        *,
        temperature: float = 1.0,
        noise: Mapping[str, Tensor] | None = None,
        laws: Mapping[str, Law] | None = None,
        generator: torch.Generator | None = None,
        output: Literal["sample", "mean"] = "sample",
    ) -> dict[str, Tensor]:
        """Draw targets.

        Args:
            batch_size: number of rows; may be left out when ``x`` or ``noise`` are given.
            x: conditioning input, shape (batch, ...).
            temperature: scales the noise of the latents: below 1 nearer to the mode, more typical and less varied.
            noise: noises of the latents, for the same draw from several models.
            laws: theirs, as in ``trace(...).laws``; needed where a latent has another family in this model.
            generator: source of fresh noise.
            output: ``"sample"`` draws each target; ``"mean"`` returns the mean of its last conditional (class
                probabilities where it is categorical), the usual picture of a model whose output noise is only a
                tolerance.

        Returns:
            Target name to value, shape (batch, ...).

        Raises:
            ModelError: the output is neither, or a target has no mean.
        """
        if output not in ("sample", "mean"):
            raise ModelError(f"the output of a draw must be sample or mean, not {output!r}")
        keep = keep_fields(KEEP_VALUE if output == "sample" else KEEP_DISTRIBUTION, Kind.TARGET)
        trace = self.trace(batch_size, x, noise=noise, laws=laws, keep=keep, generator=generator,
                           temperature=temperature)  # fmt: skip
        if output == "sample":
            return trace.targets
        return {name: mean(site.distribution) for name, site in trace.items() if site.distribution is not None}

    @override
    def forward(self, noise: dict[str, Tensor], x: Tensor | None = None) -> dict[str, Tensor]:
        """The model as a pure function of its noise, for ``torch.export`` and the like.

        For these, make the program's laws with ``validate_args=False``: they cannot follow checks of values.

        Args:
            noise: noise of every latent, as in ``trace(...).noise``.
            x: conditioning input, shape (batch, ...).

        Returns:
            Target name to mean, shape (batch, ...); class probabilities where it is categorical.
        """
        trace = self.trace(x=x, noise=noise, keep=keep_fields(KEEP_DISTRIBUTION))
        return {site.name: mean(site.distribution) for site in trace.of_kind(Kind.TARGET) if site.distribution}

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; no pickle. See :func:`limbeck.core.storage.save`."""
        from limbeck.core.storage import save

        save(self, directory)

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, map_location: str | torch.device = "cpu") -> Self:
        """Load what :meth:`save_pretrained` wrote. See :func:`limbeck.core.storage.load`."""
        from limbeck.core.storage import load

        return load(cls, directory, map_location=map_location)

    def reloaded(self, directory: str | Path) -> Self:
        """The trained model that a recipe's ``teacher_from`` names, for which this untrained one stands.

        By default what :meth:`from_pretrained` reads, settings included; a model whose settings are partly the user's
        choice after training (the steps of a sampler) keeps its own of those.

        Args:
            directory: of a saved model.
        """
        return type(self).from_pretrained(directory)

    def _sites(
        self,
        batch_size: int | None,
        x: Tensor | None,
        noise: Mapping[str, Tensor] | None,
        values: Mapping[str, Tensor] | None,
        *,
        laws: Mapping[str, Law] | None = None,
        keep: Keep = keep_all,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        relaxation: Relaxation | None = None,
    ) -> Sites:
        rows = _rows(x, noise, values) if batch_size is None else batch_size
        first = first_parameter(self)
        return Sites(rows, first.device, first.dtype, noise=noise, laws=laws, values=values, keep=keep,
                     generator=generator, temperature=temperature, relaxation=relaxation)  # fmt: skip


def _rows(x: Tensor | None, noise: Mapping[str, Tensor] | None, values: Mapping[str, Tensor] | None) -> int:
    for tensor in (x, *(noise or {}).values(), *(values or {}).values()):
        if tensor is not None:
            return tensor.shape[0]
    raise SiteError("how many rows? Give batch_size, x, noise or values.")

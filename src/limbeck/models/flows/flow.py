"""Normalizing flows as graphs: one program from data to latents, one from latents to data ([F] Sec. 2.1)."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal
from typing_extensions import override

from limbeck.core.coupling.depth import step_name
from limbeck.core.delta import Delta
from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.precision import precise
from limbeck.core.sites import Sites
from limbeck.errors import MatchError, ModelError
from limbeck.models.flows.alignment import same_buffers, take_constants
from limbeck.models.flows.bijection import Bijection, Level
from limbeck.models.inputs import check_numbers

__all__ = ["Flow"]


class Flow(DGM):
    r"""An invertible map between rows y and latents u of a law that is known.

    .. math:: \log p(y) = \log p_u(f(y)) + \log |\det \partial f / \partial y|

    Both programs have the same sites: the latent ``u[l]`` that leaves at the end of level ``l``; ``h[l][k]``, the row
    after step ``k`` of level ``l``, seen from the data, but for the last, which is the latent; and ``log_prob``, the
    row's log density in nats. The target ``y`` is a point mass given the latents.

    A subclass defines :attr:`levels` and :attr:`latent_shapes`.
    """

    adapted: Tensor
    aligned: Tensor
    context: int | None = None
    """Columns of the conditioning input; 0 without one, ``None`` where only the steps themselves know."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("adapted", torch.tensor(False))
        self.register_buffer("aligned", torch.tensor(False))

    @property
    @abstractmethod
    def levels(self) -> Sequence[Level]:
        """The levels, in the order from data to latents."""

    @property
    @abstractmethod
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each level's latent, without the batch."""

    @property
    def step_counts(self) -> tuple[int, ...]:
        """See :class:`limbeck.core.coupling.depth.Stepped`."""
        return tuple(len(level.steps) for level in self.levels)

    @property
    def keeps_columns(self) -> bool:
        """Whether element i of the latents is a transformed element i of the data, in every step."""
        return True

    def latent_law(self, level: int, batch_size: int, like: Tensor, x: Tensor | None = None) -> Distribution:
        """Law of a level's latent; here the unit Gaussian.

        Args:
            level: counted from 0, from the data.
            batch_size: number of rows.
            like: a tensor of the dtype and device that is wanted.
            x: conditioning input, shape (batch, ...), if there is one.

        Returns:
            A law whose values have shape (batch, *latent_shapes[level]).
        """
        zeros = like.new_zeros(batch_size, *self.latent_shapes[level])
        return Normal(zeros, torch.ones_like(zeros), validate_args=False)

    @override
    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        """From data to latents; shapes as in :class:`~limbeck.core.graph.DGM`."""
        sites.deterministic("log_prob", self._encoded(y, x, sites))

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """From latents to data; shapes as in :class:`~limbeck.core.graph.DGM`."""
        self._check_context(x)
        levels = self.levels
        like = first_parameter(self)
        h: Tensor | None = None
        for index in reversed(range(len(levels))):
            steps, split = list(levels[index].steps), levels[index].split
            u = sites.latent(f"u[{index}]", self.latent_law(index, sites.batch_size, like, x))
            h = u if h is None or split is None else split.inverse(h, u, x)
            for count in range(len(steps), 0, -1):
                if split is not None or count < len(steps):
                    h = sites.deterministic(step_name(index, count), h)
                h = steps[count - 1].inverse(h, x)  # type: ignore[operator]
            for entry in reversed(levels[index].entry):
                h = entry.inverse(h, x)  # type: ignore[operator]
        assert h is not None
        y = sites.target("y", Delta(h))
        sites.derived("log_prob", lambda: self._encoded(y, x, None))

    def log_prob(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """Log density of rows, in nats per row.

        Args:
            y: shape (batch, ...).
            x: conditioning input, shape (batch, ...), if there is one.

        Returns:
            Shape (batch,).
        """
        return self._encoded(y, x, None)

    def encode(self, y: Tensor, x: Tensor | None = None) -> tuple[Tensor, ...]:
        """The latents of rows, one of shape (batch, ...) for each level."""
        trace = self.trace_inference(y, x)
        return tuple(trace.values[f"u[{level}]"] for level in range(len(self.levels)))

    def decode(self, latents: Sequence[Tensor], x: Tensor | None = None) -> Tensor:
        """The rows of latents, shape (batch, ...): the inverse of :meth:`encode`."""
        values = {f"u[{level}]": latent for level, latent in enumerate(latents)}
        return self.trace(latents[0].shape[0], x, values=values).targets["y"]

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """Negative log-likelihood in nats per row ([F] Eq. 1); see :meth:`limbeck.DGM.loss`."""
        return Loss.of({"nll": -self.log_prob(self.observed(batch.y), batch.x).mean()})

    @torch.no_grad()
    @override
    def adapt(self, batch: Batch) -> None:
        """Let every step set what depends on the data, in turn; see :meth:`limbeck.DGM.adapt`."""
        if self.adapted:
            return
        h = self.observed(batch.y)
        self._check(h, batch.x)
        for level in self.levels:
            for step in (*level.entry, *level.steps):
                assert isinstance(step, Bijection)
                step.adapt(h, batch.x)
                h, _ = step(h, batch.x)
            if level.split is not None:
                h, _, _ = level.split(h, batch.x)
        self.adapted.fill_(True)

    @torch.no_grad()
    @override
    def start_from(self, source: DGM) -> None:
        """Start as the first steps of a deeper flow: in each level as many as this one has, and the way to its latents.

        The coordinates are then the other's, too. See :meth:`limbeck.DGM.start_from`.

        Args:
            source: a flow of the same class, with steps of the same shapes.

        Raises:
            ModelError: its steps are of another kind or size, or fewer.
        """
        own, others = self.levels, source.levels if isinstance(source, Flow) else []
        try:
            if type(self) is not type(source) or len(own) != len(others):
                raise RuntimeError
            for mine, theirs in zip(own, others, strict=True):
                if len(mine.steps) > len(theirs.steps):
                    raise RuntimeError
                pairs = [*zip(mine.entry, theirs.entry, strict=True), *zip(mine.steps, theirs.steps, strict=False)]
                for taken, given in [*pairs, *([(mine.split, theirs.split)] if mine.split and theirs.split else [])]:
                    taken.load_state_dict(given.state_dict())
        except (RuntimeError, ValueError):
            raise ModelError(
                f"{type(self).__name__} {self.config} cannot start as the first steps of {type(source).__name__} "
                f"{source.config}; give both the same class, levels and width, or start: random"
            ) from None
        self.adapted.fill_(True)
        self.aligned.fill_(True)

    @torch.no_grad()
    def align_with(self, teacher: DGM) -> None:
        """Start with the teacher's coordinates; see :class:`limbeck.core.coupling.inference.Alignable`.

        A flow that was trained, or aligned before, stays as it is.

        Args:
            teacher: a flow with latents of the same shapes.

        Raises:
            MatchError: its latents differ in number or shape, or :meth:`inherit` says why not; or this flow was aligned
                with a teacher of other coordinates.
        """
        if not isinstance(teacher, Flow):
            raise MatchError(f"a flow can only follow the steps of a flow, not of a {type(teacher).__name__}")
        if teacher.latent_shapes != self.latent_shapes:
            raise MatchError(
                f"the teacher's latents have shapes {teacher.latent_shapes} and the student's {self.latent_shapes}: "
                "there is no element to compare with; give both the same levels and splits"
            )
        fresh = not (self.aligned or self.adapted)
        # What a copy takes over tells whether it is there already; what is refused is refused in any case.
        changed = self if fresh else copy.deepcopy(self)
        changed.inherit(teacher)
        take_constants(changed.levels, teacher.levels)
        if fresh:
            self.aligned.fill_(True)
        elif not self.adapted and not same_buffers(self, changed):
            raise MatchError(
                f"this {type(self).__name__} was aligned with a teacher of other coordinates, so its latents cannot be "
                "compared with this one's element by element; take a new student, or pass align=False and compare "
                "densities or samples"
            )

    def inherit(self, teacher: Flow) -> None:
        """Take over what ties elements of the latents to elements of the data: permutations, rotations, scales.

        By default there is nothing of the kind: a flow that keeps its columns can follow any other that does.

        Args:
            teacher: a flow with latents of the same shapes.

        Raises:
            MatchError: the teacher's coordinates cannot be taken over.
        """
        for flow, other in ((teacher, self), (self, teacher)):
            if not flow.keeps_columns:
                raise MatchError(
                    f"a {type(flow).__name__} mixes or permutes its elements in a way that a {type(other).__name__} "
                    "does not, so their latents cannot be compared element by element; give teacher and student the "
                    "same class, or pass align=False and compare densities or samples"
                )

    def _check(self, y: Tensor, x: Tensor | None) -> None:
        """Rows of another size fail somewhere inside, in words that do not say why."""
        check_numbers(self, "y", y)
        self._check_context(x)
        wanted, found = sum(math.prod(shape) for shape in self.latent_shapes), math.prod(y.shape[1:])
        if found != wanted:
            raise ModelError(
                f"{type(self).__name__} is for rows of {wanted} numbers, but these have {found} (shape "
                f"{tuple(y.shape[1:])}); give the model as many features as the data have columns"
            )

    def _check_context(self, x: Tensor | None) -> None:
        if self.context is None:
            return
        if (x is not None) != (self.context > 0):
            given = "no x was given" if x is None else "x was given"
            raise ModelError(
                f"{type(self).__name__} has context={self.context}, but {given}; let both say the same, in a recipe "
                "by condition"
            )
        if x is not None and x.shape[1:] != (self.context,):
            raise ModelError(
                f"{type(self).__name__} has context={self.context}, but rows of x have shape {tuple(x.shape[1:])}; "
                "give x that many columns"
            )

    def _encoded(self, y: Tensor, x: Tensor | None, sites: Sites | None) -> Tensor:
        """Log density, shape (batch,); declares the sites on the way if there is anything to declare them to."""
        self._check(y, x)
        h = y
        total: Tensor | float = 0
        prior: Tensor | float = 0
        levels = self.levels
        for index, level in enumerate(levels):
            steps, split = list(level.steps), level.split
            for entry in level.entry:
                h, change = entry(h, x)
                total = total + precise(change)
            for count, step in enumerate(steps, 1):
                h, change = step(h, x)
                total = total + precise(change)
                if sites is not None and (split is not None or count < len(steps)):
                    h = sites.deterministic(step_name(index, count), h)
            if split is None:
                u = h
            else:
                h, u, change = split(h, x)
                total = total + precise(change)
            if sites is not None:
                u = sites.latent(f"u[{index}]", Delta(u))
            u = precise(u)
            prior = prior + _rows(self.latent_law(index, y.shape[0], u, x).log_prob(u))
        return prior + total  # type: ignore[return-value]


def _rows(log_prob: Tensor) -> Tensor:
    """Summed over all but the batch."""
    return log_prob if log_prob.ndim == 1 else log_prob.flatten(1).sum(1)

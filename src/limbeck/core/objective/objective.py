"""An objective is a coupling and a list of matches: ``sum of weight * divergence(teacher site, student site)``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.core.coupling import (
    Coupling,
    Request,
    SharedNoise,
    is_scheduled,
    needs_data,
    prepare_coupling,
    runs_inference,
)
from limbeck.core.coupling.replay import KEEP, Replay, generated
from limbeck.core.divergence.learned import Learned
from limbeck.core.first_parameter import first_parameter
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective.comparison import Pair, compare
from limbeck.core.objective.enclosed import enclosed_modules
from limbeck.core.objective.fitted import FittedDivergences, undecayed_parameters
from limbeck.core.objective.match import Match
from limbeck.core.objective.pairing import Matching
from limbeck.core.trace import Kind, Trace
from limbeck.errors import MatchError, lacks_memory

__all__ = ["Objective"]


class Objective(nn.Module):
    """Compares a student with its teacher; calling it gives a loss to minimise over the student's parameters.

    It is a module because divergences may have parameters of their own, which train with the student.

    Args:
        matches: what is compared.
        coupling: how the student's run is tied to the teacher's.
        weight: factor of the sum of the matches: alpha in [U] Eq. 10.
        train_weight: factor of the student's own loss on data: 1 - alpha in [U] Eq. 10.
        replay_weight: factor of the student's own loss on what the teacher generates: generative replay.
        replay: what is replayed: ``"sample"`` draws from the teacher's law, ``"mean"`` takes the means of its last
            conditionals, as is usual for images whose output noise is only a tolerance.

    Example:
        Inside one's own training loop::

            objective = limbeck.methods.surrogate(latent_weight=1e-3)
            loss = objective(teacher, student, batch_size=128).total
    """

    def __init__(
        self,
        matches: Sequence[Match],
        coupling: Coupling | None = None,
        *,
        weight: float = 1.0,
        train_weight: float = 0.0,
        replay_weight: float = 0.0,
        replay: Replay = "sample",
    ) -> None:
        super().__init__()
        check_choice(MatchError, "replay", replay, Replay)
        self.matching = Matching(matches)
        self.coupling: Coupling = SharedNoise() if coupling is None else coupling
        self._observes = needs_data(self.coupling)  # needed in every step, and slow to find out
        self.weight = weight
        self.train_weight = train_weight
        self.replay_weight = replay_weight
        self.replay = replay
        self.divergences = nn.ModuleList(m.divergence for m in self.matches if isinstance(m.divergence, nn.Module))
        # Not among those above, whose places are part of the keys of saved objectives.
        self.enclosed = nn.ModuleList(enclosed_modules((m.divergence for m in self.matches), self.coupling))
        self.learned = FittedDivergences()

    @property
    def matches(self) -> tuple[Match, ...]:
        """What is compared, in the order in which it was given."""
        return self.matching.matches

    @property
    def needs_teacher(self) -> bool:
        """Whether anything comes from a teacher: a comparison, or what it generates."""
        return bool(self.matches) or self.replay_weight != 0.0

    @property
    def needs_data(self) -> bool:
        """Whether each step needs rows of data: for the student's own loss, or for what both models infer from."""
        return self.train_weight != 0.0 or self._observes

    @property
    def trains_inference(self) -> bool:
        """Whether the student's inference program learns anything."""
        return self.train_weight != 0.0 or self.replay_weight != 0.0 or runs_inference(self.coupling)

    @override
    def forward(
        self,
        teacher: DGM | None,
        student: DGM,
        *,
        batch_size: int | None = None,
        x: Tensor | None = None,
        batch: Batch | None = None,
        progress: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Run teacher and student once and compare them.

        Args:
            teacher: the frozen model; ``None`` if nothing is matched. It runs in eval mode without gradients.
            student: the model to train.
            batch_size: number of rows to draw when there is neither ``x`` nor ``batch``.
            x: conditioning input, shape (batch, ...); by default ``batch.x``.
            batch: data for the student's own loss; if ``x`` is given too, teacher and student are compared on that
                ``x``, while the student's own loss uses the batch's. Where the coupling looks at the batch too, it
                must be the batch's own ``x``.
            progress: fraction of training that is done, in [0, 1]; needed if anything is :attr:`scheduled`.
            generator: source of the programs' noise. What divergences draw, and the student's own loss, may come from
                torch's global one.

        Returns:
            The loss averaged over rows. Terms are named after the teacher's sites, those in a loop after their family
            (``"z[*]"``). Terms of the student's own loss are called ``train/...`` on data if there are others, and
            ``replay/...`` on the teacher's samples.

        Raises:
            MatchError: a matched site is missing, or nothing can be compared, or there are no rows, or they are not
                those of ``x``; or the progress is needed.
        """
        _check_rows(batch_size, x, batch)
        progress = self.progress_of(progress)
        terms: dict[str, Tensor] = {}
        observed: dict[str, Tensor] = {}
        if self.needs_teacher:
            if teacher is None:
                raise MatchError("this objective compares with a teacher, but none was given")
            request = self._request_on(batch, batch_size, x, progress, generator)
            self.matching.look_at(student, request.x)
            taught, learned = self._run(teacher, student, request)
            fitted = self.learned
            terms.update(compare(self._pairs(fitted, taught, learned, progress)))
            observed.update(fitted.observed())
            if self.replay_weight:
                replayed = Batch(teacher.join_targets(generated(taught, self.replay)), request.x)
                _add(terms, observed, student.loss(replayed, progress=progress), self.replay_weight, "replay/")
        if self.train_weight:
            if batch is None:
                raise MatchError("this objective trains on data too, but got no batch; pass data=... or batch=...")
            prefix = "train/" if self.needs_teacher else ""
            _add(terms, observed, student.loss(batch, progress=progress), self.train_weight, prefix)
        if not terms:
            raise MatchError("this objective has no terms: give it matches or a train_weight")
        loss = Loss.of(terms, observed)
        return loss if loss.total.requires_grad or not self.scheduled else loss.towards(student)

    @property
    def scheduled(self) -> bool:
        """Whether anything changes over a training: a weight, or what the coupling does."""
        return any(callable(match.weight) for match in self.matches) or is_scheduled(self.coupling)

    def progress_of(self, given: float | None) -> float:
        """The fraction of training that is done, which may be left out only if nothing depends on it.

        Raises:
            MatchError: something does.
        """
        if given is None and self.scheduled:
            raise MatchError(
                "this objective changes over the training; pass progress=step / steps, the fraction that is done"
            )
        return 1.0 if given is None else given

    def request(
        self,
        batch_size: int | None,
        x: Tensor | None,
        *,
        generator: torch.Generator | None = None,
        progress: float = 1.0,
        y: Tensor | None = None,
    ) -> Request:
        """What this objective asks of its coupling; arguments as in :class:`~limbeck.core.coupling.Request`."""
        matching = self.matching
        return Request(batch_size, x, self.keep_teacher, matching.keep_student, matching.rename, generator, progress, y)

    def _request_on(
        self,
        batch: Batch | None,
        batch_size: int | None,
        x: Tensor | None,
        progress: float,
        generator: torch.Generator | None,
    ) -> Request:
        """The request of one step: what was not given comes from the batch of data, if there is one."""
        if batch is not None and x is None:
            x = batch.x
        elif self._observes and batch is not None and x is not None:
            _check_same(x, batch.x)
        if batch is not None and batch_size is None:
            batch_size = len(batch) if x is None else len(x)
        y = None if batch is None else batch.y
        if y is None and self._observes:
            raise MatchError("this objective looks at rows of data, but there are none; pass data=... or batch=...")
        return self.request(batch_size, x, generator=generator, progress=progress, y=y)

    def keep_teacher(self, name: str, kind: Kind) -> int:
        """What the teacher's run must store of a site: what is compared, and what is replayed."""
        kept = self.matching.keep_teacher(name, kind)
        if self.replay_weight and kind is Kind.TARGET:
            kept |= KEEP[self.replay]
        return kept

    def prepare(self, teacher: DGM | None, student: DGM, x: Tensor | None = None) -> None:
        """Make the parameters of couplings and divergences; call it before the optimiser is made, which needs them.

        The engine calls it by itself. Parameters that are there already stay as they are.

        Args:
            teacher: the frozen model, if there is one.
            student: the model to train.
            x: a few rows of conditioning input, shape (rows, ...), if the models have one.
        """
        self.matching.look_at(student, x)  # rather than in the first step, where torch.compile could not follow it
        if teacher is None:
            return
        prepare_coupling(self.coupling, teacher, student, x)
        templates = [match.divergence for match in self.matches if isinstance(match.divergence, Learned)]
        like = first_parameter(student)
        for template in templates:
            template.to(like.device, like.dtype)
        if templates:
            self._size(teacher, student, x)

    @torch.no_grad()
    def _size(self, teacher: DGM, student: DGM, x: Tensor | None) -> None:
        with frozen(student):
            taught, learned = self._run(teacher, student, self.request(2 if x is None else None, x))
        pairings = self.matching.pairings(taught, learned, complete=False)
        self.learned.fit(pairings, first_parameter(student))

    def _run(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """The coupling's runs; models of different precision get an error that names it, which torch's does not."""
        try:
            return self.coupling(teacher, student, request)
        except RuntimeError as error:
            theirs, own = first_parameter(teacher).dtype, first_parameter(student).dtype
            if theirs is own or lacks_memory(error):
                raise
            raise MatchError(
                f"the teacher is of {theirs} and the student of {own}; bring one to the precision of the other, as "
                f"with teacher.to({own}) ({error})"
            ) from error

    def undecayed(self) -> Iterator[nn.Parameter]:
        """Parameters of divergences that a penalty on weights must leave alone."""
        return undecayed_parameters(self)

    def _pairs(self, fitted: FittedDivergences, taught: Trace, learned: Trace, progress: float) -> list[Pair]:
        weights = [self.weight * (m.weight(progress) if callable(m.weight) else m.weight) for m in self.matches]
        return [
            Pair(
                found.name if found.match.name is None else f"{found.match.name}/{found.name}",
                fitted.of(found),
                weights[found.position],
                found.teacher,
                found.student,
                found.mask,
            )
            for found in self.matching.pairings(taught, learned)
        ]


def _check_rows(batch_size: int | None, x: Tensor | None, batch: Batch | None) -> None:
    for rows in (batch_size, None if x is None else len(x), None if batch is None else len(batch)):
        if rows is not None and rows < 1:
            raise MatchError(f"a loss is an average over rows, so that it needs at least one, not {rows}")


def _check_same(x: Tensor, own: Tensor | None) -> None:
    """Refuse labels beside inputs that are not theirs."""
    if own is None or x is own or (x.shape == own.shape and torch.equal(x, own)):
        return
    raise MatchError(
        "this objective compares on the batch's own targets, but was given other inputs x beside the batch, to which "
        "these do not belong; leave out x (teacher_inputs), or take an objective that needs no rows of data"
    )


def _add(terms: dict[str, Tensor], observed: dict[str, Tensor], loss: Loss, weight: float, prefix: str) -> None:
    """Put the weighted terms of a model's own loss, and what it observed, beside the others, with a prefix."""
    terms.update({prefix + name: term if weight == 1.0 else weight * term for name, term in loss.terms.items()})
    observed.update({prefix + name: value for name, value in loss.observed.items()})

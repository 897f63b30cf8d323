"""An objective is a coupling and a list of matches: ``sum of weight * divergence(teacher site, student site)``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from limbeck.choices import check_choice
from limbeck.core.coupling import (
    Coupling,
    Request,
    SharedNoise,
    frozen,
    needs_data,
    prepare_coupling,
    runs_inference,
)
from limbeck.core.coupling.replay import KEEP, Replay, generated
from limbeck.core.divergence.learned import Learned
from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective.comparison import Divergence, Pair, compare
from limbeck.core.objective.match import Match
from limbeck.core.objective.pairing import Matching, Pairing
from limbeck.core.trace import Kind, Trace
from limbeck.errors import LimbeckError, MatchError

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
            conditionals, as is usual for pictures whose output noise is only a tolerance.

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
        self._observes = needs_data(self.coupling)  # asked in every step, and slow to find out
        self.weight = weight
        self.train_weight = train_weight
        self.replay_weight = replay_weight
        self.replay = replay
        self.divergences = nn.ModuleList(m.divergence for m in self.matches if isinstance(m.divergence, nn.Module))
        self.learned = nn.ModuleDict()  # of each pair of sites that a learned divergence compares, its own

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

    def forward(
        self,
        teacher: DGM | None,
        student: DGM,
        *,
        batch_size: int | None = None,
        x: Tensor | None = None,
        batch: Batch | None = None,
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Run teacher and student once and compare them.

        Args:
            teacher: the frozen model; ``None`` if nothing is matched. It runs in eval mode without gradients.
            student: the model to train.
            batch_size: number of rows to draw when there is neither ``x`` nor ``batch``.
            x: conditioning input, shape (batch, ...); by default ``batch.x``.
            batch: data for the student's own loss; where ``x`` is given too, that is what the teacher is asked for, and
                the batch keeps its own.
            progress: fraction of training that is done, in [0, 1].
            generator: source of the programs' noise. What divergences draw, and the student's own loss, may come from
                torch's global one.

        Returns:
            The loss averaged over rows. Terms are named after the teacher's sites, those in a loop after their family
            (``"z[*]"``). The student's own loss on data is ``train/...`` beside them, on the teacher's samples
            ``replay/...``.

        Raises:
            MatchError: a matched site is missing, or nothing can be compared, or there are no rows.
        """
        for rows in (batch_size, None if x is None else len(x), None if batch is None else len(batch)):
            if rows is not None and rows < 1:
                raise MatchError(f"a loss is an average over rows, so that it needs at least one, not {rows}")
        terms: dict[str, Tensor] = {}
        observed: dict[str, Tensor] = {}
        if self.needs_teacher:
            if teacher is None:
                raise MatchError("this objective compares with a teacher, but none was given")
            if batch is not None and x is None:
                x = batch.x
            if batch is not None and batch_size is None:
                batch_size = len(batch) if x is None else len(x)
            y = None if batch is None else batch.y
            if y is None and self._observes:
                raise MatchError("this objective looks at rows of data, but there are none; pass data=... or batch=...")
            self.matching.look_at(student, x)
            request = self.request(batch_size, x, generator=generator, progress=progress, y=y)
            taught, learned = self._run(teacher, student, request)
            terms.update(compare(self._pairs(taught, learned, progress)))
            observed = self._observed()
            if self.replay_weight:
                replayed = Batch(teacher.join_targets(generated(taught, self.replay)), x)
                own, seen = _scaled(student.loss(replayed, progress=progress), self.replay_weight, "replay/")
                terms.update(own)
                observed.update(seen)
        if self.train_weight:
            if batch is None:
                raise MatchError("this objective trains on data too, but got no batch; pass data=... or batch=...")
            prefix = "train/" if self.needs_teacher else ""
            own, seen = _scaled(student.loss(batch, progress=progress), self.train_weight, prefix)
            terms.update(own)
            observed.update(seen)
        if not terms:
            raise MatchError("this objective has no terms: give it matches or a train_weight")
        return Loss.of(terms, observed)

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

    def keep_teacher(self, name: str, kind: Kind) -> int:
        """What the teacher's run must store of a site: what is compared, and what is replayed."""
        kept = self.matching.keep_teacher(name, kind)
        if self.replay_weight and kind is Kind.TARGET:
            kept |= KEEP[self.replay]
        return kept

    def prepare(self, teacher: DGM | None, student: DGM, x: Tensor | None = None) -> None:
        """Size the parameters of couplings and divergences; to be called before an optimiser is made of them.

        The engine does it by itself. Without effect where there are none, or where it was done before.

        Args:
            teacher: the frozen model, if there is one.
            student: the model to train.
            x: a few rows of conditioning input, shape (rows, ...), if the models have one.
        """
        self.matching.look_at(student, x)  # rather than in the first step, where torch.compile could not follow it
        if teacher is None:
            return
        prepare_coupling(self.coupling, teacher, student, x)
        learned = [match.divergence for match in self.matches if isinstance(match.divergence, Learned)]
        for divergence in learned:
            like = first_parameter(student)
            divergence.to(like.device, like.dtype)
        if learned:
            self._size(teacher, student, x)

    @torch.no_grad()
    def _size(self, teacher: DGM, student: DGM, x: Tensor | None) -> None:
        with frozen(student):
            taught, learned = self._run(teacher, student, self.request(2 if x is None else None, x))
        for found in self.matching.pairings(taught, learned, complete=False):
            template = found.match.divergence
            if isinstance(template, Learned) and not template.sized and found.key not in self.learned:
                try:
                    made = template.fitted(found.teacher, found.student)
                except LimbeckError as error:
                    raise type(error)(f"site {found.name!r}: {error}") from None
                like = first_parameter(student)
                self.learned[found.key] = made.to(like.device, like.dtype)

    def _run(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """The coupling's runs; models of unequal precision may share no values, of which torch names neither."""
        try:
            return self.coupling(teacher, student, request)
        except RuntimeError as error:
            theirs, own = first_parameter(teacher).dtype, first_parameter(student).dtype
            if theirs is own or isinstance(error, torch.OutOfMemoryError):
                raise
            raise MatchError(
                f"the teacher is of {theirs} and the student of {own}; bring one to the precision of the other, as "
                f"with teacher.to({own}) ({error})"
            ) from error

    def undecayed(self) -> Iterator[nn.Parameter]:
        """Parameters of divergences that a penalty on weights must leave alone."""
        for module in self.modules():
            if isinstance(module, Learned) and module.sized:
                yield from module.undecayed()

    def _observed(self) -> dict[str, Tensor]:
        """What learned divergences saw in the last comparison, by name and site."""
        return {
            f"{name}/{key.partition(':')[2]}": value
            for key, module in self.learned.items()
            if isinstance(module, Learned)
            for name, value in module.observed.items()
        }

    def _pairs(self, taught: Trace, learned: Trace, progress: float) -> list[Pair]:
        weights = [self.weight * (m.weight(progress) if callable(m.weight) else m.weight) for m in self.matches]
        return [
            Pair(
                found.name if found.match.name is None else f"{found.match.name}/{found.name}",
                self._divergence(found),
                weights[found.position],
                found.teacher,
                found.student,
                found.mask,
            )
            for found in self.matching.pairings(taught, learned)
        ]

    def _divergence(self, found: Pairing) -> Divergence:
        """What compares a pair of sites; of a learned divergence the copy that belongs to it."""
        divergence = found.match.divergence
        if not isinstance(divergence, Learned):
            return divergence
        if found.key not in self.learned:
            divergence.check_sized()
            return divergence
        sized: Divergence = self.learned[found.key]
        return sized


def _scaled(loss: Loss, weight: float, prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The terms of a model's own loss, weighted, and what it observed, under names of their own."""
    terms = {prefix + name: term if weight == 1.0 else weight * term for name, term in loss.terms.items()}
    return terms, {prefix + name: value for name, value in loss.observed.items()}

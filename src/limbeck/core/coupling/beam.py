"""The teacher's most probable sequence in place of its expectation: Kim & Rush's simplification of [U] Eq. 3."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.coupling.coupling import Request
from limbeck.core.delta import Delta
from limbeck.core.first_parameter import first_parameter
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.reparam import Law
from limbeck.core.reparam.base_law import base_law
from limbeck.core.trace import KEEP_DISTRIBUTION, Kind, Site, Trace, keep_fields, keep_only
from limbeck.errors import MatchError, SiteError

__all__ = ["BeamTargets", "beam_search"]


class _Memory:
    """Answers by the content of a row of x, for one teacher in one state."""

    def __init__(self) -> None:
        self.found: dict[bytes, Tensor] = {}
        self.names: tuple[str, ...] = ()
        self._teacher: weakref.ref[DGM] | None = None
        self._versions: list[int] = []

    def belongs_to(self, teacher: DGM) -> None:
        """Forget everything if the teacher is another, or was trained or loaded since."""
        # torch counts the changes of a tensor in place.
        versions = [tensor._version for tensor in (*teacher.parameters(), *teacher.buffers())]
        if self._teacher is None or self._teacher() is not teacher or versions != self._versions:
            self.found.clear()
            self._teacher, self._versions = weakref.ref(teacher), versions

    @override
    def __reduce__(self) -> tuple[type[_Memory], tuple[()]]:
        return _Memory, ()  # a copy, saved or not, belongs to no teacher yet


@dataclass(frozen=True)
class BeamTargets:
    """Both models see the teacher's most probable targets, and the teacher's law becomes a point mass there.

    Kim & Rush (2016, Sec. 3.2) replace the teacher's distribution over sequences by its mode, which beam search finds
    approximately. With :func:`~limbeck.core.divergence.nll` the loss is the student's negative log-likelihood of that
    sequence. The student learns one answer per row, the teacher's best: it learns the mode, not the spread.

    Answers are remembered by the *content* of a row of x, since they are the same an epoch later; for another teacher,
    or one whose weights have changed in place, the memory starts empty. Changes through ``.data``, as in
    ``weight.data.copy_(average)``, are counted nowhere, and comparing all weights in each step would cost about as much
    as a run: change weights under ``torch.no_grad()`` instead, or make a new objective.

    Attributes:
        beam_size: sequences kept at each step; 1 is greedy.
        remember: number of different rows of x whose answers are kept; 0 searches every time.
    """

    beam_size: int = 5
    remember: int = 100_000
    # Not part of the coupling's identity: a copy starts with an empty memory.
    _memory: _Memory = field(init=False, repr=False, compare=False, default_factory=_Memory,
                             metadata={"fingerprint": False})  # fmt: skip

    def __post_init__(self) -> None:
        if self.beam_size < 1 or self.remember < 0:
            raise MatchError(
                f"beam_size must be at least 1, not {self.beam_size}, and remember not negative, but is {self.remember}"
            )

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both; see :class:`~limbeck.core.coupling.Coupling`."""
        with frozen(teacher):
            best = self._search(teacher, request)
        rows = len(next(iter(best.values())))
        taught = Trace(
            {
                name: Site(name, Kind.TARGET, Law.NONE, Delta(value), value)
                for name, value in best.items()
                if request.keep_teacher(name, Kind.TARGET)
            },
            rows,
            tuple(best),
        )
        learned = student.trace(
            rows,
            request.x,
            # An empty mapping, not None: a latent of the student must be an error, not a fresh draw.
            noise={},
            values={request.rename(name, Kind.TARGET): value for name, value in best.items()},
            keep=request.keep_student(taught),
        )
        return taught, learned

    def _search(self, teacher: DGM, request: Request) -> dict[str, Tensor]:
        x = request.x
        if x is None or not self.remember:
            return beam_search(teacher, self.beam_size, batch_size=request.batch_size, x=x)[0]
        memory = self._memory
        memory.belongs_to(teacher)
        # As bytes, since numpy has no bfloat16.
        content = x.detach().cpu().contiguous().view(len(x), -1).view(torch.uint8).numpy()
        keys = [row.tobytes() for row in content]
        if len(memory.found) > self.remember:
            memory.found.clear()
        new = {key: number for number, key in enumerate(keys) if key not in memory.found}
        if new:
            answers, _ = beam_search(teacher, self.beam_size, x=x[list(new.values())])
            memory.names = tuple(answers)
            memory.found.update(zip(new, torch.stack(list(answers.values()), dim=1).cpu(), strict=True))
        tokens = torch.stack([memory.found[key] for key in keys]).to(x.device)
        return dict(zip(memory.names, tokens.unbind(1), strict=True))


@torch.no_grad()
def beam_search(
    model: DGM, size: int, *, batch_size: int | None = None, x: Tensor | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """The most probable targets of a model without latents, each a category, approximately.

    At every target the ``size`` best prefixes are kept, by their log-probability so far. With ``size`` at least the
    number of sequences it is exact. It runs the program once for each target, on ``size`` times the rows.

    Args:
        model: every random site is a categorical target of shape (batch,).
        size: number of prefixes that are kept.
        batch_size: number of rows, if there is no ``x``.
        x: conditioning input, shape (batch, ...).

    Returns:
        Target name to category, int64 of shape (batch,), in the order of the program; and the log-probability of the
        whole, in nats, shape (batch,).

    Raises:
        SiteError: the model has a latent, or a target that is not a single category; or the batch size is unknown.
    """
    if batch_size is None:
        if x is None:
            raise SiteError("how many rows? Give batch_size or x.")
        batch_size = len(x)
    names = _categorical_targets(model, None if x is None else x[:1])
    device = first_parameter(model).device
    tokens = torch.empty(batch_size, 1, 0, dtype=torch.int64, device=device)
    scores: Tensor | None = None
    for step, name in enumerate(names):
        beams = tokens.shape[1]
        # Later targets get values too, although nothing before them depends on these: they are then not drawn, and a
        # program all of whose tokens are given can run its steps at once.
        given = torch.cat([tokens, tokens.new_zeros(batch_size, beams, len(names) - step)], dim=2).flatten(0, 1)
        trace = model.trace(
            batch_size * beams,
            None if x is None else x.repeat_interleave(beams, dim=0),
            values=dict(zip(names, given.unbind(1), strict=True)),
            keep=keep_only(name),
        )
        logits = torch.log_softmax(base_law(trace[name].distribution).logits, dim=-1).view(batch_size, beams, -1)
        total = logits if scores is None else scores[:, :, None] + logits
        categories = total.shape[2]
        scores, chosen = total.flatten(1).topk(min(size, beams * categories), dim=1)
        before = tokens.gather(1, (chosen // categories)[:, :, None].expand(-1, -1, step))
        tokens = torch.cat([before, (chosen % categories)[:, :, None]], dim=2)
    assert scores is not None
    return dict(zip(names, tokens[:, 0].unbind(1), strict=True)), scores[:, 0]


def _categorical_targets(model: DGM, x: Tensor | None) -> list[str]:
    """Names of the targets in the order of the program, from a run on one row."""
    generator = torch.Generator().manual_seed(0)  # the global one is the training's
    trace = model.trace(1, x, keep=keep_fields(KEEP_DISTRIBUTION), generator=generator)
    names = []
    for name, site in trace.items():
        if site.kind is Kind.DETERMINISTIC:
            continue
        law = base_law(site.distribution)
        if site.kind is Kind.LATENT or site.law is not Law.GUMBEL or law.batch_shape != (1,) or law.event_shape:
            raise SiteError(
                f"beam search needs targets that are one category each and no latents, but {name!r} is a "
                f"{site.kind.value} with {type(law).__name__} law of shape {tuple(law.batch_shape + law.event_shape)}"
            )
        names.append(name)
    if not names:
        raise SiteError(f"{type(model).__name__} has no target to search for")
    return names

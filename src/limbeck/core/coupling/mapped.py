"""Coupling of models whose latents do not line up: the student's noise is a linear map of the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.core.coupling.coupling import Request
from limbeck.core.coupling.mixing import mixed_targets
from limbeck.core.coupling.noise_layout import NoiseLayout
from limbeck.core.coupling.noise_map import MapKind, NoiseMap, Start
from limbeck.core.first_parameter import first_parameter
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.reparam import Law
from limbeck.core.reparam.noise import draw
from limbeck.core.trace import KEEP_SHARED_NOISE, Kind, Trace
from limbeck.errors import MatchError

__all__ = ["MappedNoise"]


class MappedNoise(nn.Module):
    r"""Student noise as a row-orthonormal linear map of the teacher's; the targets correspond, the latents need not.

    All of the teacher's latent noise is made normal (probability integral transform), flattened to one row, multiplied
    by R with :math:`R R^T = I`, cut to the shapes of the student's latents and turned into their laws. R is independent
    of the noise, so the student draws from exactly its own model, and with KL the loss bounds that of the targets:

    .. math:: E[KL(p_\phi(y|\epsilon) \| p_\theta(y|R\epsilon))]
              = E[KL(p_\phi(y|R\epsilon) \| p_\theta(y|R\epsilon))] + I_\phi(y; \epsilon | R\epsilon)
              \ge KL(p_\phi(y) \| p_\theta(y))

    The mutual information is what the student cannot know. It shows as blur; it depends on R, not on the student. A
    student with more noise than the teacher draws the rest independently, ``samples`` times per row.

    Args:
        map: ``"arrange"``: the same numbers in the order of the programs; ``"position"``: the same numbers, each in a
            latent of similar grid size and at a similar position; ``"random"``: a fixed random rotation; ``"learned"``:
            any orthonormal rows, trained with the student.
        start: the initial value of a learned map.
        samples: number K of draws, per row, of the noise that the teacher does not determine; the law of the only
            target is then the equal mixture over them, for a divergence such as
            :func:`~limbeck.core.divergence.kl_monte_carlo`.
        independent: the student's latents whose noise is always drawn independently. So are those numbers of the others
            that the teacher has too few numbers for: with ``"arrange"`` the last ones in the order of the program.
        seed: of a random map.

    Raises:
        MatchError: an argument is none of its choices.
    """

    def __init__(
        self,
        map: MapKind = "position",
        *,
        start: Start = "position",
        samples: int = 1,
        independent: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice(MatchError, "map", map, MapKind)
        check_choice(MatchError, "start", start, Start)
        if samples < 1:
            raise MatchError(f"samples must be at least 1, not {samples}")
        self.map: MapKind = map
        self.start: Start = start
        self.samples = samples
        self.independent = tuple(independent)
        self.seed = seed
        self.noise_map: NoiseMap | None = None
        self._student: NoiseLayout | None = None
        self._teacher: NoiseLayout | None = None

    @override
    def extra_repr(self) -> str:
        """All settings: the fingerprint of a training is made of them."""
        return (
            f"map={self.map!r}, start={self.start!r}, samples={self.samples}, independent={self.independent!r}, "
            f"seed={self.seed}"
        )

    def prepare(self, teacher: DGM, student: DGM, x: Tensor | None = None) -> None:
        """Make the map, from one run of two rows of each model. A second call changes nothing.

        Args:
            teacher: the frozen model.
            student: the model to train.
            x: conditioning input, shape (rows, ...), if the models have one.

        Raises:
            MatchError: the student lacks a latent that should be independent, or there is nothing to map.
        """
        if self.noise_map is not None:
            return
        taught, learned = NoiseLayout.of(teacher, x), NoiseLayout.of(student, x)
        if unknown := [name for name in self.independent if name not in learned.shapes]:
            raise MatchError(
                f"independent: the student has no latent {unknown[0]!r}; it has: {', '.join(learned.shapes) or 'none'}"
            )
        free = learned.where([name for name in learned.shapes if name not in self.independent])
        like = first_parameter(student)
        self.noise_map = NoiseMap(taught, learned, free, self.map, self.start, self.seed).to(like)
        self._teacher, self._student = taught, learned

    @override
    def forward(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both; see :class:`~limbeck.core.coupling.Coupling`.

        Raises:
            MatchError: a learned map was not prepared, or a model's latents are not those it was prepared for.
        """
        if self.noise_map is None:
            if self.map == "learned":
                raise MatchError(
                    "a learned noise map must be made before the optimiser that trains it: call "
                    "objective.prepare(teacher, student), then pass the parameters of both student and objective"
                )
            self.prepare(teacher, student, request.x)
        with frozen(teacher):
            taught = teacher.trace(
                request.batch_size,
                request.x,
                keep=lambda name, kind: KEEP_SHARED_NOISE[kind] | request.keep_teacher(name, kind),
                generator=request.generator,
            )
        learned = student.trace(
            taught.batch_size * self.samples,
            None if request.x is None else self._repeated(request.x),
            noise=self._noise(taught, request.generator),
            values={request.rename(n, Kind.TARGET): self._repeated(value) for n, value in taught.targets.items()},
            keep=request.keep_student(taught),
            generator=request.generator,
        )
        if self.samples > 1:
            learned = mixed_targets(learned, self.samples, f"samples = {self.samples}", "samples = 1")
        return taught, learned

    def _noise(self, taught: Trace, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The student's noise, shape (batch * samples, ...), from the teacher's run."""
        layout = NoiseLayout.of_trace(taught)
        if self.noise_map is None or self._student is None or layout != self._teacher:
            raise MatchError(
                "the teacher's latents are not those that the noise map was made for: their noises have the shapes "
                f"{layout.shapes}, not {self._teacher.shapes if self._teacher else {}}; use another objective for "
                "another teacher, and latents whose number does not change from row to row"
            )
        flat = layout.flatten({name: eps for name, eps in taught.noise.items() if name in layout.shapes})
        mapped = self._repeated(self.noise_map(flat))
        places = self.noise_map.places
        if len(places) < self._student.size:
            own = draw(Law.NORMAL, torch.Size((len(mapped), self._student.size)), mapped, generator)
            mapped = own.index_copy(1, places, mapped)
        return self._student.unflatten(mapped)

    def _repeated(self, rows: Tensor) -> Tensor:
        return rows if self.samples == 1 else rows.repeat_interleave(self.samples, 0)

"""The teacher with other numbers of steps: what a student with the same number of steps must beat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.engine.evaluations.diffusion.diffusion_draws import Sampler
from limbeck.errors import RecipeError

__all__ = ["Variants", "check_steps"]


class Variants(Mapping[str, DGM]):
    """Name of the row to a copy of the teacher, made when it is asked for: only one at a time need be in memory.

    Args:
        teacher: a sampler; of any other model there are no variants.
        steps: how many; the teacher's own number is left out.
        spacing: see :func:`limbeck.models.diffusion.schedule.sampling_times`.
    """

    def __init__(self, teacher: DGM, steps: Sequence[int], spacing: str) -> None:
        self.teacher = teacher
        self.spacing = spacing
        self.steps: dict[str, int] = {}
        if isinstance(teacher, Sampler):
            names = {count: f"teacher, {count} step{'s' if count > 1 else ''}" for count in steps}
            self.steps = {name: count for count, name in names.items() if count != len(teacher.timesteps)}

    @override
    def __getitem__(self, name: str) -> DGM:
        assert isinstance(self.teacher, Sampler)
        found = self.teacher.resampled(steps=self.steps[name], spacing=self.spacing, start=None)
        assert isinstance(found, DGM)
        return found

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.steps)

    @override
    def __len__(self) -> int:
        return len(self.steps)


def check_steps(steps: Sequence[int]) -> None:
    """Refuse numbers of steps that cannot be used.

    Raises:
        RecipeError: one is below 1, or is given twice.
    """
    if any(count < 1 for count in steps) or len(set(steps)) < len(steps):
        raise RecipeError(f"evaluation.steps_shown must be different whole numbers from 1 on, not {list(steps)}")

"""What tests listen with: a progress that remembers its reports, and one that interrupts a training."""

from __future__ import annotations

from limbeck.engine.stages.progress import Progress


class Recorder(Progress):
    """Remembers every report.

    Attributes:
        expected: steps that all stages together were said to take.
        stages: label, steps and steps done before, of each stage.
        steps: the step and its loss, of each advance.
        losses: on validation rows.
        stops: steps after which stages ended early.
        messages: texts for the user.
    """

    def __init__(self) -> None:
        self.expected = 0
        self.stages: list[tuple[str, int, int]] = []
        self.steps: list[tuple[int, float | None]] = []
        self.losses: list[float] = []
        self.stops: list[int] = []
        self.messages: list[str] = []

    @property
    def total(self) -> int:
        """Steps of all stages that began."""
        return sum(steps for _, steps, _ in self.stages)

    def expect(self, steps: int) -> None:
        self.expected = steps

    def start(self, label: str, steps: int, done: int = 0) -> None:
        self.stages.append((label, steps, done))

    def advance(self, step: int, loss: float | None = None) -> None:
        self.steps.append((step, loss))

    def validated(self, loss: float) -> None:
        self.losses.append(loss)

    def stop(self, step: int) -> None:
        self.stops.append(step)

    def message(self, text: str) -> None:
        self.messages.append(text)


class Interrupting(Progress):
    """Raises an error when a training has done a given step.

    Args:
        step: the step.
        error: what is raised.
    """

    def __init__(self, step: int, error: type[Exception] = InterruptedError) -> None:
        self.step = step
        self.error = error

    def advance(self, step: int, loss: float | None = None) -> None:
        if step == self.step:
            raise self.error

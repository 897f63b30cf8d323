"""The loss of one training step, as it is or through ``torch.compile``."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Objective
from limbeck.errors import CompilationError

__all__ = ["LossOfStep", "check_compiler", "compilation", "compiled_loss", "plain_loss"]

LossOfStep = Callable[[Objective, DGM | None, DGM, int | None, Tensor | None, Batch | None, float], Loss]
"""Objective, teacher, student, batch size, conditioning inputs, rows and progress to a loss."""

BACKEND: str | Callable[..., object] = "inductor"
"""What torch compiles with; tests set a quicker one."""


def plain_loss(
    objective: Objective,
    teacher: DGM | None,
    student: DGM,
    batch_size: int | None,
    x: Tensor | None,
    batch: Batch | None,
    progress: float,
) -> Loss:
    """Call an objective; arguments and result are those of :meth:`limbeck.core.objective.Objective.forward`."""
    found: Loss = objective(teacher, student, batch_size=batch_size, x=x, batch=batch, progress=progress)
    return found


def compiled_loss(tell: Callable[[str], None]) -> LossOfStep:
    """:func:`plain_loss` through ``torch.compile``, for one training inside :func:`compilation`.

    The runs of teacher and student and their comparison become one program, and so does the backward pass. The program
    draws from the same generators with the same seeds. But it may draw in another order, and it leaves out draws that
    nothing depends on, such as targets of the teacher of which only the law is needed. If no other noise follows such
    draws, losses agree up to rounding; otherwise they are those of other draws from the same law. On one computer the
    program is the same each time, so that a training that continues ends bit for bit like one that never stopped.

    Where Python decides by the progress of the training, there is a program for each outcome. Some steps run
    uncompiled: those that torch cannot follow to the end, because a file is read or a tensor's values decide, and those
    that take more than ``torch._dynamo.config.recompile_limit`` programs. Compiled in pieces, they would be compiled
    again and again, since what one piece leaves to the next is new in each step.

    Args:
        tell: receives the reason if the step runs uncompiled.
    """
    from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit, TorchDynamoException

    # Torch's own noise rather than inductor's: if it is drawn in the same order, it is the same as without compiling.
    options: dict[str, str | int | bool | Callable[..., object]] | None = None
    if BACKEND == "inductor":
        options = {"fallback_random": True}
    _announce_progress()
    compiled: LossOfStep = torch.compile(plain_loss, fullgraph=True, backend=BACKEND, options=options)
    reasons: list[str] = []

    def loss(*arguments: Any) -> Loss:
        if not reasons:
            try:
                return compiled(*arguments)
            except BackendCompilerFailed:
                raise
            except (TorchDynamoException, FailOnRecompileLimitHit) as error:
                # Nothing has run yet. An error of the model or the method comes again below, as itself.
                reasons.append(_first_line(error))
        found = plain_loss(*arguments)
        if len(reasons) == 1:
            tell(reasons[0])
            reasons.append("told")
        return found

    return loss


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _announce_progress() -> None:
    """Let torch see two values of the progress: it treats an argument as a constant until it sees it change.

    Otherwise the first step, and the first one after each continuation, would be compiled for itself alone.
    """
    one = torch.ones(())
    first: Callable[..., object] = torch.compile(plain_loss, backend="eager")
    for progress in (0.25, 0.5):
        first(lambda *_, progress, **__: one * progress, None, None, None, None, None, progress)


@contextlib.contextmanager
def compilation(wanted: bool = True) -> Iterator[None]:
    """Inside the context, a step may be compiled; afterwards the compiled programs and their models are released.

    Args:
        wanted: whether anything is compiled at all.

    Raises:
        CompilationError: it could not be.
    """
    if not wanted:
        yield
        return
    from torch._dynamo import config
    from torch._dynamo.exc import TorchDynamoException

    try:
        with warnings.catch_warnings(), config.patch(allow_rnn=True):
            # Torch warns of caches that it looks behind, but ours hold only what follows from their arguments; and of
            # code that it cannot follow, which is reported once, by `tell`.
            warnings.filterwarnings("ignore", module=r"torch\._dynamo.*")
            yield
    except TorchDynamoException as error:
        cause = getattr(error, "inner_exception", error)
        raise CompilationError(
            f"training.compile: torch could not compile the step ({type(cause).__name__}: {_first_line(cause)}). It "
            "needs a C++ compiler such as g++ and, for a GPU, Triton: install what is missing, or leave "
            "training.compile out."
        ) from None
    finally:
        # Torch limits how often it compiles a function, and each model that is trained counts.
        torch.compiler.reset()


def check_compiler(device: torch.device) -> None:
    """Compile almost nothing, to find out before a teacher's training whether compiling is possible.

    Args:
        device: where models are trained.

    Raises:
        CompilationError: it is not possible here.
    """
    with compilation():
        torch.compile(_next, backend=BACKEND)(torch.zeros(1, device=device))


def _next(value: Tensor) -> Tensor:
    return value + 1

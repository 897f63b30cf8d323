"""What a teacher whose outputs are kept saves of a training step, and what looking them up costs.

WRN-40-2 to WRN-16-1 by VID, as in [V] Sec. 3.1. The yardstick is a step in which the teacher runs. Beside it are timed
the same step with the cached teacher, and the parts that differ: the teacher's run alone, and looking up what it would
have said. What the cache saves should be the teacher's share: the target of the cached step is one minus that share, as
it is measured here, plus 0.03.

    python benchmarks/teacher_cache.py             some minutes
    python benchmarks/teacher_cache.py --quick     shows that it runs, measures nothing
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import torch
from timing import Row, Step, add_options, finished, measure, take_turns, training_step

from limbeck import methods
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.stand_in import real_model
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOTHING, Keep
from limbeck.engine import CachedTeacher, TeacherCache, TrainerOptions, Training, cached
from limbeck.engine.settings.batches import Batches
from limbeck.models import NetworkClassifier

MARGIN = 0.03
MATCHES = {"kd": ["y:kd"], "vid": ["h[*]:vid"]}


@dataclass(frozen=True)
class Size:
    """The two networks, and how often they are measured."""

    teacher: dict[str, int]
    student: dict[str, int]
    pixels: int
    rows: int
    batch: int
    turns: int


FULL = Size({"depth": 40, "width": 2, "classes": 10}, {"depth": 16, "width": 1, "classes": 10}, 32, 1024, 64, 15)
QUICK = Size({"depth": 10, "width": 2, "classes": 10}, {"depth": 10, "width": 1, "classes": 10}, 8, 16, 8, 2)


def rows_of(size: Size, device: str) -> Iterable[Row]:
    """Both methods."""
    torch.manual_seed(0)
    images = torch.randint(256, (size.rows, 3, size.pixels, size.pixels), dtype=torch.uint8)
    data = Batch(torch.randint(10, (size.rows,)), images)
    teacher = NetworkClassifier("WideResNet", size.teacher).eval()
    student = NetworkClassifier("WideResNet", size.student)
    training = Training(batch_size=size.batch)
    trainer = TrainerOptions(accelerator="cpu" if device == "cpu" else "gpu")
    for name, matches in MATCHES.items():
        objective = methods.transfer([*matches])
        with tempfile.TemporaryDirectory() as place:
            found = cached(teacher, TeacherCache(), [objective], data, Path(place), training=training, trainer=trainer)
            yield from timed(name, found, student, matches, Batches(data, size.batch, 0), size.turns, device)


def timed(
    name: str, found: CachedTeacher, student: DGM, matches: list[str], batches: Batches, turns: int, device: str
) -> Iterable[Row]:
    """The steps with and without, and what differs between them."""
    found.to(device)
    names = {site.name for site in found.sites if site.columns}

    def keep(site: str, kind: object) -> int:
        return KEEP_DISTRIBUTION if site in names else KEEP_NOTHING

    sides = {
        "cached": step_of(found, student, matches, batches, device),
        "teacher alone": run_of(found.source, batches, keep, device),
        "look up alone": run_of(found, batches, keep, device),
    }
    yardstick = step_of(found.source, student, matches, batches, device)
    measured = take_turns({side: (step, 0.0) for side, step in sides.items()}, yardstick, turns)
    share = next(row.ratio for row in measured if row.case == "teacher alone")
    targets = {"cached": 1.0 - share + MARGIN, "teacher alone": 1.0, "look up alone": MARGIN}
    assert found.missed == 0
    for row in measured:
        yield dataclasses.replace(row, case=f"{name}, {row.case}", target=targets[row.case])


def step_of(teacher: DGM, student: DGM, matches: list[str], batches: Batches, device: str) -> Step:
    """One optimiser step after another, rows in their usual order."""
    objective, learner, steps = methods.transfer([*matches]), copy.deepcopy(student).to(device).train(), count()
    objective.prepare(real_model(teacher), learner, placed(batches(0), device).x)
    parameters = [*learner.parameters(), *objective.to(device).parameters()]
    optimizer = torch.optim.SGD(parameters, 1e-3, momentum=0.9)

    def loss() -> torch.Tensor:
        total: torch.Tensor = objective(teacher, learner, batch=placed(batches(next(steps)), device)).total
        return total

    return finished(training_step(loss, optimizer), device)


def run_of(model: DGM, batches: Batches, keep: Keep, device: str) -> Step:
    """The teacher's part of a step."""
    steps = count()

    def run() -> None:
        with frozen(model):
            model.trace(x=placed(batches(next(steps)), device).x, keep=keep)

    return finished(run, device)


def placed(batch: Batch, device: str) -> Batch:
    """A batch where the models are."""
    return Batch(batch.y.to(device), None if batch.x is None else batch.x.to(device))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    add_options(parser)
    options = parser.parse_args()
    measure([partial(rows_of, QUICK if options.quick else FULL, options.device)], options)


if __name__ == "__main__":
    main()

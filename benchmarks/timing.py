"""Timing two sides in turns, and the table: what the benchmarks share."""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

Step = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        case: what is measured.
        ratio: median over the turns of (time / time of the yardstick).
        fastest: fastest time / fastest time of the yardstick.
        target: what the ratio should not exceed.
        milliseconds: median time.
        yardstick_milliseconds: median time of the yardstick.
    """

    case: str
    ratio: float
    fastest: float
    target: float
    milliseconds: float
    yardstick_milliseconds: float


def training_step(loss: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer) -> Step:
    """One optimiser step on a loss of shape (), as a user writes it."""

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def finished(step: Step, device: str) -> Step:
    """The step, and waiting for what it started on a GPU."""
    if device == "cpu":
        return step

    def whole() -> None:
        step()
        torch.cuda.synchronize()

    return whole


def take_turns(sides: Mapping[str, tuple[Step, float]], yardstick: Step, turns: int, *, per: int = 1) -> list[Row]:
    """Time every side and the yardstick once a turn.

    Args:
        sides: case to what is timed and the target of its ratio.
        yardstick: what the ratios are relative to.
        turns: how often.
        per: number of steps in one call.
    """
    calls = {"": yardstick, **{name: step for name, (step, _) in sides.items()}}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for step in calls.values():
        for _ in range(1 if turns < 100 else 30):
            step()
    gc.collect()
    for turn in range(turns):
        # Every other turn the other way round: what runs first may find the caches colder.
        for name, step in list(calls.items())[:: 1 if turn % 2 else -1]:
            begun = time.perf_counter()
            step()
            times[name].append((time.perf_counter() - begun) * 1e3 / per)
    least = times[""]
    return [
        Row(
            name,
            statistics.median(a / b for a, b in zip(times[name], least, strict=True)),
            min(times[name]) / min(least),
            target,
            statistics.median(times[name]),
            statistics.median(least),
        )
        for name, (_, target) in sides.items()
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every benchmark has."""
    parser.add_argument("--quick", action="store_true", help="small models and few turns")
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is measured")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here too")


def measure(cases: list[Callable[[], Iterable[Row]]], options: argparse.Namespace) -> None:
    """Run every case, print its rows as they come, and write them down if asked to."""
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "quick": options.quick,
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{'case':<44}{'ratio':>8}{'fastest':>9}{'target':>8}{'ms':>10}{'by hand':>10}")
    rows = []
    for _ in range(options.rounds):
        for case in cases:
            torch.manual_seed(0)
            for row in case():
                rows.append(row)
                print(
                    f"{row.case:<44}{row.ratio:>8.3f}{row.fastest:>9.3f}{row.target:>8.2f}"
                    f"{row.milliseconds:>10.3f}{row.yardstick_milliseconds:>10.3f}",
                    flush=True,
                )
    if options.rounds > 1:
        print("\n".join(summary(rows)))
    if options.json is not None:
        options.json.write_text(
            json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"
        )


def summary(rows: Iterable[Row]) -> list[str]:
    """Lines with each case's median ratio over the rounds: one round varies by some hundredths.

    Example:
        >>> summary([Row("vid", ratio, 1.0, 1.1, 9.0, 8.0) for ratio in (1.08, 1.12, 1.09)])[1]
        'vid                                            1.090 (1.080 to 1.120)'
    """
    ratios: dict[str, list[float]] = {}
    for row in rows:
        ratios.setdefault(row.case, []).append(row.ratio)
    return ["median over the rounds (least to largest)"] + [
        f"{case:<44}{statistics.median(found):>8.3f} ({min(found):.3f} to {max(found):.3f})"
        for case, found in ratios.items()
    ]

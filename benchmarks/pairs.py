"""What recorded pairs cost: bytes and seconds to make 1.024 million of CIFAR's size, and to read them in a training.

Everything is measured on a sample and multiplied. Making is measured with the U-Net of the student as the teacher's
network, for one evaluation of it: a sampler of 100 steps takes 100 of them for each pair. Reading is what a step of the
training waits for: the recorded run in the place of the teacher's, with the drawing of its noise. Its share of a whole
step through the objective is asked to be below 3 %.

    python benchmarks/pairs.py             some minutes
    python benchmarks/pairs.py --quick     shows that it runs, measures nothing
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from limbeck import methods
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOISE, Kind
from limbeck.data.pairs.layout import encode
from limbeck.engine import Pairs, RecordedTeacher, record
from limbeck.models import DDIM

PAPER = 1_024_000
STEPS = 100
TARGET = 0.03


@dataclass(frozen=True)
class Size:
    """One case.

    Attributes:
        name: what it is.
        image: pixels a side.
        channels: of an image.
        widths: channels of each level of the U-Net.
        batch: rows of a training step.
        rows: pairs that are made.
        turns: how often each thing is timed.
    """

    name: str
    image: int
    channels: int
    widths: tuple[int, ...]
    batch: int
    rows: int
    turns: int

    def unet(self) -> dict[str, Any]:
        """Arguments of the network: attention at the second level, as in the paper's teachers."""
        levels = len(self.widths)
        attention = [level == 1 for level in range(levels)]
        return {
            "sample_size": self.image, "in_channels": self.channels, "out_channels": self.channels,
            "block_out_channels": list(self.widths), "layers_per_block": 2, "norm_num_groups": min(32, self.widths[0]),
            "down_block_types": ["AttnDownBlock2D" if one else "DownBlock2D" for one in attention],
            "up_block_types": ["AttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attention)],
        }  # fmt: skip


FULL = (
    Size("digits, 8 x 8", 8, 1, (32, 64), 64, 4096, 30),
    Size("CIFAR, 32 x 32 x 3", 32, 3, (32, 64, 64), 64, 1024, 5),
)
QUICK = (
    Size("digits, 8 x 8", 8, 1, (8, 8), 4, 64, 2),
    Size("CIFAR, 32 x 32 x 3", 32, 3, (8, 8), 4, 32, 1),
)


def median_seconds(call: Callable[[], object], turns: int) -> float:
    """Median time of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(turns):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def measured(size: Size, directory: Path) -> dict[str, float | str]:
    """All numbers of one case."""
    torch.manual_seed(0)
    teacher = DDIM(size.unet(), steps=1).eval()
    student = DDIM(size.unet(), steps=1).train()
    pairs = Pairs(size.rows, dtype="uint8", batch_size=64)
    recorded = record(teacher, pairs, directory)
    sampling = median_seconds(lambda: teacher.sample(64, output="mean"), size.turns) / 64
    store, noise = recorded.recorded.store, recorded.recorded.noise
    pages = range(pairs.shard_rows // pairs.page_rows)

    def write() -> None:
        noise.draw(pages)
        images = store.read("x_0", pages).float().div_(255)
        store.write(0, {"x_0": encode(images, "uint8")})

    writing = median_seconds(write, size.turns) / pairs.shard_rows
    checking = median_seconds(lambda: store.damage(0), size.turns)
    held = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    reading, step = in_training(recorded, student, size)
    return {
        "case": size.name,
        "parameters": float(sum(parameter.numel() for parameter in student.parameters())),
        "bytes a pair": held / (pairs.shards * pairs.shard_rows),
        "making, ms a pair and evaluation": 1e3 * sampling,
        "noise and writing, ms a pair": 1e3 * writing,
        "checking, s a GB": checking / store.path(0).stat().st_size * 1e9,
        "reading, us a row": 1e6 * reading / size.batch,
        "step, ms": 1e3 * step,
        "waiting, share of a step": reading / step,
    }


def in_training(teacher: RecordedTeacher, student: DDIM, size: Size) -> tuple[float, float]:
    """Seconds that a step waits for its pairs, and seconds of the step, batch of the training."""
    objective = methods.denoising_student()
    optimizer = torch.optim.Adam(student.parameters(), 1e-4, fused=True)

    def read() -> object:
        def keep(name: str, kind: Kind) -> int:
            return KEEP_NOISE if kind is Kind.LATENT else KEEP_DISTRIBUTION if kind is Kind.TARGET else 0

        return teacher.trace(size.batch, keep=keep)

    def step() -> None:
        optimizer.zero_grad()
        objective(teacher, student, batch_size=size.batch).total.backward()
        optimizer.step()

    return median_seconds(read, 10 * size.turns), median_seconds(step, size.turns)


def main() -> None:
    """Print the numbers of each case, and what they make for the paper's million."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small models and few turns")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, quick {options.quick}")
    found = []
    for size in QUICK if options.quick else FULL:
        with tempfile.TemporaryDirectory() as directory:
            numbers = measured(size, Path(directory))
        found.append(numbers)
        print(f"\n{numbers['case']}, student of {float(numbers['parameters']) / 1e6:.2f} M, batch {size.batch}")
        for name, value in list(numbers.items())[2:]:
            target = f"   (asked: < {TARGET})" if "share" in name else ""
            print(f"  {name:<36}{float(value):>12.4g}{target}")
        total = PAPER * float(numbers["bytes a pair"])
        hours = PAPER * STEPS * float(numbers["making, ms a pair and evaluation"]) / 3.6e6
        writing = PAPER * float(numbers["noise and writing, ms a pair"]) / 60e3
        print(f"  {PAPER:,} pairs, extrapolated: {total / 1e9:.2f} GB as uint8;")
        print(f"  {hours:,.1f} h for {STEPS} evaluations a pair on this processor, {writing:.1f} min for all the rest")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""How fast a student of one step draws images next to its teacher of many, and our sampler next to that of diffusers.

Two comparisons, each with both sides in turns in one process. The student: its time for a batch times the teacher's
number of steps, over the teacher's time; at 1 it is as many times faster as it has fewer steps, and what is asked are
0.9 of that. Our sampler, which is a generative program with a trace: its time over that of the plain loop of a network
and diffusers' ``DDIMScheduler.step`` over the same times.

    python benchmarks/sampling.py                     all cases, some minutes
    python benchmarks/sampling.py --steps 100         a teacher of another number of steps
    python benchmarks/sampling.py --device cuda       on a GPU
    python benchmarks/sampling.py --quick             small models and few turns: shows that it runs, measures nothing
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from timing import Row, Step, add_options, finished, measure, take_turns

from limbeck.models import DDIM

AS_FAST_AS_IT_HAS_FEWER_STEPS = 1 / 0.9
NO_SLOWER = 1.03


@dataclass(frozen=True)
class Size:
    """A network, and how often it is measured."""

    name: str
    unet: dict[str, Any]
    batch: int
    turns: int


def network(pixels: int, channels: list[int], images: int = 1) -> dict[str, Any]:
    """Arguments of a U-Net without attention, one layer a block."""
    return {
        "sample_size": pixels,
        "in_channels": images,
        "out_channels": images,
        "block_out_channels": channels,
        "layers_per_block": 1,
        "norm_num_groups": min(8, channels[0] // 2),
        "down_block_types": ["DownBlock2D"] * len(channels),
        "up_block_types": ["UpBlock2D"] * len(channels),
    }


FULL = [
    Size("digits, 8 pixels", network(8, [32, 64]), 100, 9),
    Size("one image of digits at a time", network(8, [32, 64]), 1, 9),
    Size("28 pixels", network(28, [16, 32, 32]), 50, 5),
]
QUICK = [Size("quick", network(8, [4, 8]), 2, 2)]


def student(size: Size, steps: int, device: str) -> Iterator[Row]:
    """One step next to many, of one network."""
    teacher, one = (DDIM(size.unet, steps=count, spacing="trailing").eval().to(device) for count in (steps, 1))
    one.load_state_dict(teacher.state_dict())
    sides = {f"{size.name}: 1 step x {steps}": (draw(one, size, device), AS_FAST_AS_IT_HAS_FEWER_STEPS)}
    for row in take_turns(sides, draw(teacher, size, device), size.turns):
        yield replace(row, ratio=row.ratio * steps, fastest=row.fastest * steps)


def sampler(size: Size, steps: int, device: str) -> Iterator[Row]:
    """Our program next to the plain loop."""
    from diffusers import DDIMScheduler

    model = DDIM(size.unet, steps=steps, spacing="trailing").eval().to(device)
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert tuple(scheduler.timesteps.tolist()) == model.timesteps

    @torch.no_grad()
    def loop() -> None:
        state = torch.randn(size.batch, *model.image_shape, device=device)
        for t in scheduler.timesteps:
            state = scheduler.step(model.unet(state, t).sample, t, state).prev_sample

    yield from take_turns(
        {f"{size.name}: our sampler, {steps} steps": (draw(model, size, device), NO_SLOWER)},
        finished(loop, device),
        size.turns,
    )


def draw(model: DDIM, size: Size, device: str) -> Step:
    """A batch of images, as it is used."""
    return finished(lambda: model.sample(size.batch, output="mean"), device)


def main() -> None:
    """Run every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps", type=int, default=50, help="of the teacher")
    add_options(parser)
    options = parser.parse_args()
    cases: list[Callable[[], Iterable[Row]]] = [
        partial(kind, size, options.steps, options.device)
        for size in (QUICK if options.quick else FULL)
        for kind in (student, sampler)
    ]
    measure(cases, options)


if __name__ == "__main__":
    main()

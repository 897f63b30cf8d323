"""What our flows cost next to others' code for the same thing: a training step, sampling, and distillation.

Three comparisons, each with both sides in turns in one process: our Glow against that of normflows, a flow of zuko's in
our wrapper against the flow itself, and the distillation of flows against what it must cost at least, which is the
teacher's pass, the student's pass forwards and backwards, and the optimiser.

    python benchmarks/flows.py                     all cases, some minutes
    python benchmarks/flows.py --only zuko         some of them
    python benchmarks/flows.py --device cuda       on a GPU
    python benchmarks/flows.py --quick             small models and few turns: shows that it runs, measures nothing

normflows is needed for the first comparison only and is no dependency of the library: pip install normflows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timing import Row, Step, add_options, finished, measure, take_turns, training_step
from torch import Tensor, nn

from limbeck.core import methods
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.models import Flow, Glow, TableGlow, ZukoFlow

LEARNING_RATE = 1e-4
NO_SLOWER = 1.0
WRAPPED = 1.03


@dataclass(frozen=True)
class Size:
    """Sizes of everything that is measured; one object for the real thing, one for a quick look."""

    image: int
    glow: dict[str, Any]
    images: int
    image_turns: int
    features: int
    rows: int
    table_rows: int
    table_turns: int
    zuko_turns: int


FULL = Size(32, {"levels": 3, "depth": 4, "hidden": 128}, 16, 15, 6, 2048, 8192, 25, 60)
QUICK = Size(8, {"levels": 2, "depth": 1, "hidden": 8}, 2, 2, 6, 16, 16, 3, 3)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of both sides."""
    return torch.optim.Adam((p for p in model.parameters() if p.requires_grad), LEARNING_RATE)


def pair(name: str, ours: Step, theirs: Step, limit: float, turns: int, device: str) -> Iterator[Row]:
    """One line of the table."""
    yield from take_turns({name: (finished(ours, device), limit)}, finished(theirs, device), turns)


def without_gradients(draw: Callable[[], object]) -> Step:
    """Sampling, as it is used."""

    @torch.no_grad()
    def step() -> None:
        draw()

    return step


# ------------------------------------------------------------------------------------------------------- normflows


def normflows_glow(size: Size) -> Any:
    """The Glow of normflows' own tutorial, of the same levels, depth and hidden channels."""
    import normflows as nf

    levels, channels = size.glow["levels"], 3
    bases, flows, merges = [], [], []
    for index in range(levels):  # counted from the latents
        wide = channels * 2 ** (levels + 1 - index)
        blocks = [
            nf.flows.GlowBlock(wide, size.glow["hidden"], split_mode="channel", scale=True)
            for _ in range(size.glow["depth"])
        ]
        flows.append([*blocks, nf.flows.Squeeze()])
        side = size.image // 2 ** (levels - index)
        if index:
            merges.append(nf.flows.Merge())
        bases.append(nf.distributions.DiagGaussian((wide // 2 if index else wide, side, side)))
    return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)


def glow(size: Size, device: str) -> Iterator[Row]:
    """Images of 32x32 pixels; ours has a learned prior at each split, theirs a mean and a scale for each element."""
    try:
        theirs = normflows_glow(size).to(device)
    except ImportError:
        print("glow: normflows is not installed, so there is nothing to compare with; pip install normflows")
        return
    y = torch.rand(size.images, 3, size.image, size.image, device=device)
    ours = Glow(size.image, quantization=None, **size.glow).to(device)
    ours.adapt(Batch(y))
    theirs.forward_kld(y)  # its normalisations look at the first batch
    name = f"glow {size.image} px, depth {size.glow['depth']}, hidden {size.glow['hidden']}"
    yield from pair(
        f"{name}: training",
        training_step(lambda: ours.loss(Batch(y)).total, adam(ours)),
        training_step(lambda: theirs.forward_kld(y), adam(theirs)),
        NO_SLOWER,
        size.image_turns,
        device,
    )
    yield from pair(
        f"{name}: sampling",
        without_gradients(lambda: ours.sample(size.images)),
        without_gradients(lambda: theirs.sample(size.images)),
        NO_SLOWER,
        size.image_turns,
        device,
    )


# ------------------------------------------------------------------------------------------------------------ zuko

WRAPPED_FLOWS: list[tuple[str, dict[str, Any]]] = [
    ("MAF", {"transforms": 3, "hidden_features": [32, 32]}),
    ("NSF", {"transforms": 3, "hidden_features": [32, 32]}),
    ("NICE", {"transforms": 6, "hidden_features": [64, 64]}),
]


def zuko(size: Size, device: str) -> Iterator[Row]:
    """Flows of zuko's as they are, and in our wrapper."""
    import zuko.flows

    y = torch.randn(size.rows, size.features, device=device)

    def our_loss(flow: ZukoFlow) -> Tensor:
        return flow.loss(Batch(y)).total

    def bare_loss(flow: Any) -> Tensor:
        return -flow().log_prob(y).mean()  # type: ignore[no-any-return]

    def bare_sample(flow: Any) -> Tensor:
        return flow().sample((size.rows,))  # type: ignore[no-any-return]

    for name, settings in WRAPPED_FLOWS:
        bare = getattr(zuko.flows, name)(size.features, **settings).to(device)
        ours = ZukoFlow(name, size.features, **settings).to(device)
        yield from pair(
            f"zuko {name}, {size.rows} rows: training",
            training_step(partial(our_loss, ours), adam(ours)),
            training_step(partial(bare_loss, bare), adam(bare)),
            WRAPPED,
            size.zuko_turns,
            device,
        )
        yield from pair(
            f"zuko {name}, {size.rows} rows: sampling",
            without_gradients(partial(ours.sample, size.rows)),
            without_gradients(partial(bare_sample, bare)),
            WRAPPED,
            size.zuko_turns,
            device,
        )


# ---------------------------------------------------------------------------------------------------- distillation


def hand_step(teacher: Flow, student: Flow, y: Tensor) -> Step:
    """The least that distilling latents takes: no sites, no comparison but that of the latents."""

    def loss() -> Tensor:
        with torch.no_grad():
            teacher.log_prob(y)
        return -student.log_prob(y).mean()

    return training_step(loss, adam(student))


def engine_step(objective: Objective, teacher: Flow, student: Flow, y: Tensor) -> Step:
    """One step as a user of the library writes it."""
    objective.prepare(teacher, student)
    batch = Batch(y)
    return training_step(lambda: objective(teacher, student, batch=batch, batch_size=len(y)).total, adam(student))


def distillation(size: Size, device: str) -> Iterator[Row]:
    """Table sizes of [F], teacher to student, Glow and MAF."""
    y = torch.randn(size.table_rows, size.features, device=device)

    def maf(transforms: int) -> ZukoFlow:
        return ZukoFlow("MAF", size.features, transforms=transforms, hidden_features=[32, 32]).to(device)

    def table_glow(depth: int, hidden: int) -> TableGlow:
        return TableGlow(size.features, depth, hidden).to(device)

    kinds: dict[str, tuple[Flow, Callable[[], Flow]]] = {
        "Glow 5 -> 3": (table_glow(5, 64), lambda: table_glow(3, 32)),
        "MAF 6 -> 3": (maf(6), lambda: maf(3)),
    }
    for kind, (teacher, student) in kinds.items():
        teacher.eval().requires_grad_(False)
        # A sample costs a coupling flow one more pass of each model, an autoregressive one a pass for each column.
        passes = 1 if kind.startswith("Glow") else size.features
        objectives = {
            "LKD": (methods.lkd(), 1.05),
            "ILKD": (methods.ilkd(), 1.1),
            "SKD": (methods.skd(), 1.1 + 1.2 * passes),
            "SKD, stable": (methods.skd(inverse=False), 2.2 + 0.5 * passes),
        }
        sides = {
            f"{kind}: {name}": (finished(engine_step(objective, teacher, student(), y), device), limit)
            for name, (objective, limit) in objectives.items()
        }
        yield from take_turns(sides, finished(hand_step(teacher, student(), y), device), size.table_turns)


CASES = {"glow": glow, "zuko": zuko, "distillation": distillation}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="which cases")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    add_options(parser)
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    measure([partial(CASES[name], size, options.device) for name in options.only], options)


if __name__ == "__main__":
    main()

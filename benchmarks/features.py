"""What matching hidden features costs beside the bare step of teacher and student.

The bare step is written out in plain torch: teacher forward without gradients, student forward, cross-entropy,
backward, SGD. The other sides are what a user writes, ``limbeck.methods.transfer([...])`` on the same two networks,
whose four features are those of [V] Sec. 3.1; parameters of the divergence are in the optimiser. All sides take turns
in one process, and what is reported is the median over the turns of the ratio of their times.

    python benchmarks/features.py                      all methods, some minutes
    python benchmarks/features.py --only vid at        some of them
    python benchmarks/features.py --device cuda        on a GPU
    python benchmarks/features.py --quick              small networks, few turns: shows that it runs, measures nothing

Where torchdistill can be imported, its losses of the same name are timed beside ours, fed with the features of plain
networks; the regressors of its VID are written out here, three 1x1 convolutions with ReLU, since its own need
torchvision, and are as wide as ours. It is no dependency of the library: pip install --no-deps torchdistill.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from timing import Row, Step, add_options, finished, measure, take_turns, training_step
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.core.objective import Match
from limbeck.core.trace import Kind
from limbeck.divergence import VID
from limbeck.models import NetworkClassifier


@dataclass(frozen=True)
class Size:
    """The two networks, and how often they are measured."""

    teacher: dict[str, int]
    student: dict[str, int]
    pixels: int
    batch: int
    turns: int


FULL = Size({"depth": 40, "width": 2, "classes": 10}, {"depth": 16, "width": 1, "classes": 10}, 32, 64, 15)
QUICK = Size({"depth": 10, "width": 2, "classes": 10}, {"depth": 10, "width": 1, "classes": 10}, 8, 2, 2)

METHODS: dict[str, tuple[list[Match | str], float]] = {
    "kd": (["y:kd"], 1.03),
    "at": (["h[*]:at"], 1.10),
    "vid": (["h[*]:vid"], 1.10),
    "vid, all positions": (
        [Match("h[*]", divergence=VID(positions=None), weight=10.0, kind=Kind.DETERMINISTIC)],
        math.inf,
    ),
    "vid-lp": (["logits->penultimate:vid-lp"], math.inf),
    "fitnet": (["h[*]:fitnet"], math.inf),
    "nst": (["h[*]:nst"], 1.60),
    "crd": (["penultimate:crd"], 1.60),
    "dkd": (["y:dkd"], math.inf),
}
"""Name to what is matched and the limit of its ratio; infinite where there is none."""


def sgd(*modules: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of every side ([V] App. A.3)."""
    learning = [p for module in modules for p in module.parameters() if p.requires_grad]
    return torch.optim.SGD(learning, 0.1, momentum=0.9, weight_decay=5e-4, fused=True)


@dataclass(frozen=True)
class Setting:
    """Two networks on a device, and a batch."""

    teacher: NetworkClassifier
    student: NetworkClassifier
    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, size: Size, device: str) -> Setting:
        """Fresh ones, from one seed."""
        torch.manual_seed(0)
        teacher = NetworkClassifier("WideResNet", dict(size.teacher)).eval().requires_grad_(False)
        student = NetworkClassifier("WideResNet", dict(size.student)).train()
        x, y = (
            torch.randn(size.batch, 3, size.pixels, size.pixels),
            torch.randint(size.student["classes"], (size.batch,)),
        )
        return cls(teacher.to(device), student.to(device), x.to(device), y.to(device))

    def plain(self) -> tuple[Any, Any]:
        """The two networks alone, the student a copy."""
        return self.teacher.network, copy.deepcopy(self.student.network)


def bare(setting: Setting) -> Step:
    """What every method costs at least."""
    teacher, student = setting.plain()

    def loss() -> Tensor:
        with torch.no_grad():
            teacher(setting.x)
        return F.cross_entropy(student(setting.x), setting.y)

    return training_step(loss, sgd(student))


def ours(setting: Setting, matches: list[Match | str]) -> Step:
    """The same with matches, as a user writes it."""
    student = copy.deepcopy(setting.student)
    objective = methods.transfer(matches)
    objective.prepare(setting.teacher, student, setting.x[:2])
    batch = Batch(setting.y, setting.x)
    return training_step(lambda: objective(setting.teacher, student, batch=batch).total, sgd(student, objective))


# ---------------------------------------------------------------------------------------------------- torchdistill

OUTPUT = "output"


def theirs(name: str, setting: Setting) -> Step | None:
    """A loss of torchdistill on the same features, or none if it has none of this name."""
    teacher, student = copy.deepcopy(setting.plain())
    with torch.no_grad():
        pairs = {path: _features(teacher, path, setting.x[:2]) for path in teacher.feature_paths}
        own = {path: _features(student, path, setting.x[:2]) for path in student.feature_paths}
    widths = [(a.shape[1], b.shape[1]) for a, b in zip(pairs.values(), own.values(), strict=True)]
    found = _torchdistill(name, list(pairs), list(own), widths)
    if found is None:
        return None
    loss_module, regressors = found
    loss_module, regressors = loss_module.to(setting.x.device), regressors.to(setting.x.device)
    held: tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]] = {}, {}
    for network, store in ((teacher, held[0]), (student, held[1])):
        for path in ["", *network.feature_paths]:
            network.get_submodule(path).register_forward_hook(partial(_keep, store, path or "logits"))

    def loss() -> Tensor:
        with torch.no_grad():
            teacher(setting.x)
        logits = student(setting.x)
        for path, regressor in zip(student.feature_paths, regressors, strict=False):
            held[1][path] = {OUTPUT: regressor(held[1][path][OUTPUT])}
        matched: Tensor = loss_module(held[1], held[0], setting.y)
        return F.cross_entropy(logits, setting.y) + matched

    return training_step(loss, sgd(student, regressors))


def _torchdistill(
    name: str, teacher: list[str], student: list[str], widths: list[tuple[int, int]]
) -> tuple[nn.Module, nn.ModuleList] | None:
    from torchdistill.losses import mid_level

    pairs: dict[str, Any] = {
        str(i): {"teacher": {"io": OUTPUT, "path": a}, "student": {"io": OUTPUT, "path": b}, "weight": 1}
        for i, (a, b) in enumerate(zip(teacher, student, strict=True))
    }
    none = nn.ModuleList()
    if name == "kd":
        loss = mid_level.KDLoss("logits", OUTPUT, "logits", OUTPUT, temperature=4.0, alpha=0.5)
        return loss, none
    if name == "at":
        return mid_level.ATLoss(pairs, mode="code"), none
    if name == "vid":
        return mid_level.VIDLoss(pairs), nn.ModuleList(PlainRegressor(own, width) for width, own in widths)
    return None


class PlainRegressor(nn.Module):
    """Mean and variance of a teacher's map from a student's."""

    def __init__(self, own: int, width: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(a, b, 1, bias=False) for a, b in pairwise((own, 2 * width, 2 * width, width))]
        self.mean = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2])
        self.alpha = nn.Parameter(torch.full((width, 1, 1), 5.0))

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, own, height, width) to two that can be broadcast."""
        return self.mean(x), F.softplus(self.alpha) + 1e-5


def _features(network: nn.Module, path: str, x: Tensor) -> Tensor:
    store: dict[str, dict[str, Tensor]] = {}
    handle = network.get_submodule(path).register_forward_hook(partial(_keep, store, path))
    network(x)
    handle.remove()
    return store[path][OUTPUT]


def _keep(store: dict[str, dict[str, Tensor]], path: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
    store[path] = {OUTPUT: output}


def torchdistill_found() -> bool:
    """Whether it can be imported."""
    try:
        importlib.import_module("torchdistill.losses.mid_level")
    except ImportError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------- cases


def compare(names: list[str], size: Size, device: str) -> Iterator[Row]:
    """All methods and the bare step in turns."""
    setting = Setting.of(size, device)
    sides: dict[str, tuple[Step, float]] = {}
    for name in names:
        matches, limit = METHODS[name]
        sides[name] = finished(ours(setting, matches), device), limit
        other = theirs(name, setting) if torchdistill_found() else None
        if other is not None:
            sides[f"{name}, torchdistill"] = finished(other, device), math.inf
    yield from take_turns(sides, finished(bare(setting), device), size.turns)


def main() -> None:
    """Run the methods that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS), help="these methods")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    add_options(parser)
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    cases: list[Callable[[], Iterable[Row]]] = [partial(compare, options.only, size, options.device)]
    measure(cases, options)


if __name__ == "__main__":
    main()

"""The divergences between features and between logits, each with a pair of sites that it compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from limbeck.core.delta import Delta
from limbeck.core.joint import Joint
from limbeck.core.methods.knowledge_transfer import NAMED
from limbeck.core.objective import Divergence
from limbeck.divergence import CRD, VID, Learned, LwF, Regressor, attention, selectivity

BATCH = 6
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A divergence, and the shapes of one row of the two sites.

    Attributes:
        make: the divergence, a template if it learns.
        teacher: shape of a row of each of the teacher's features, without the batch.
        student: of each of the student's.
        laws: makes the two laws of the values.
    """

    make: Callable[[], Divergence]
    teacher: tuple[Shape, ...]
    student: tuple[Shape, ...]
    laws: Callable[[list[Tensor]], Distribution] = lambda values: Delta(values[0])
    learned_laws: Callable[[list[Tensor]], Distribution] | None = None

    def teacher_law(self, values: list[Tensor]) -> Distribution:
        """Of values as by :func:`values`."""
        return self.laws(values)

    def student_law(self, values: list[Tensor]) -> Distribution:
        """Of values as by :func:`values`."""
        return (self.learned_laws or self.laws)(values)

    def values(self, seed: int = 0, batch: int = BATCH) -> tuple[list[Tensor], list[Tensor]]:
        """Features of both sides, double precision."""
        return normal(self.teacher, seed, batch), normal(self.student, seed + 100, batch)

    def pair(self, seed: int = 0, batch: int = BATCH) -> tuple[Distribution, Distribution]:
        """The laws of such features."""
        theirs, own = self.values(seed, batch)
        return self.teacher_law(theirs), self.student_law(own)

    def sized(self, seed: int = 0) -> Divergence:
        """The divergence with parameters for these sites."""
        torch.manual_seed(seed)
        divergence = self.make()
        return divergence.fitted(*self.pair()) if isinstance(divergence, Learned) else divergence


def normal(shapes: tuple[Shape, ...], seed: int, batch: int) -> list[Tensor]:
    """One tensor of normal numbers a shape."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, *shape, generator=generator, dtype=torch.float64) for shape in shapes]


def labels(batch: int, classes: int) -> Tensor:
    """A class a row, int64 of shape (batch,)."""
    return torch.arange(batch) % classes


def categorical(values: list[Tensor]) -> Distribution:
    """The class whose logits these are."""
    return Categorical(logits=values[0])


def labelled(values: list[Tensor]) -> Distribution:
    """The same beside the labels."""
    return Joint([categorical(values), Delta(labels(*values[0].shape))])


def layers(values: list[Tensor]) -> Distribution:
    """Two layers of one network."""
    return Joint([Delta(value) for value in values])


MAPS = {"teacher": ((5, 4, 4),), "student": ((3, 4, 4),)}
LOGITS = {"teacher": ((4,),), "student": ((4,),)}
HEAD = {"teacher": ((4,),), "student": ((6,),)}


def named(name: str) -> Callable[[], Divergence]:
    """What a short name stands for."""
    return NAMED[name].divergence


CASES: dict[str, Case] = {
    "vid": Case(named("vid"), **MAPS),
    "vid, transfer": Case(lambda: VID(layers=2, hidden=0.5), **MAPS),
    "vid, linear, summed": Case(lambda: VID(layers=1, normalize=False), **MAPS),
    "vid, some positions": Case(lambda: VID(positions=5), ((5, 8, 6),), ((3, 8, 6),)),
    "vid, smaller map": Case(lambda: VID(layers=2), ((5, 6, 6),), ((3, 3, 3),)),
    "vid, larger map": Case(named("vid"), ((5, 4, 2),), ((3, 8, 6),)),
    "vid, vector to map": Case(named("vid"), ((5, 8, 8),), ((3,),)),
    "vid, vector to odd map": Case(named("vid"), ((3, 14, 14),), ((2,),)),
    "vid, map to vector": Case(named("vid"), ((5,),), ((3, 4, 4),)),
    "vid, sequences": Case(named("vid"), ((5, 12),), ((3, 4),)),
    "vid-lp": Case(named("vid-lp"), **HEAD),
    "vid-student-t": Case(named("vid-student-t"), **MAPS),
    "vid-mixture": Case(named("vid-mixture"), **MAPS),
    "vid-mixture, vector to map": Case(named("vid-mixture"), ((3, 4, 4),), ((2,),)),
    "fitnet": Case(named("fitnet"), **MAPS),
    "fitnet, smaller map": Case(named("fitnet"), ((5, 6, 6),), ((3, 3, 3),)),
    "fitnet, vector to map": Case(named("fitnet"), ((5, 8, 8),), ((3,),)),
    "regressor of given width": Case(lambda: Regressor(3, 5, order=2.0, root=False).double(), **MAPS),
    "at": Case(named("at"), **MAPS),
    "at, unequal maps": Case(lambda: attention, ((5, 4, 4),), ((3, 8, 6),)),
    "nst": Case(named("nst"), **MAPS),
    "nst, few positions": Case(lambda: selectivity, ((7, 2, 2),), ((6, 2, 2),)),
    "lwf": Case(named("lwf"), **HEAD),
    "lwf, squared": Case(lambda: LwF("squared"), **HEAD),
    "fsp": Case(named("fsp"), ((3, 8, 8), (5, 4, 4)), ((3, 4, 4), (5, 4, 4)), layers),
    "crd": Case(lambda: CRD(embedding=5, negatives=11), ((7,),), ((3,),)),
    "logits": Case(named("logits"), **LOGITS),
    "kd": Case(named("kd"), **LOGITS, laws=categorical),
    "standardized-kd": Case(named("standardized-kd"), **LOGITS, laws=categorical),
    "dkd": Case(named("dkd"), **LOGITS, laws=labelled, learned_laws=categorical),
}
"""Every divergence of this kind; the contract in test_feature_divergences.py holds for each."""

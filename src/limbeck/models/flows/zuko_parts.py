"""Steps of zuko's flows, and how one of them takes over the coordinates of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from limbeck.errors import MatchError, ModelError
from limbeck.models.flows.activations import activation_class
from limbeck.models.flows.bijection import Bijection

__all__ = ["ZukoStep", "check_places", "constructor", "constructor_settings", "follow", "grouped", "turns"]


class ZukoStep(Bijection):
    """One or more of zuko's lazy transforms as a step.

    Args:
        transforms: in the order from data to latents.
    """

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        # In tuples, since going through a list of modules costs as much as a small layer.
        self._forwards, self._backwards = tuple(transforms), tuple(reversed(transforms))

    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total: Tensor | float = 0
        for lazy in self._forwards:
            h, change = lazy(x).call_and_ladj(h)
            total = total + (change if change.ndim < h.ndim else change.sum(-1))
        return h, total  # type: ignore[return-value]

    @override
    def inverse(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        for lazy in self._backwards:
            h = lazy(x).inv(h)
        return h


def grouped(transform: nn.Module) -> list[list[nn.Module]]:
    """The steps of a flow's transform: what zuko puts between its steps belongs to the one before.

    Args:
        transform: ``flow.transform`` of a zuko flow; one that is not composed is one step.
    """
    from zuko.flows import UnconditionalTransform
    from zuko.lazy import LazyComposedTransform

    parts = list(transform.transforms) if isinstance(transform, LazyComposedTransform) else [transform]
    groups: list[list[nn.Module]] = []
    for part in parts:
        if groups and isinstance(part, UnconditionalTransform):
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def constructor(name: str) -> Any:
    """The class ``zuko.flows.<name>``.

    Raises:
        ModelError: zuko is missing, or has no such flow.
    """
    try:
        import zuko.flows
    except ImportError:
        raise ModelError("zuko is not installed; install it with: pip install 'limbeck[flows]'") from None
    found = getattr(zuko.flows, name, None)
    if not _is_flow(found):
        known = ", ".join(key for key, value in vars(zuko.flows).items() if _is_flow(value))
        raise ModelError(f"zuko has no flow {name!r}; there are: {known}")
    return found


def _is_flow(kind: object) -> bool:
    from zuko.flows import Flow

    return isinstance(kind, type) and issubclass(kind, Flow) and kind is not Flow


def constructor_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Plain settings as zuko takes them: ``activation`` is the name of a class of ``torch.nn``.

    Raises:
        ModelError: there is no such activation.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            value = constructor_settings(value)
        elif key == "activation" and isinstance(value, str):
            value = activation_class(value)
        found[key] = value
    return found


def turns(steps: Sequence[ZukoStep]) -> list[nn.Module]:
    """The transforms that neither keep elements in their places nor depend on the row: permutations, rotations."""
    from zuko.flows import UnconditionalTransform

    found = []
    for step in steps:
        for lazy in step.transforms:
            if isinstance(lazy, UnconditionalTransform) and lazy(None).domain.event_dim > 0:
                found.append(lazy)
    return found


def check_places(student: Sequence[ZukoStep], teacher: Sequence[ZukoStep]) -> None:
    """Refuse a trained student whose permutations are not the teacher's: no training can make them the same.

    Raises:
        MatchError: a permutation differs.
    """
    for own, other in zip(turns(student), turns(teacher), strict=False):
        theirs = dict(other.named_buffers())
        for name, buffer in own.named_buffers():
            if name in theirs and not torch.equal(buffer, theirs[name].to(buffer.device)):
                raise MatchError(
                    "the student was trained with other permutations than the teacher has, so their latents have "
                    "different coordinates; take a new student, or pass align=False and compare densities or samples"
                )


@torch.no_grad()
def follow(student: Sequence[ZukoStep], teacher: Sequence[ZukoStep]) -> None:
    """Take over what teacher and student must share for a comparison element by element.

    Permutations and rotations are copied. Autoregressive and coupling steps keep every element in its place, so nothing
    needs to agree; but where the teacher's orders or masks were drawn at random, the student takes those of the last of
    the teacher's steps that each of its own stands for, so that an element sees the same others.

    Raises:
        MatchError: one of the two turns its coordinates and the other does not, or in another number of steps; or an
            order or mask that was drawn at random does not fit the student's networks.
    """
    mine, theirs = turns(student), turns(teacher)
    shapes = [[{name: t.shape for name, t in part.state_dict().items()} for part in side] for side in (mine, theirs)]
    if shapes[0] != shapes[1] or (mine and len(student) != len(teacher)):
        raise MatchError(
            f"the teacher has {len(theirs)} permutations or rotations in {len(teacher)} steps and the student "
            f"{len(mine)} in {len(student)}, so their latents have different coordinates; give both the same number "
            "of steps, take a flow that keeps its columns (MAF, NSF, NICE, ...), or pass align=False and compare "
            "densities or samples"
        )
    for own, other in zip(mine, theirs, strict=True):
        own.load_state_dict(other.state_dict())
    ends = [round((count + 1) * len(teacher) / len(student)) - 1 for count in range(len(student))]
    leaders = [teacher[max(end, 0)] for end in ends]
    if _random([_layout(step) for step in teacher]):
        for step, leader in zip(student, leaders, strict=True):
            for own, other in zip(step.transforms, leader.transforms, strict=False):
                _take_layout(own, other)


def _layout(step: ZukoStep) -> list[int] | None:
    """Order or mask of the step's first transform, if it has one."""
    for name in ("order", "mask"):
        found = getattr(step.transforms[0], name, None)
        if isinstance(found, Tensor):
            return [int(element) for element in found]
    return None


def _random(layouts: Sequence[list[int] | None]) -> bool:
    """Whether the steps do not simply take turns between two layouts, one the other's reverse or complement."""
    return any(layout != layouts[index % 2] for index, layout in enumerate(layouts)) or any(
        layout is not None and layout not in (sorted(layout), sorted(layout, reverse=True), *_stripes(len(layout)))
        for layout in layouts
    )


def _stripes(size: int) -> Iterator[list[int]]:
    """Every other element, both ways."""
    for first in range(2):
        yield [int(element % 2 == first) for element in range(size)]


def _take_layout(own: nn.Module, other: nn.Module) -> None:
    """Rename the columns of a fresh step, so that its order or mask becomes that of another step of the same kind."""
    wanted, present = (getattr(part, "order", None) for part in (other, own))
    if isinstance(wanted, Tensor) and isinstance(present, Tensor):
        _reorder(own, present, wanted)
        return
    wanted, present = (getattr(part, "mask", None) for part in (other, own))
    if isinstance(wanted, Tensor) and isinstance(present, Tensor):
        if wanted.sum() != present.sum():
            raise MatchError(
                f"a coupling step of the teacher's has {int(wanted.sum())} columns in its mask, and the student's that "
                f"stands for it {int(present.sum())}, so that it cannot take over a random mask; give the student as "
                "many steps as the teacher has, or both randmask=False, or pass align=False"
            )
        present.copy_(wanted)


def _reorder(own: nn.Module, present: Tensor, wanted: Tensor) -> None:
    """Let column i play the part that column ``roles[i]`` plays in the order that is there."""
    if not torch.equal(present.sort().values, wanted.sort().values):
        raise MatchError(
            "the orders of teacher's and student's autoregressive steps have different numbers of groups; give the "
            f"student passes={len(set(wanted.tolist()))}"
        )
    roles = torch.empty_like(wanted)
    roles[wanted.argsort(stable=True)] = present.argsort(stable=True)
    linear = [module for module in own.modules() if isinstance(module, nn.Linear) and hasattr(module, "mask")]
    first: Any = linear[0]
    last: Any = linear[-1]
    columns = torch.cat([roles, torch.arange(len(roles), first.in_features, device=roles.device)])
    size = last.out_features // len(roles)
    rows = (roles[:, None] * size + torch.arange(size, device=roles.device)).flatten()
    for tensor in (first.weight, first.mask):
        tensor.copy_(tensor[:, columns])
    for tensor in (last.weight, last.mask, last.bias):
        tensor.copy_(tensor[rows])
    present.copy_(wanted)

"""Filling a teacher cache: outputs are computed once, kept under a fingerprint, and checked before they are used."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Distribution

from limbeck.core.copying import copied
from limbeck.core.first_parameter import first_parameter
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Combined, Objective
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOTHING, Kind, Trace, keep_fields
from limbeck.data.caching.row_keys import RowKeys
from limbeck.data.caching.store import CacheStore, Column
from limbeck.engine.caching.cached_laws import dismantle, stored_numbers, stored_order
from limbeck.engine.caching.cached_teacher import KEYS, CachedSite, CachedTeacher
from limbeck.engine.caching.teacher_cache import TeacherCache, check_repeated
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.settings.placement import running_device
from limbeck.engine.settings.precision import TRUE_PRECISION, autocast
from limbeck.engine.stages.fingerprints import describe_tensor, fingerprint, weights_fingerprint
from limbeck.engine.stages.locking import locked
from limbeck.engine.stages.model_description import describe_model
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.units import amount
from limbeck.errors import ModelError, RecipeError
from limbeck.files import remove_temporary_files

__all__ = ["cached"]

_CHECKED = 8  # rows on which a cache that is there is compared with its teacher
_TOLERANCE = {"float32": 1e-3, "float16": 1e-2}  # of the largest number: far above rounding, far below another teacher


def cached(
    teacher: DGM,
    settings: TeacherCache,
    objectives: Sequence[Objective],
    rows: Batch,
    directory: str | Path,
    *,
    training: Training | None = None,
    trainer: TrainerOptions | None = None,
    progress: Progress | None = None,
    label: str = "teacher cache",
) -> CachedTeacher:
    """A teacher that looks up its outputs for these rows; those that are not stored yet are computed now.

    Outputs are kept below a directory, under a fingerprint of the teacher's class, arguments and weights, of the rows
    and their augmentation, of the precision and of the type they are stored in. So they can never be mistaken for those
    of another teacher or other data. Outputs that are found are checked against their checksums, and on a few rows
    against the teacher itself. After an interruption they are computed from the start. If several processes need them,
    one computes them and the others wait.

    Args:
        teacher: the frozen model, without latents.
        settings: how to store outputs.
        objectives: what students will minimise; the hidden features that they compare are stored.
        rows: everything that students see, as in the training.
        directory: where caches are kept.
        training: of the students; it has the augmentation, and the number of rows that the teacher gets at once.
        trainer: has the device and the precision in which the teacher runs.
        progress: receives size and steps.
        label: what to call this.

    Returns:
        The stand-in for the teacher.

    Raises:
        ModelError: the teacher has latents or sites that cannot be stored, or makes numbers that are not finite.
        RecipeError: there is nothing to look up by, rows are augmented anew each time, or they would take more than the
            limit.
        StorageError: the disk is full, or permission is missing.

    Example:
        ::

            rows = limbeck.engine.rows_of(dataset.train, "labels", "images")
            taught = limbeck.engine.cached(teacher, TeacherCache(), [objective], rows, "cache/teachers")
            limbeck.distill(taught, student, objective, data=rows)
    """
    trainer, progress = trainer or TrainerOptions(), progress or Progress()
    training = training or Training()
    check_repeated(rows.x is not None, training.augmentation)
    batches = Batches(rows, training.batch_size, 0, training.augmentation)
    assert batches.copies is not None
    device, dtype = running_device(trainer.accelerator), TRUE_PRECISION.get(trainer.precision)
    if dtype is not None:
        teacher = copied(teacher).to(dtype)
    filling = _Filling(teacher, settings, batches, trainer.precision, device)
    sites = filling.sites(objectives)
    columns = {column.name: column for site in sites if site.columns for column in site.columns.values()}
    columns = {KEYS: Column(KEYS, "int64", (2,)), **columns}
    count = len(rows) * batches.copies
    store = CacheStore(Path(directory).resolve() / filling.key, filling.key, count)
    needed = sum(column.row_bytes for column in columns.values()) * count
    if needed > settings.limit_bytes:
        raise RecipeError(
            f"teacher_cache: {count:,} rows take {amount(needed)}, more than limit_bytes "
            f"({amount(settings.limit_bytes)}); raise it, store float16, match smaller layers, or leave the cache out"
        )
    with locked(store.directory, wait=True):
        remove_temporary_files(store.directory)
        for problem in store.load():
            progress.message(f"{label}: {problem}; it is made again.")
        found = {name for name, column in store.columns.items() if _alike(column, columns.get(name))}
        if found and not filling.agrees(store, [column for name, column in columns.items() if name in found]):
            progress.message(f"{label}: what is in {store.directory} is not what the teacher says; it is made again.")
            store.columns, found = {}, set()
        missing = {name: column for name, column in columns.items() if name not in found}
        if missing:
            progress.message(f"{label}: {amount(sum(c.row_bytes for c in missing.values()) * count)} to be made")
            filling.fill(store, missing, progress, label)
        else:
            progress.start(label, batches.total, batches.total)
            progress.advance(batches.total)
    teacher.cpu()
    return CachedTeacher(teacher, store, sites, progress)


class _Filling:
    """Runs a teacher over all rows."""

    def __init__(
        self, teacher: DGM, settings: TeacherCache, batches: Batches, precision: str, device: torch.device
    ) -> None:
        self.teacher = teacher.to(device)
        self.settings = settings
        self.batches = batches
        self.precision = precision
        self.device = device

    @cached_property
    def key(self) -> str:
        """Fingerprint of all that the outputs depend on."""
        x, augmentation = self.batches.rows.x, self.batches.augmentation
        assert x is not None
        return fingerprint(
            model=describe_model(self.teacher), weights=weights_fingerprint(self.teacher),
            layout=[list(parameter.stride()) for parameter in self.teacher.parameters()],
            rows=describe_tensor(x), views=None if augmentation is None else vars(augmentation),
            stored=self.settings.dtype, precision=self.precision, device=self.device.type, torch=torch.__version__,
        )  # fmt: skip

    def inputs(self) -> Iterator[Tensor]:
        """The rows as a training has them, one batch at a time."""
        like = first_parameter(self.teacher)
        for batch in self.batches.everything():
            x = batch.x
            assert x is not None
            yield x.to(self.device, like.dtype if x.is_floating_point() else None)

    def sites(self, objectives: Sequence[Objective]) -> tuple[CachedSite, ...]:
        """All sites of the teacher's program, and how those that the objectives need are stored."""
        trace = self.run(next(self.inputs())[:2])
        found = []
        for name, site in trace.items():
            who = type(self.teacher).__name__
            if site.kind is Kind.LATENT:
                raise ModelError(
                    f"teacher_cache: {who} draws its {name!r} anew in each step, so there is nothing to keep; record "
                    "pairs instead, or leave the cache out"
                )
            if site.mask is not None:
                raise ModelError(f"teacher_cache: rows of {who} differ in whether they have {name!r}; leave it out")
            wanted = site.kind is Kind.TARGET or any(_asks(objective, name, site.kind) for objective in objectives)
            found.append(CachedSite(name, site.kind, self._columns(name, site.kept_distribution()) if wanted else None))
        return tuple(found)

    def _columns(self, site: str, law: Distribution) -> dict[str, Column]:
        parameters, told = dismantle(law, site)
        found = {}
        for name, value in parameters.items():
            order = stored_order(value)
            dtype = str(value.dtype).removeprefix("torch.")
            half = self.settings.dtype == "float16" and value.dtype in (torch.float32, torch.float64)
            shape = (value if order is None else value.permute(order)).shape[1:]
            details = {"law": told, "order": order, "dtype": dtype}
            stored = "float16" if half else dtype
            found[name] = Column(f"{site}.{name}", stored, tuple(shape), details={**details, "site": site, "of": name})
        return found

    def run(self, x: Tensor) -> Trace:
        """The teacher's laws, without a change of the global random state."""
        generator = torch.Generator(device=x.device)
        with frozen(self.teacher), autocast(self.precision, self.device):
            return self.teacher.trace(x=x, keep=keep_fields(KEEP_DISTRIBUTION), generator=generator)

    def fill(self, store: CacheStore, columns: dict[str, Column], progress: Progress, label: str) -> None:
        """Compute and write arrays."""
        keys = RowKeys()
        progress.start(label, self.batches.total)
        with store.writing(columns) as writer:
            for number, x in enumerate(self.inputs(), start=1):
                trace = self.run(x) if columns.keys() != {KEYS} else None
                for name, column in columns.items():
                    rows = torch.stack(keys(x), 1) if trace is None or name == KEYS else stored_numbers(trace, column)
                    writer.add(name, rows)
                progress.advance(number)

    def agrees(self, store: CacheStore, columns: Sequence[Column]) -> bool:
        """Whether the first rows are as the teacher computes them now."""
        x = next(self.inputs())[:_CHECKED]
        trace, count = self.run(x), len(x)
        for column in columns:
            if column.name == KEYS:
                same = torch.equal(store.array(KEYS)[:count], torch.stack(RowKeys()(x), 1).cpu())
            else:
                expected, found = (
                    stored_numbers(trace, column).cpu().double(),
                    store.array(column.name)[:count].double(),
                )
                finite = expected.isfinite()
                limit = _TOLERANCE[self.settings.dtype] * expected[finite].abs().amax() if bool(finite.any()) else 0.0
                same = bool(((expected - found)[finite].abs() <= limit).all())
            if not same:
                return False
        return True


def _asks(objective: Objective, name: str, kind: Kind) -> bool:
    if isinstance(objective, Combined):
        return any(_asks(part, name, kind) for part in objective.objectives.values())
    return objective.needs_teacher and objective.keep_teacher(name, kind) != KEEP_NOTHING


def _alike(found: Column, wanted: Column | None) -> bool:
    return wanted is not None and dataclasses.replace(found, digest="") == wanted

"""A recipe over a grid of settings: each point is an ordinary run; points run in parallel and share their models."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from limbeck.engine.experiments.axes import Axis, short_labels
from limbeck.engine.stages.locking import locked
from limbeck.engine.stages.orphans import end_with
from limbeck.engine.stages.ranks import is_main_process
from limbeck.engine.sweeps.sweep_plan import Part, Point, plan
from limbeck.engine.sweeps.sweep_progress import Item, SweepProgress
from limbeck.engine.sweeps.sweep_worker import Settings, pack, work
from limbeck.errors import RecipeError, StorageError
from limbeck.files import atomic_write_text, remove_temporary_files
from limbeck.metrics.sweep_results import SweepAxis, SweepPoint, SweepResults

__all__ = ["Backend", "Sweep", "default_jobs"]

Backend = Literal["joblib", "ray"]


class Sweep:
    """The points of a grid in one directory.

    Args:
        axes: the grid's dimensions.
        points: its points.
        name: name of the recipe.
        directory: of the sweep; each point has a directory in it, and ``stages`` holds what they share.
        cache: where extractors, recorded pairs and stored outputs are kept between runs.
        command: the command that reproduces the sweep.
        jobs: number of parallel processes; by default :func:`default_jobs`, with Ray the processors of its cluster.
        backend: ``"joblib"`` for this machine, ``"ray"`` for all machines of a cluster.
        dry_run: whether stages are cut short.
        finish: called with the directory of each finished point, by the process that finished it.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        points: Sequence[Point],
        *,
        name: str,
        directory: Path,
        cache: Path,
        command: str,
        jobs: int | None = None,
        backend: Backend = "joblib",
        dry_run: bool = False,
        finish: Callable[[Path], object] | None = None,
    ) -> None:
        if jobs is not None and jobs < 1:
            raise RecipeError(f"--jobs must be at least 1, not {jobs}")
        trainers = [point.recipe.trainer for point in points]
        if any(trainer.devices not in (1, "1") or trainer.num_nodes != 1 for trainer in trainers):
            raise RecipeError(
                "a sweep trains each model on one device; set trainer.devices=1, or run the points one by one"
            )
        if not is_main_process():
            raise RecipeError("start a sweep as one process: it starts the others itself, on a cluster through Ray")
        self.axes, self.points = list(axes), list(points)
        self.name, self.directory, self.command = name, directory.resolve(), command
        self.cache = cache.resolve()
        self.backend, self.dry_run, self.finish = backend, dry_run, finish
        self.jobs = jobs if jobs is not None or backend == "ray" else default_jobs(trainers[0].accelerator)

    def run(self) -> SweepResults:
        """Do everything that is not done yet.

        Returns:
            The record, also written to ``sweep.json``. If a point fails, its error is there, and the others continue.

        Raises:
            StorageError: a process was killed from outside, or the directory cannot be written.
            RecipeError: Ray is asked for, but is not installed.
        """
        with locked(self.directory), _backend(self.backend, self.jobs, self._gpus) as parallel:
            remove_temporary_files(self.directory)
            reports = self.directory / "reports"
            shutil.rmtree(reports, ignore_errors=True)
            reports.mkdir()
            try:
                errors = self._run(parallel, reports)
            finally:
                shutil.rmtree(reports, ignore_errors=True)
            record = self._record(errors)
            atomic_write_text(self.directory / "sweep.json", record.to_json())
            return record

    def _run(self, parallel: Callable[[list[Any]], list[Any]], reports: Path) -> list[str]:
        settings = Settings(
            name=self.name, directory=self.directory, cache=self.cache, reports=reports, working_directory=os.getcwd(),
            paths=tuple(os.path.abspath(path) for path in sys.path),
            parent=os.getpid(), threads=self.threads, dry_run=self.dry_run, finish=self.finish,
        )  # fmt: skip
        packed = [pack(point) for point in self.points]
        rounds: list[list[tuple[Item, int, Part | None]]] = [
            [(Item(f"model-{number}-{index}", self._label(part), part.steps), part.point, part)
             for index, part in enumerate(parts)]
            for number, parts in enumerate(plan(self.points))
        ]  # fmt: skip
        rounds.append([(Item(f"point-{index}", point.name), index, None) for index, point in enumerate(self.points)])
        with SweepProgress([item for group in rounds for item, _, _ in group], reports):
            for group in rounds:
                # A model that failed fails again, at once, at the points that need it, which report the error.
                errors = parallel(
                    [joblib.delayed(work)(settings, packed[at], part, item.report) for item, at, part in group]
                )
        return errors

    @property
    def threads(self) -> int | None:
        """Threads of each process: what the user has set, or an equal share of the processors."""
        if self.backend == "ray":
            return None  # Ray gives each process the threads of the processors that it reserves
        given = os.environ.get("OMP_NUM_THREADS", "")
        return int(given) if given.isdecimal() else max(1, joblib.cpu_count() // (self.jobs or 1))

    @property
    def _gpus(self) -> int:
        return int(self.points[0].recipe.trainer.accelerator in ("gpu", "cuda"))

    def _label(self, part: Part) -> str:
        """The model and a point that needs it."""
        model = "teacher" if part.method is None else f"{part.method}, seed {part.seed}"
        return f"{self.points[part.point].name}: {model}"

    def _record(self, errors: Sequence[str]) -> SweepResults:
        recipe = self.points[0].recipe
        return SweepResults(
            recipe=self.name,
            name=self.directory.name,
            title=recipe.title,
            description=recipe.description,
            command=self.command,
            axes=[SweepAxis(label, axis.keys, axis.values) for label, axis in zip(short_labels(self.axes), self.axes)],
            points=[SweepPoint(p.name, list(p.values), error) for p, error in zip(self.points, errors, strict=True)],
            notes=self._notes(),
            dry_run=self.dry_run,
        )

    def _notes(self) -> list[str]:
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        if self.backend == "ray":
            how = "The work was shared by the processes of a Ray cluster"
        elif self.jobs == 1:
            how = f"One process with {threads} did everything"
        else:
            how = f"{self.jobs} processes with {threads} each worked in parallel"
        busy = "" if self.jobs == 1 else " Speeds and times are those of a shared machine."
        return [
            f"{how}.{busy} The number of processes changes no other result; the number of threads does, by rounding.",
            "A model that several points have in common was trained and measured once.",
        ]


def default_jobs(accelerator: str) -> int:
    """One process per processor; a single process where all of them would share a GPU."""
    if accelerator != "cpu" and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        return 1
    return int(joblib.cpu_count())


@contextlib.contextmanager
def _backend(backend: Backend, jobs: int | None, gpus: int) -> Iterator[Callable[[list[Any]], list[Any]]]:
    """Yields a function that runs delayed calls in parallel and returns their results in the order of the calls."""
    options: dict[str, Any] = {"backend": "loky", "n_jobs": jobs, "initializer": end_with, "initargs": (os.getpid(),)}
    connected = False
    if backend == "ray":
        connected = _start_ray()
        options = {"backend": "ray", "n_jobs": jobs or -1, "ray_remote_args": {"num_cpus": 1, "num_gpus": gpus}}

    def run(calls: list[Any]) -> list[Any]:
        if not calls:
            return []
        try:
            found: list[Any] = joblib.Parallel(batch_size=1, pre_dispatch="all")(calls)
        except TerminatedWorkerError:
            raise StorageError(
                "a process of the sweep was killed, probably because memory ran out; run the same command again to "
                "continue, with fewer parallel processes (--jobs)"
            ) from None
        return found

    try:
        with joblib.parallel_config(**options), warnings.catch_warnings():
            # Loky replaces a process that holds much memory, and warns about it.
            warnings.filterwarnings("ignore", message=".*worker stopped while some jobs were given.*")
            yield run
    finally:
        if connected:
            import ray

            ray.shutdown()


def _start_ray() -> bool:
    """Connect to the cluster that ``RAY_ADDRESS`` names, or start one on this machine.

    Returns:
        Whether this call made the connection, so that it must be closed.

    Raises:
        RecipeError: Ray is not installed.
    """
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise RecipeError("--backend=ray needs Ray: pip install 'limbeck[cluster]'") from None
    register_ray()
    if ray.is_initialized():
        return False
    ray.init(log_to_driver=False, logging_level="ERROR")
    return True

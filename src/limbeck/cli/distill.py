"""``limbeck distill --teacher=DIR``: a student for a teacher that already exists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.cli.parsing import help_wanted, import_modules, instantiate, new_parser, option, parse
from limbeck.errors import RecipeError

__all__ = ["run"]


def run(words: Sequence[str]) -> None:
    """Distil a saved teacher into a student of the same or another class, and save it.

    Args:
        words: the command line after ``limbeck distill``.
    """
    from limbeck.core.graph import DGM
    from limbeck.core.objective import Objective
    from limbeck.data import DataSource
    from limbeck.engine.distill import distill
    from limbeck.engine.environment import is_main_process
    from limbeck.engine.options import TrainerOptions, Training
    from limbeck.engine.recipe import rows_of
    from limbeck.engine.seeding import derive_seed, seeded

    parser = new_parser(
        "limbeck distill",
        "Distil a saved teacher. The student has the teacher's class and settings; override them, as in "
        "--student.width=8, or name another class with --student.class_path.",
    )
    import_modules(parser, words)
    given = option(words, "--teacher")
    if given is None and not help_wanted(words):
        raise RecipeError("which teacher? Give --teacher=DIR, the directory of a saved model")
    teacher = None if given is None else DGM.from_pretrained(given)
    parser.add_argument("--teacher", type=str, help="directory of the saved teacher")
    parser.add_argument("--student", type=DGM, default=_same_as(teacher), help="class and settings of the student")
    parser.add_argument(
        "--objective",
        type=Objective,
        default={"class_path": "limbeck.methods.surrogate"},
        help="method, e.g. limbeck.methods.local",
    )
    parser.add_argument("--data", type=DataSource | None, default=None, help="real data, for objectives that use it")
    parser.add_argument(
        "--target", type=str, default="images", help="part of the data that the models are of: images, labels or values"
    )
    parser.add_argument("--condition", type=str, default="none", help="part of the data that they are given, or none")
    parser.add_class_arguments(Training, "training")
    parser.add_class_arguments(TrainerOptions, "trainer")
    parser.add_argument("--seed", type=int, default=0, help="fixes initialisation, noise and order of data")
    parser.add_argument("--out", type=str, default="student", help="directory for the student and its checkpoints")
    if help_wanted(words):
        parser.print_help()
        return
    found = parse(parser, words)
    assert teacher is not None
    assert given is not None
    if Path(found.out).resolve() == Path(given).resolve():
        raise RecipeError(f"--out={found.out} is the teacher's own directory; choose another for the student")
    built = instantiate(parser, found)
    with seeded(derive_seed(found.seed, "initialisation")):
        student = type(built.student)(**built.student.config)
    data = None if built.data is None else rows_of(built.data.load().train, found.target, found.condition)
    result = distill(
        teacher, student, built.objective, data=data, training=built.training, trainer=built.trainer, seed=found.seed,
        directory=found.out, progress=is_main_process(),
    )  # fmt: skip
    if is_main_process():
        _tell(result.metrics, Path(found.out))


def _same_as(teacher: Any) -> dict[str, Any] | None:
    if teacher is None:
        return None
    kind = type(teacher)
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": dict(teacher.config)}


def _tell(metrics: dict[str, float], out: Path) -> None:
    from rich.console import Console

    console = Console()
    teacher, student = metrics["parameters_teacher"], metrics["parameters_student"]
    console.print(
        f"{teacher:,.0f} generative parameters distilled into {student:,.0f} "
        f"({teacher / student:.1f} times fewer) in {metrics['seconds']:.0f} s; last loss {metrics['total']:.4g}.",
        highlight=False,
    )
    console.print(f"Student: {out}", soft_wrap=True, highlight=False)

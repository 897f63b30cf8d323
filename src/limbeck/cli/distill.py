"""``limbeck distill --teacher=DIR``: a student for a teacher that already exists."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck.cli.distilling import add_training_options, tell, training_rows
from limbeck.cli.families import family_of
from limbeck.cli.image_folder import folder_words
from limbeck.cli.network_teacher import is_network_command
from limbeck.cli.network_teacher import run as distil_networks
from limbeck.cli.parsing import import_classes, instantiate, new_parser, parse_unless_help
from limbeck.cli.teacher_kinds import teacher_kind
from limbeck.cli.words import class_named, help_wanted, import_modules, option, take
from limbeck.errors import RecipeError
from limbeck.names import public_name

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from limbeck.core.graph import DGM
    from limbeck.core.loss import Batch
    from limbeck.data import Split
    from limbeck.engine.distill import Distilled

__all__ = ["run"]

_DESCRIPTION = (
    "Distil a teacher that exists already, and save the student. By default the student has the class and settings of "
    "the teacher; change settings, as in --student.width=8, or choose another class with --student.class_path. "
    "The teacher is a directory of a saved model, or one of these. "
    "(1) A file of weights of a flow of the library zuko: --teacher=FILE.safetensors "
    "--teacher.class=zuko.flows.MAF --teacher.features=6, and the other arguments of that class. "
    "(2) A diffusion pipeline of the library diffusers, as a directory or a name on the Hugging Face hub: "
    "--teacher=DIR --teacher.steps=50, and for the student --steps=1; steps are evaluations of the network. "
    "(3) Your own classifier: --teacher=my.module:build --student=my.module:small; add --help for its options."
)


def run(words: Sequence[str]) -> None:
    """Distil a teacher into a student of the same or another class, and save the student.

    Args:
        words: the command line after ``limbeck distill``.
    """
    if is_network_command(words):
        distil_networks(words)
        return
    parser = new_parser("limbeck distill", _DESCRIPTION)
    import_modules(parser, words)
    given = option(words, "--teacher")
    if given is None:
        of_option = any(re.fullmatch(r"--[\w.]+\.help", word.partition("=")[0]) for word in words)
        if not help_wanted(words) and not of_option:
            raise RecipeError("which teacher? Give --teacher=DIR, the directory of a saved model")
        import_classes()
        _add_options(parser, None, words)
        parse_unless_help(parser, words)
        return
    words = folder_words(words)
    kind = teacher_kind(given)
    teacher, words = kind.load(words)
    _add_options(parser, teacher, words)
    methods, others = take(words, "--objective".__eq__)  # first: its settings may be typed before it
    found = parse_unless_help(parser, [*(f"--objective={value}" for _, value in methods), *others])
    if found is None:
        return
    folder = Path(found.out)
    if folder.resolve() == Path(given).resolve():
        raise RecipeError(f"--out={folder} is the teacher's own directory; choose another for the student")
    built = instantiate(parser, found)
    student = _student(teacher, found, built)
    result = _distil(teacher, student, found, built)
    if _is_main_process():
        tell(result.metrics, folder)
        family_of(result.student).keep(folder)
        kind.keep(result.student, folder)


def _add_options(parser: ArgumentParser, teacher: DGM | None, words: Sequence[str]) -> None:
    """Add the options. Some defaults depend on the teacher, which is ``None`` where only help is wanted."""
    from limbeck.core.graph import DGM

    parser.add_argument(
        "--teacher", type=str, help="directory of a saved model or pipeline, name of a pipeline, or file of weights"
    )
    parser.add_argument(
        "--student", type=DGM, default=None if teacher is None else _same_as(teacher, words),
        help="class and settings of the student; by default those of the teacher",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int | None, default=None,
        help="for diffusion students: how often the network is evaluated for a sample; by default once",
    )  # fmt: skip
    parser.add_argument(
        "--start", type=Literal["teacher", "random"] | None, default=None,
        help="initial weights of the student: the teacher's, as far as they fit, or random ones; by default the "
        "teacher's for diffusion models and random for others",
    )  # fmt: skip
    objective = {"class_path": "limbeck.methods.surrogate"} if teacher is None else family_of(teacher).objective(words)
    replaced = class_named(option(words, "--objective") or "") not in (None, objective["class_path"])
    # Without a default: the parser would hand its arguments on to another method that has some of the same name.
    _add_method_options(parser, None if replaced else objective)
    add_training_options(parser)


def _add_method_options(parser: ArgumentParser, objective: dict[str, Any] | None) -> None:
    """Add the options of what the student learns from. ``objective`` is the default one, where none is given."""
    from limbeck.core.objective import Objective
    from limbeck.data import DataSource
    from limbeck.engine.pairs.pair_options import Pairs

    parser.add_argument(
        "--pairs", type=Pairs | None, default=None,
        help="run the teacher --pairs.count=NUMBER times before the training, keep its results beside the student, and "
        "learn from them; by default the teacher runs in every step",
    )  # fmt: skip
    parser.add_argument(
        "--objective", type=Objective, default=objective,
        help="method, e.g. limbeck.methods.local; by default surrogate. For flows: ilkd with data, density without. "
        "For diffusion: denoising_student for one step, few_step for more",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=DataSource | None, default=None, help="real data, for objectives or models that need it"
    )
    parser.add_argument(
        "--target", type=str | None, default=None,
        help="the part of the data that the models describe: images, labels or values; by default images or values",
    )  # fmt: skip
    parser.add_argument(
        "--condition", type=str, default="none", help="the part of the data that is the models' input x, or none"
    )


def _same_as(teacher: DGM, words: Sequence[str]) -> dict[str, Any]:
    """The class and settings of a student like the teacher, in the form that the parser expects."""
    kind = type(teacher)
    config = family_of(teacher).student_settings(words)
    named = {name for name, known in inspect.signature(kind).parameters.items() if known.kind is not known.VAR_KEYWORD}
    found = {"class_path": public_name(kind)}
    further = {name: value for name, value in config.items() if name not in named}
    settings = {"init_args": {name: value for name, value in config.items() if name in named}}
    # If another class is asked for, the parser drops arguments that it does not take, but not those in dict_kwargs.
    other = (option(words, "--student.class_path") or kind.__name__).rpartition(".")[2] != kind.__name__
    return found | settings | ({"dict_kwargs": further} if further and not other else {})


def _student(teacher: DGM, found: Namespace, built: Namespace) -> DGM:
    """The student with its initial weights."""
    from limbeck.engine.stages.seeding import derive_seed, seeded

    with seeded(derive_seed(found.seed, "initialisation")):
        student: DGM = type(built.student)(**built.student.config)
    family = family_of(student)
    family.check_steps(found.steps)
    from_teacher = family.starts_from(teacher) if found.start is None else found.start == "teacher"
    if from_teacher:
        family.start_from(teacher)
    return student


def _distil(teacher: DGM, student: DGM, found: Namespace, built: Namespace) -> Distilled:
    """Train the student as the options say."""
    from limbeck.engine.distill import distill

    data, validation = _rows(found, built)
    return distill(
        teacher, student, built.objective, data=data, validation=validation, training=built.training,
        trainer=built.trainer, seed=found.seed, directory=found.out, progress=_is_main_process(),
        teacher_inputs=family_of(teacher).inputs() if data is None else None,
        pairs=family_of(student).pairs(built.pairs, teacher), teacher_cache=built.teacher_cache,
    )  # fmt: skip


def _rows(found: Namespace, built: Namespace) -> tuple[Batch | None, Batch | None]:
    """Rows to train and to validate on, if there are data."""
    if built.teacher_cache is None:  # which says by itself what it lacks
        _check_data(found, built)
    if built.data is None:
        return None, None
    dataset = built.data.load()
    return training_rows(dataset, built.training, found.target or _target(dataset.train), found.condition)


def _check_data(found: Namespace, built: Namespace) -> None:
    """Refuse data that nothing needs, and parts of data that are not there."""
    named = [name for name in ("target", "condition") if found[name] not in (None, "none")]
    if built.data is None and named:
        raise RecipeError(f"--{named[0]} names a part of the data, but there are none; give --data, or leave it out")
    uses = built.objective.needs_data or found.condition != "none" or built.training.validate_every is not None
    if built.data is not None and not uses:
        raise RecipeError(
            "--data: nothing learns from the data, since this method compares with the teacher on its own samples; "
            "leave it out, give another --objective, --condition for models with an input x, or "
            "--training.validate_every"
        )


def _target(split: Split) -> str:
    """The part of the data that the models describe, where it is plain."""
    found = next((part for part in ("images", "values") if part in split.parts), None)
    if found is None:
        raise RecipeError(f"which part of the data do the models describe? Give --target={' or '.join(split.parts)}")
    return found


def _is_main_process() -> bool:
    from limbeck.engine.stages.ranks import is_main_process

    return is_main_process()

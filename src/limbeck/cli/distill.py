"""``limbeck distill --teacher=DIR``: a student for a teacher that already exists."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck.cli.distilled import tell, tell_pipeline, tell_weights
from limbeck.cli.network_teacher import is_network_command
from limbeck.cli.network_teacher import run as distil_networks
from limbeck.cli.parsing import help_wanted, import_modules, instantiate, new_parser, option, parse
from limbeck.cli.pipeline_teacher import (
    PIPELINE,
    asked_classes,
    default_objective,
    diffusion_teacher,
    is_hub_name,
    resampled_teacher,
    steps_of,
    student_settings,
)
from limbeck.cli.zuko_teacher import WEIGHTS, is_weights, zuko_teacher
from limbeck.errors import RecipeError
from limbeck.names import public_name

if TYPE_CHECKING:
    from limbeck.core.graph import DGM
    from limbeck.data import Split
    from limbeck.engine.pairs.pair_options import Pairs

__all__ = ["run"]

_POOL = 50_000  # samples of a teacher that is a flow, drawn once: those that are autoregressive are slow to sample


def run(words: Sequence[str]) -> None:
    """Distil a saved teacher into a student of the same or another class, and save it.

    Args:
        words: the command line after ``limbeck distill``.
    """
    if is_network_command(words):
        distil_networks(words)
        return
    from limbeck.core.graph import DGM
    from limbeck.core.objective import Objective
    from limbeck.data import DataSource
    from limbeck.engine.caching.cache_options import TeacherCache
    from limbeck.engine.distill import distill
    from limbeck.engine.experiments.recipe import rows_of
    from limbeck.engine.pairs.pair_options import Pairs
    from limbeck.engine.settings.options import TrainerOptions, Training
    from limbeck.engine.stages.environment import is_main_process
    from limbeck.engine.stages.seeding import derive_seed, seeded
    from limbeck.models import DDIM

    parser = new_parser(
        "limbeck distill",
        "Distil a saved teacher. The student has the teacher's class and settings; override them, as in "
        "--student.width=8, or name another class with --student.class_path. A teacher can also be a file of weights "
        "of a flow of zuko's: --teacher=FILE.safetensors --teacher.class=zuko.flows.MAF --teacher.features=6 and the "
        "class's other arguments; or a diffusion pipeline of diffusers, a directory or a name on the Hugging Face hub: "
        "--teacher=DIR --teacher.steps=50 (evaluations of its network; the default) and the student's --steps=1; or a "
        "classifier of your own: --teacher=my.module:build --student=my.module:small (then --help tells more).",
    )
    import_modules(parser, words)
    given = option(words, "--teacher")
    if given is None and not help_wanted(words):
        raise RecipeError("which teacher? Give --teacher=DIR, the directory of a saved model")
    teacher: DGM | None = None
    if given is not None:
        teacher, words = _teacher(given, words)
    parser.add_argument(
        "--teacher", type=str, help="directory of the saved teacher or pipeline, or a file of zuko's weights"
    )
    parser.add_argument(
        "--student", type=DGM, default=_same_as(teacher, words), help="class and settings of the student"
    )
    parser.add_argument(
        "--steps", type=int | None, default=None, help="of a diffusion student: evaluations of its network; default 1"
    )
    parser.add_argument(
        "--start", type=Literal["teacher", "random"] | None, default=None,
        help="first weights of the student: what fits of the teacher's (diffusion models by default), or random ones",
    )  # fmt: skip
    parser.add_argument(
        "--pairs", type=Pairs | None, default=None,
        help="the teacher's results are made once and kept beside the student: --pairs.count=NUMBER of them",
    )  # fmt: skip
    parser.add_argument(
        "--teacher_cache", type=TeacherCache | None, default=None,
        help="the outputs of a teacher without latents are computed once for every row of --data and kept beside the "
        "student: {}, or --teacher_cache.dtype=float16",
    )  # fmt: skip
    parser.add_argument(
        "--objective",
        type=Objective,
        default=_default_objective(teacher, words),
        help="method, e.g. limbeck.methods.local; of flows by default ilkd with data, density without; of diffusion "
        "denoising_student with one step, few_step with more",
    )
    parser.add_argument("--data", type=DataSource | None, default=None, help="real data, for objectives that use it")
    parser.add_argument(
        "--target", type=str | None, default=None,
        help="part of the data that the models are of: images, labels or values; by default images or values",
    )  # fmt: skip
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
    diffusion = isinstance(student, DDIM)
    if found.steps is not None and not diffusion:
        raise RecipeError(f"--steps={found.steps}: a {type(student).__name__} has no steps; only diffusion models do")
    if (found.start or ("teacher" if diffusion and isinstance(teacher, DDIM) else "random")) == "teacher":
        _start(student, teacher)
    data = validation = None
    if built.data is not None:
        dataset = built.data.load()
        target = found.target or _target(dataset.train)
        data = rows_of(dataset.train, target, found.condition)
        if built.training.validate_every is not None:
            validation = rows_of(dataset.validation, target, found.condition)
    result = distill(
        teacher, student, built.objective, data=data, validation=validation, training=built.training,
        trainer=built.trainer, seed=found.seed, directory=found.out, progress=is_main_process(),
        asked=asked_classes(teacher) if data is None else None, pairs=_with_states(built.pairs, student, teacher),
        teacher_cache=built.teacher_cache,
    )  # fmt: skip
    if is_main_process():
        tell(result.metrics, Path(found.out))
        if isinstance(result.student, DDIM):
            tell_pipeline(result.student, Path(found.out) / PIPELINE)
        if is_weights(given):
            tell_weights(result.student, Path(found.out) / WEIGHTS)


def _teacher(given: str, words: Sequence[str]) -> tuple[DGM, Sequence[str]]:
    """The teacher, and the words that are not about it."""
    from limbeck.core.graph import DGM
    from limbeck.models.diffusion.pipeline import is_pipeline

    if is_weights(given):
        return zuko_teacher(given, words)
    if is_pipeline(given) or is_hub_name(given):
        return diffusion_teacher(given, words)
    return resampled_teacher(DGM.from_pretrained(given), words)


def _start(student: DGM, teacher: DGM) -> None:
    """Give the student the teacher's weights, or what of them fits."""
    from limbeck.engine.stages.environment import is_main_process
    from limbeck.models import DDIM

    if not isinstance(student, DDIM):
        student.start_from(teacher)
        return
    inherited = student.inherit(teacher)
    if is_main_process():
        from rich.console import Console

        Console().print(f"Start: {inherited}.", soft_wrap=True, highlight=False)


def _with_states(pairs: Pairs | None, student: DGM, teacher: DGM) -> Pairs | None:
    """Pairs that keep the states in which a student of several steps will be compared: those that both models have."""
    from limbeck.models import DDIM

    if pairs is None or pairs.states or not (isinstance(student, DDIM) and isinstance(teacher, DDIM)):
        return pairs
    shared = [t for t in student.timesteps[1:] if t in teacher.timesteps]
    return dataclasses.replace(pairs, states=[f"x[{t}]" for t in shared])


def _same_as(teacher: DGM | None, words: Sequence[str]) -> dict[str, Any] | None:
    """The teacher's class and settings, as the parser wants them."""
    if teacher is None:
        return None
    from limbeck.models import DDIM

    kind = type(teacher)
    config = student_settings(teacher, steps_of(words)) if isinstance(teacher, DDIM) else teacher.config
    named = {name for name, known in inspect.signature(kind).parameters.items() if known.kind is not known.VAR_KEYWORD}
    found = {"class_path": public_name(kind)}
    further = {name: value for name, value in config.items() if name not in named}
    settings = {"init_args": {name: value for name, value in config.items() if name in named}}
    # The parser drops what another class does not take, but not of these.
    other = (option(words, "--student.class_path") or kind.__name__).rpartition(".")[2] != kind.__name__
    return found | settings | ({"dict_kwargs": further} if further and not other else {})


def _default_objective(teacher: DGM | None, words: Sequence[str]) -> dict[str, Any]:
    from limbeck.models import DDIM
    from limbeck.models.flows.flow import Flow

    if isinstance(teacher, DDIM):
        return default_objective(steps_of(words))
    if not isinstance(teacher, Flow):
        return {"class_path": "limbeck.methods.surrogate"}
    if option(words, "--data") is not None:
        return {"class_path": "limbeck.methods.ilkd"}
    return {"class_path": "limbeck.methods.density", "init_args": {"pool": _POOL}}


def _target(split: Split) -> str:
    found = next((part for part in ("images", "values") if part in split.parts), None)
    if found is None:
        raise RecipeError(f"which part of the data are the models of? Give --target={' or '.join(split.parts)}")
    return found

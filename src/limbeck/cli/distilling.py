"""What both forms of ``limbeck distill`` have in common: options, rows, and what is told and written at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.cli.printing import say

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from limbeck.core.graph import DGM
    from limbeck.core.loss import Batch
    from limbeck.data import Dataset
    from limbeck.engine.settings.options import Training
    from limbeck.models import DDIM

__all__ = [
    "add_training_options",
    "keep_pipeline",
    "keep_weights",
    "tell",
    "tell_what_was_learned_beside",
    "training_rows",
]


def add_training_options(parser: ArgumentParser) -> None:
    """Add the options of the training, of the teacher's cached outputs and of the student's directory."""
    from limbeck.engine.caching.teacher_cache import TeacherCache
    from limbeck.engine.settings.options import TrainerOptions, Training

    parser.add_argument(
        "--teacher_cache", type=TeacherCache | None, default=None,
        help="compute the outputs of a teacher without latents once for every row of --data, and keep them beside the "
        "student: --teacher_cache={} for the defaults, or for example --teacher_cache.dtype=float16",
    )  # fmt: skip
    parser.add_class_arguments(Training, "training")
    parser.add_class_arguments(TrainerOptions, "trainer")
    parser.add_argument("--seed", type=int, default=0, help="fixes initial weights, noise and order of the data")
    parser.add_argument("--out", type=str, default="student", help="directory for the student and its checkpoints")


def training_rows(
    dataset: Dataset, training: Training, target: str, condition: str
) -> tuple[Batch, Batch | None]:  # fmt: skip
    """The rows to train on, and those to validate on if the training does.

    Args:
        dataset: the data.
        training: settings of the training.
        target: part of the data that the models are of.
        condition: part of the data that they are given, or ``"none"``.

    Raises:
        RecipeError: the data have no such part.
    """
    from limbeck.engine.experiments.recipe import rows_of

    rows = rows_of(dataset.train, target, condition)
    if training.validate_every is None:
        return rows, None
    return rows, rows_of(dataset.validation, target, condition)


def tell(metrics: dict[str, float], folder: Path) -> None:
    """Say how large both models are, what was learned beside, how long the training took and where the student is.

    Args:
        metrics: of :class:`limbeck.Distilled`.
        folder: the student's directory.
    """
    teacher, student = metrics["parameters_teacher"], metrics["parameters_student"]
    say(
        f"{teacher:,.0f} generative parameters distilled into {student:,.0f} "
        f"({teacher / student:.1f} times fewer) in {metrics['seconds']:.0f} s; last loss {metrics['total']:.4g}."
    )
    tell_what_was_learned_beside(metrics)
    say(f"Student: {folder}")


def tell_what_was_learned_beside(metrics: dict[str, float]) -> None:
    """Say how many parameters of divergences and couplings were learned with the student; nothing if there were none.

    Args:
        metrics: of :class:`limbeck.Distilled`.
    """
    from limbeck.engine.evaluations.evaluation import LEARNED_PARAMETERS
    from limbeck.engine.training.objective_files import OBJECTIVE

    if beside := metrics.get(LEARNED_PARAMETERS.key):
        say(f"{beside:,.0f} parameters were learned beside the student: {OBJECTIVE}.")


def keep_weights(student: DGM, path: Path) -> None:
    """Keep a student that is a flow of zuko's also as zuko itself reads it.

    Args:
        student: any model; nothing is written of others.
        path: the file.
    """
    from limbeck.models import ZukoFlow

    if isinstance(student, ZukoFlow) and student.standardize is None:
        student.save_zuko(path)
        say(f"Its weights under zuko's names: {path}")


def keep_pipeline(student: DDIM, path: Path) -> None:
    """Keep a diffusion student also as diffusers reads it.

    Args:
        student: the model.
        path: the pipeline's directory.
    """
    from limbeck.models.diffusion.writing import CODE

    student.save_pipeline(path)
    if (path / CODE).exists():
        how = "DiffusionPipeline.from_pretrained(DIR, custom_pipeline=DIR, trust_remote_code=True)()"
    else:
        how = f"DDIMPipeline.from_pretrained(DIR)(num_inference_steps={len(student.timesteps)})"
    say(f"As a pipeline of diffusers: {path}; {how}")

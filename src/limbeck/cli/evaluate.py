"""``limbeck evaluate DIR``: measure a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from limbeck.cli.class_names import kept_classes, with_labels_of
from limbeck.cli.families import Classifiers, family_of
from limbeck.cli.image_folder import folder_words
from limbeck.cli.parsing import import_classes, instantiate, new_parser, parse_unless_help
from limbeck.cli.printing import say, table_console
from limbeck.cli.words import argument, help_wanted, import_modules, option
from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from limbeck.core.graph import DGM
    from limbeck.metrics import Measure

__all__ = ["run"]


def run(words: Sequence[str]) -> None:
    """Measure a model against data and, if there is one, its teacher; print the table.

    A model inside a run directory is measured as its recipe says, unless options say otherwise.

    Args:
        words: the command line after ``limbeck evaluate``.
    """
    words = folder_words(words)
    # Which options there are, and their defaults, depends on the model: it is looked for before there is a parser.
    directory = None if help_wanted(words) else argument(words, flags=("--bound",))
    recipe = _recipe_of(directory)
    try:
        parser = _new_parser(words, directory, recipe)
        found = parse_unless_help(parser, words)
    except ModuleNotFoundError as error:  # of a class that the run's recipe names
        raise RecipeError(
            f"the recipe of this run names a class of the module {error.name}, which is not found here; run the "
            "command in the module's directory, or set PYTHONPATH"
        ) from None
    if found is None:
        return
    if found.data is None and not recipe:
        raise RecipeError("which data? This model is not inside a run; give --data=limbeck.data.Digits or the like")
    _measure(found, instantiate(parser, found), recipe)


def _new_parser(words: Sequence[str], directory: str | None, recipe: dict[str, Any]) -> ArgumentParser:
    """The parser, with data and evaluation of the model's run as defaults.

    Args:
        words: the command line.
        directory: of the saved model; ``None`` where only help is wanted.
        recipe: of the run that the model is part of; empty if there is none.
    """
    from limbeck.data import DataSource
    from limbeck.engine.evaluations.evaluation import Evaluation

    parser = new_parser(
        "limbeck evaluate",
        "Measure a saved model. A model inside the directory of a run is measured as the run's recipe says.",
    )
    import_modules(parser, words)
    parser.add_argument("directory", type=str, help="directory of the saved model")
    parser.add_argument(
        "--teacher", type=str, default=None, help="directory of the model's teacher; by default that of the run"
    )
    parser.add_argument(
        "--data", type=DataSource | None, default=recipe.get("data"),
        help="real data: a class, or a directory of images; by default those of the run",
    )  # fmt: skip
    default = recipe.get("evaluation") or _evaluation_of(directory, compare=option(words, "--teacher") is not None)
    parser.add_argument(
        "--evaluation", type=Evaluation, default=default,
        help="how to measure: a class of limbeck.engine; by default that of the run, or the one for such models",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int | None, default=None,
        help="fixes the samples; by default 0, and inside a run what the run itself measured with",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=PositiveInt | None, default=None,
        help="for diffusion models: how often the network is evaluated for a sample; by default as saved",
    )  # fmt: skip
    parser.add_argument("--cache", type=str, default="runs/cache", help="directory where feature extractors are kept")
    parser.add_argument(
        "--out", type=str, default=None,
        help="directory for pictures; by default the directory evaluation inside that of the model",
    )  # fmt: skip
    parser.add_argument(
        "--bound",
        action="store_true",
        help="also measure the bound on the likelihood, which needs a trained encoder",
    )
    return parser


def _measure(found: Namespace, built: Namespace, recipe: dict[str, Any]) -> None:
    """Measure the model and print what was found."""
    from limbeck.core.graph import DGM
    from limbeck.data import ImageDataset
    from limbeck.engine.evaluations.evaluation import Subject
    from limbeck.engine.experiments.rehearsal import check_runs
    from limbeck.engine.stages.seeding import derive_seed
    from limbeck.engine.stages.terminal_progress import TerminalProgress

    folder = Path(found.directory)
    # Not among the model's own: a run's pictures are drawn from the noise that all of its models have in common.
    pictures = Path(found.out or folder / "evaluation")
    model = family_of(DGM.from_pretrained(folder)).at_steps(found.steps)
    teacher = _teacher(found.teacher, recipe.get("teacher_from"), folder)
    dataset = None if built.data is None else built.data.load()
    if isinstance(family_of(model), Classifiers) and isinstance(dataset, ImageDataset):
        dataset = with_labels_of(kept_classes(folder), dataset, "the model")
        for one, who in ((model, "the model"), (teacher, "the teacher")):
            if one is not None:
                check_runs(one, dataset, "images", who)
    seed = found.seed
    if seed is None:  # a run's numbers come again only from the seed that the run derives
        seed = derive_seed(recipe["seed"], "evaluation") if "seed" in recipe else 0
    with TerminalProgress() as progress:
        # A judge compares with some model: without a teacher with this one, and what that says is left out.
        judge = built.evaluation.judge(dataset, teacher or model, Path(found.cache), seed, progress)
        progress.message(f"measuring {folder}")
        values = judge.measure(Subject(model, pictures, infers=found.bound))
    measures = built.evaluation.measures(dataset)
    shown = [measure for measure in measures if teacher is not None or not _of_teacher(measure)]
    _tell(shown, values, judge.references, pictures)
    if found.bound and not any(key.startswith("bound") for key in values):
        say(f"--bound changes nothing: {type(built.evaluation).__name__} has no bound for a {type(model).__name__}.")
    if len(shown) < len(measures):
        say("What compares with a teacher is left out: there is none; give --teacher=DIR.")


def _recipe_of(directory: str | None) -> dict[str, Any]:
    folder = None if directory is None else _run_directory(Path(directory))
    if folder is None:
        return {}
    from limbeck.cli.recipe_files import RecipeFile

    return RecipeFile("recipe", folder / "recipe.yaml").read()


def _evaluation_of(directory: str | None, compare: bool) -> dict[str, Any]:
    """The evaluation for models of this family.

    Args:
        directory: of the saved model; ``None`` where only help is wanted.
        compare: whether there is another model to compare the predictions of a classifier with.
    """
    from limbeck.core.graph import DGM

    if directory is None:
        import_classes()
        return {"class_path": "limbeck.engine.ImageEvaluation"}
    return family_of(DGM.from_pretrained(directory)).evaluation(compare)


def _run_directory(model: Path) -> Path | None:
    """The run that a model directory is part of."""
    for folder in list(model.resolve().parents)[:3]:
        if (folder / "recipe.yaml").is_file():
            return folder
    return None


def _teacher(given: str | None, elsewhere: str | None, model: Path) -> DGM | None:
    """The model to compare with.

    Args:
        given: the directory that the command line names.
        elsewhere: the directory from which the model's run loaded its teacher, if it did.
        model: directory of the model to be measured.

    Returns:
        The teacher: the one given, or that of the model's run; ``None`` outside a run.

    Raises:
        RecipeError: the run has lost its teacher.
        ModelError: it cannot be loaded.
    """
    from limbeck.core.graph import DGM

    run = _run_directory(model)
    if given is not None:
        return DGM.from_pretrained(given)
    if run is None:
        return None
    if elsewhere is not None:
        return _loaded_teacher(elsewhere, run / "teacher")
    if not (run / "teacher" / "config.json").is_file():
        raise RecipeError(
            f"{run / 'teacher'} holds no model: the run's teacher is missing, with which its models are compared; "
            "copy it there, or give --teacher=DIR"
        )
    return DGM.from_pretrained(run / "teacher")


def _loaded_teacher(directory: str, record: Path) -> DGM:
    """The teacher that a run loaded from another directory, in which there may be another model by now.

    Raises:
        RecipeError: it is no longer there.
    """
    from limbeck.core.graph import DGM
    from limbeck.engine.experiments.teacher import given_stage
    from limbeck.errors import ModelError

    try:
        teacher = DGM.from_pretrained(directory)
    except ModelError as error:
        raise RecipeError(
            f"the run loaded its teacher from {directory}, where it is not found now ({error}); run the command in "
            "the directory where the run was made, or give --teacher=DIR"
        ) from None
    stage = given_stage(record, teacher, elsewhere=True)
    if stage.path.is_file() and not stage.begun:
        say(
            f"Warning: {directory}, from which the run loaded its teacher, has changed since, or limbeck has: the "
            "numbers may compare with another teacher than the run's; --teacher=DIR names the right one."
        )
    return teacher


def _of_teacher(measure: Measure) -> bool:
    """Whether a measure compares a model with the teacher: its key or its label says so."""
    return measure.key.startswith("kl") or "teacher" in f"{measure.key} {measure.label}"


def _tell(measures: Sequence[Measure], values: dict[str, float], references: dict[str, float], pictures: Path) -> None:
    from rich.table import Table

    from limbeck.report.run_tables import measure_of_reference

    table = Table("measure", "value", box=None, pad_edge=False)
    for measure in measures:
        if measure.key in values:
            table.add_row(measure.label, _value(values[measure.key], measure))
    for label, value in references.items():
        table.add_row(label, _value(value, measure_of_reference(label, measures)))
    table_console().print(table)
    if pictures.is_dir():
        say(f"Pictures: {pictures}")


def _value(value: float, measure: Measure | None) -> str:
    if measure is None:
        return f"{value:,.3f}"
    return f"{value:,.{measure.digits}f} {measure.unit}".rstrip()

"""``limbeck evaluate DIR``: measure a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from limbeck.cli.families import family_of
from limbeck.cli.image_folder import folder_words
from limbeck.cli.parsing import import_classes, instantiate, new_parser, parse_unless_help
from limbeck.cli.printing import say
from limbeck.cli.words import argument, help_wanted, import_modules, option
from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

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
    parser = _new_parser(words, directory, recipe)
    found = parse_unless_help(parser, words)
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
    parser.add_argument("directory", type=str, help="directory of the saved model")
    parser.add_argument(
        "--teacher", type=str, default=None, help="directory of the model's teacher; by default that of the run"
    )
    parser.add_argument(
        "--data", type=DataSource | None, default=recipe.get("data"),
        help="real data: a class, or a directory of images; by default those of the run",
    )  # fmt: skip
    import_modules(parser, words)
    default = recipe.get("evaluation") or _evaluation_of(directory, compare=option(words, "--teacher") is not None)
    parser.add_argument(
        "--evaluation", type=Evaluation, default=default,
        help="how to measure: a class of limbeck.engine; by default that of the run, or the one for such models",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="fixes the samples")
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
    from limbeck.engine.evaluations.evaluation import Subject
    from limbeck.engine.stages.terminal_progress import TerminalProgress

    folder = Path(found.directory)
    # Not among the model's own: a run's pictures are drawn from the noise that all of its models have in common.
    pictures = Path(found.out or folder / "evaluation")
    model = family_of(DGM.from_pretrained(folder)).at_steps(found.steps)
    teacher = DGM.from_pretrained(found.teacher or recipe.get("teacher_from") or _teacher_beside(folder) or folder)
    dataset = None if built.data is None else built.data.load()
    with TerminalProgress() as progress:
        judge = built.evaluation.judge(dataset, teacher, Path(found.cache), found.seed, progress)
        progress.message(f"measuring {folder}")
        values = judge.measure(Subject(model, pictures, infers=found.bound))
    _tell(built.evaluation.measures(dataset), values, judge.references, pictures)


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


def _teacher_beside(model: Path) -> Path | None:
    run = _run_directory(model)
    return run / "teacher" if run is not None and (run / "teacher" / "config.json").exists() else None


def _tell(measures: Sequence[Any], values: dict[str, float], references: dict[str, float], pictures: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("measure", "value", box=None, pad_edge=False)
    for measure in measures:
        if measure.key in values:
            unit = f" {measure.unit}" if measure.unit else ""
            table.add_row(measure.label, f"{values[measure.key]:,.{measure.digits}f}{unit}")
    for label, value in references.items():
        table.add_row(label, f"{value:,.3f}")
    Console().print(table)
    if pictures.is_dir():
        say(f"Pictures: {pictures}")

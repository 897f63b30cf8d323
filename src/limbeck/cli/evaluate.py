"""``limbeck evaluate DIR``: measure a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.cli.image_folder import folder_words
from limbeck.cli.parsing import argument, help_wanted, import_modules, instantiate, new_parser, option, parse
from limbeck.cli.sample import at_steps
from limbeck.errors import RecipeError

__all__ = ["run"]


def run(words: Sequence[str]) -> None:
    """Measure a model against data and, if there is one, its teacher; print the table.

    A model inside a run directory is measured as its recipe says, unless options say otherwise.

    Args:
        words: the command line after ``limbeck evaluate``.
    """
    from limbeck.core.graph import DGM
    from limbeck.data import DataSource
    from limbeck.engine.evaluations.evaluation import Evaluation, Subject
    from limbeck.engine.stages.progress import TerminalProgress

    words = folder_words(words)
    # What other options may be, and their defaults, depends on the model: it is looked for before there is a parser.
    directory = None if help_wanted(words) else argument(words, flags=("--bound",))
    recipe = _recipe_of(directory)
    parser = new_parser("limbeck evaluate", "Measure a saved model; inside a run, as the run's recipe says.")
    parser.add_argument("directory", type=str, help="directory of the saved model")
    parser.add_argument("--teacher", type=str, default=None, help="directory of its teacher; by default the run's")
    parser.add_argument("--data", type=DataSource | None, default=recipe.get("data"), help="real data")
    import_modules(parser, words)
    default = recipe.get("evaluation") or _evaluation_of(directory, compare=option(words, "--teacher") is not None)
    parser.add_argument("--evaluation", type=Evaluation, default=default, help="how to measure")
    parser.add_argument("--seed", type=int, default=0, help="fixes the samples")
    parser.add_argument(
        "--steps", type=int | None, default=None, help="of a diffusion model: evaluations of its network"
    )
    parser.add_argument("--cache", type=str, default="runs/cache", help="where feature extractors are kept")
    parser.add_argument(
        "--out", type=str, default=None, help="directory for pictures; by default evaluation in that of the model"
    )
    parser.add_argument("--bound", action="store_true", help="also the likelihood bound, if its encoder was trained")
    if help_wanted(words):
        parser.print_help()
        return
    found = parse(parser, words)
    if found.data is None and not recipe:
        raise RecipeError("which data? This model is not inside a run; give --data=limbeck.data.Digits or the like")
    built = instantiate(parser, found)
    folder = Path(found.directory)
    # Not among the model's own: a run's pictures are drawn from the noise that all of its models have in common.
    pictures = Path(found.out or folder / "evaluation")
    model = at_steps(DGM.from_pretrained(folder), found.steps)
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
    """The evaluation that fits the kind of model: flows have a likelihood, diffusion steps, classes, others a bound.

    Args:
        directory: of the saved model; ``None`` where only help is wanted.
        compare: whether there is another model to compare the predictions of a classifier with.
    """
    from limbeck.core.graph import DGM
    from limbeck.models import DDIM, VIB, MLPClassifier, NetworkClassifier
    from limbeck.models.flows.flow import Flow

    model = None if directory is None else DGM.from_pretrained(directory)
    if isinstance(model, NetworkClassifier | MLPClassifier | VIB):
        settings: dict[str, Any] = {"primary": "accuracy", "compare": compare}
        if not isinstance(model, VIB):
            settings["draws"] = 1
        return {"class_path": "limbeck.engine.ClassifierEvaluation", "init_args": settings}
    if isinstance(model, DDIM):
        return {"class_path": "limbeck.engine.DiffusionEvaluation"}
    if not isinstance(model, Flow):
        return {"class_path": "limbeck.engine.ImageEvaluation"}
    of_tables = len(model.latent_shapes[0]) == 1
    return {"class_path": f"limbeck.engine.{'FlowTableEvaluation' if of_tables else 'FlowImageEvaluation'}"}


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
    console = Console()
    console.print(table)
    if pictures.is_dir():
        console.print(f"Pictures: {pictures}", soft_wrap=True, highlight=False)

"""``limbeck evaluate DIR``: measure a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.cli.image_folder import folder_words
from limbeck.cli.parsing import help_wanted, import_modules, instantiate, new_parser, option, parse
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
    recipe = _recipe_of(words)
    parser = new_parser("limbeck evaluate", "Measure a saved model; inside a run, as the run's recipe says.")
    parser.add_argument("directory", type=str, help="directory of the saved model")
    parser.add_argument("--teacher", type=str, default=None, help="directory of its teacher; by default the run's")
    parser.add_argument("--data", type=DataSource | None, default=recipe.get("data"), help="real data")
    import_modules(parser, words)
    default = recipe.get("evaluation") or _evaluation_of(words)
    parser.add_argument("--evaluation", type=Evaluation, default=default, help="how to measure")
    parser.add_argument("--seed", type=int, default=0, help="fixes the samples")
    parser.add_argument(
        "--steps", type=int | None, default=None, help="of a diffusion model: evaluations of its network"
    )
    parser.add_argument("--cache", type=str, default="runs/cache", help="where feature extractors are kept")
    parser.add_argument("--bound", action="store_true", help="also the likelihood bound, if its encoder was trained")
    if help_wanted(words):
        parser.print_help()
        return
    found = parse(parser, words)
    if found.data is None and not recipe:
        raise RecipeError("which data? This model is not inside a run; give --data=limbeck.data.Digits or the like")
    built = instantiate(parser, found)
    folder = Path(found.directory)
    model = at_steps(DGM.from_pretrained(folder), found.steps)
    teacher = DGM.from_pretrained(found.teacher or recipe.get("teacher_from") or _teacher_beside(folder) or folder)
    dataset = None if built.data is None else built.data.load()
    with TerminalProgress() as progress:
        judge = built.evaluation.judge(dataset, teacher, Path(found.cache), found.seed, progress)
        progress.message(f"measuring {folder}")
        values = judge.measure(Subject(model, folder, infers=found.bound))
    _tell(built.evaluation.measures(dataset), values, judge.references)


def _recipe_of(words: Sequence[str]) -> dict[str, Any]:
    folder = next((_run_directory(Path(word)) for word in words if not word.startswith("-")), None)
    if folder is None:
        return {}
    from limbeck.cli.recipe_files import RecipeFile

    return RecipeFile("recipe", folder / "recipe.yaml").read()


def _evaluation_of(words: Sequence[str]) -> dict[str, Any]:
    """The evaluation that fits the kind of model: flows have a likelihood, diffusion steps, classes, others a bound."""
    from limbeck.core.graph import DGM
    from limbeck.models import DDIM, VIB, MLPClassifier, NetworkClassifier
    from limbeck.models.flows.flow import Flow

    directory = next((word for word in words if not word.startswith("-")), None)
    model = None if directory is None or help_wanted(words) else DGM.from_pretrained(directory)
    if isinstance(model, NetworkClassifier | MLPClassifier | VIB):
        # Without another model there is nothing to compare predictions with.
        settings = {"primary": "accuracy", "compare": option(words, "--teacher") is not None}
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


def _tell(measures: Sequence[Any], values: dict[str, float], references: dict[str, float]) -> None:
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

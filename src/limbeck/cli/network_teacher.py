"""``limbeck distill --teacher=my.module:build --student=...``: a user's own networks and images, by named layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.cli.class_names import (
    check_labels,
    compares_outputs,
    keep_classes,
    kept_classes,
    uses_labels,
    with_labels_of,
)
from limbeck.cli.distilling import add_training_options, tell_what_was_learned_beside, training_rows
from limbeck.cli.image_folder import folder_words
from limbeck.cli.layer_matches import DEFAULT_MATCH, LayerMatches
from limbeck.cli.own_network import OwnNetwork, import_builder, is_builder
from limbeck.cli.parsing import instantiate, new_parser, parse
from limbeck.cli.printing import say
from limbeck.cli.words import help_wanted, import_modules, option, settings_texts, take_settings
from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from limbeck.core.objective import Match
    from limbeck.data import ImageDataset
    from limbeck.engine.distill import Distilled
    from limbeck.models import NetworkClassifier

__all__ = ["WEIGHTS", "is_network_command", "run"]

WEIGHTS = "weights.safetensors"
"""Where the student's weights are written under its own names, beside the model of this library."""


def is_network_command(words: Sequence[str]) -> bool:
    """Whether a command line of ``limbeck distill`` is about networks that are not models of this library."""
    return any(is_builder(option(words, name)) for name in ("--teacher", "--student"))


def run(words: Sequence[str]) -> None:
    """Distil one classifier of images into another and save it.

    Args:
        words: the command line after ``limbeck distill``.
    """
    from limbeck.engine.stages.ranks import is_main_process

    parser = _new_parser(words)
    if help_wanted(words):
        parser.print_help()
        return
    matches, words = LayerMatches.of(words)
    settings: dict[str, dict[str, Any]] = {}
    texts = {role: settings_texts(words, role) for role in ("teacher", "student")}
    for role in texts:
        settings[role], words = take_settings(words, role)
    taught, learned = option(words, "--teacher"), option(words, "--student")
    if taught is None or learned is None:
        raise RecipeError(
            "give both --teacher=my.module:build (or the directory of a saved model) and --student=my.module:build"
        )
    found = parse(parser, folder_words(words))
    if found.data is None:
        raise RecipeError("which images? Give --data=FOLDER, with a folder for each class")
    built = instantiate(parser, found)
    names = kept_classes(taught) if compares_outputs(matches.matches) and not is_builder(taught) else None
    dataset, labelled = built.data.load(), uses_labels(matches.matches, found.task_weight)
    if labelled:
        dataset = with_labels_of(names, dataset, "the teacher")
    constants = _constants(found.mean, found.std)
    for role, given in (named := {"teacher": taught, "student": learned}).items():
        if is_builder(given):  # a saved network may be of the module that the other one names
            import_builder(role, given)
    networks = [_network(role, given, settings[role], texts[role], found.seed) for role, given in named.items()]
    teacher, constants = _classifier(networks[0], matches, constants)
    student, _ = _classifier(networks[1], matches, constants)
    result = _distil(teacher, student, matches.matches, dataset, found, built)
    if is_main_process():
        _keep(student, Path(found.out))
        if names is not None or labelled:
            keep_classes(names or dataset.classes, Path(found.out))
        tell_what_was_learned_beside(result.metrics)
        _tell(teacher, student, dataset, Path(found.out))


def _new_parser(words: Sequence[str]) -> ArgumentParser:
    from limbeck.data import DataSource

    parser = new_parser(
        "limbeck distill",
        "Distil your own classifier of images. --teacher=my.module:build names a class, or a function annotated to "
        "return an nn.Module; --teacher.KEY=VALUE gives its arguments, and --teacher.weights=FILE its weights. "
        "--student takes the same.",
    )
    import_modules(parser, words)
    parser.add_argument("--teacher", type=str, help="module:name of what builds it, or directory of a saved model")
    parser.add_argument("--student", type=str, help="module:name of what builds it")
    parser.add_argument(
        "--match", type=list[str], default=[DEFAULT_MATCH],
        help="what is compared, as LAYER->LAYER:DIVERGENCE@WEIGHT, the teacher's layer first; a name that both have "
        "needs no arrow, and a weight of 1 need not be given: layer1:vid; may be repeated",
    )  # fmt: skip
    parser.add_argument("--task_weight", type=float, default=1.0, help="weight of the cross-entropy with the labels")
    parser.add_argument(
        "--data", type=DataSource, help="a directory of images, with a folder for each class, or a class of data"
    )
    parser.add_argument(
        "--mean", type=list[float] | None, default=None,
        help="of each channel: subtracted from the images of both networks; by default the saved teacher's, or none",
    )  # fmt: skip
    parser.add_argument(
        "--std", type=list[float] | None, default=None, help="of each channel: the images are then divided by it"
    )
    add_training_options(parser)
    return parser


def _network(role: str, given: str, settings: dict[str, Any], texts: dict[str, str], seed: int) -> OwnNetwork:
    """The network that ``--teacher`` or ``--student`` names."""
    from limbeck.engine.stages.seeding import derive_seed, seeded

    if not is_builder(given):
        return OwnNetwork.saved(role, given, settings)
    with seeded(derive_seed(seed, "initialisation")):
        return OwnNetwork.built(role, given, settings, texts)


def _classifier(
    network: OwnNetwork, matches: LayerMatches, constants: list[list[float]] | None
) -> tuple[NetworkClassifier, list[list[float]] | None]:
    """A network as a model whose sites are the layers that the matches name.

    Args:
        network: the network.
        matches: what is compared.
        constants: mean and deviation of each channel; ``None`` for those that a saved network brings along.

    Returns:
        The model, and the constants that its images are normalised by, if they are.
    """
    from limbeck.models import NetworkClassifier

    constants = network.constants if constants is None else constants
    model = NetworkClassifier.wrap(
        network.module,
        matches.layers(network),
        normalize=constants is not None,
        network=network.name,
        settings=network.settings,
    )
    if constants is not None:
        model.standardize(*constants)
    return model.eval(), constants


def _distil(
    teacher: NetworkClassifier,
    student: NetworkClassifier,
    matches: list[Match],
    dataset: ImageDataset,
    found: Namespace,
    built: Namespace,
) -> Distilled:
    """Train the student on images and labels, once all checks of the two networks have passed."""
    from limbeck.core.methods import transfer
    from limbeck.engine.distill import distill
    from limbeck.engine.experiments.rehearsal import check_classes, check_method, check_runs
    from limbeck.engine.stages.ranks import is_main_process

    objective = transfer(matches, found.task_weight)
    check_runs(teacher, dataset, "images", "the teacher")
    outputs = check_runs(student, dataset, "images", "the student")
    if uses_labels(matches, found.task_weight):
        check_classes(student, dataset, "images", "the student")
        check_labels(outputs, dataset)
    check_method(objective, teacher, student, dataset, "images", "--match")
    rows, validation = training_rows(dataset, built.training, "labels", "images")
    return distill(
        teacher, student, objective, data=rows, validation=validation, training=built.training, trainer=built.trainer,
        seed=found.seed, directory=found.out, progress=is_main_process(), teacher_cache=built.teacher_cache,
    )  # fmt: skip


def _constants(mean: list[float] | None, std: list[float] | None) -> list[list[float]] | None:
    """Mean and deviation of each channel, if they are given.

    Raises:
        RecipeError: only one of them is.
    """
    if (mean is None) != (std is None):
        raise RecipeError("give --mean and --std together, a number for each channel: --mean=[0.5] --std=[0.25]")
    return None if mean is None or std is None else [mean, std]


def _keep(student: NetworkClassifier, folder: Path) -> None:
    """Write the student's weights under its own names as well."""
    from safetensors.torch import save

    from limbeck.files import atomic_write_bytes

    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in student.network.state_dict().items()}
    atomic_write_bytes(folder / WEIGHTS, save(tensors))


def _tell(teacher: NetworkClassifier, student: NetworkClassifier, dataset: ImageDataset, folder: Path) -> None:
    """Say how large and how good both networks are, and where the student is."""
    from limbeck.data import as_float
    from limbeck.engine.evaluations.classifiers.predictive import predict
    from limbeck.metrics import accuracy, parameter_count

    images, labels = as_float(dataset.test.images), dataset.test.labels
    for role, model in (("Teacher", teacher), ("Student", student)):
        found = predict(model.cpu(), images)
        right = "trained for other classes"
        if found.shape[1] == len(dataset.classes):
            right = f"{100 * accuracy(found, labels):.2f} % of {len(labels):,} test images right"
        say(f"{role}: {parameter_count(model.network.parameters()):,.0f} parameters, {right}.")
    say(f"Student: {folder}; its weights under its own names: {folder / WEIGHTS}")

"""``limbeck distill --teacher=my.module:build --student=...``: a user's own networks and images, by named layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.cli.image_folder import folder_words
from limbeck.cli.own_network import OwnNetwork, is_builder
from limbeck.cli.parsing import help_wanted, import_modules, instantiate, new_parser, option, parse, take_settings
from limbeck.errors import MatchError, ModelError, RecipeError

if TYPE_CHECKING:
    from limbeck.core.objective import Match
    from limbeck.data import Dataset
    from limbeck.models import NetworkClassifier

__all__ = ["WEIGHTS", "is_network_command", "run"]

WEIGHTS = "weights.safetensors"
"""Where the student's weights are written under its own names, beside the model of this library."""

_DEFAULT = "logits:kd"
_SITES = ("logits", "penultimate", "y")  # sites that every classifier has, whatever its modules are called


def is_network_command(words: Sequence[str]) -> bool:
    """Whether a command line of ``limbeck distill`` is about networks that are no models of this library."""
    return any(is_builder(option(words, name)) for name in ("--teacher", "--student"))


def run(words: Sequence[str]) -> None:
    """Distil one classifier of images into another and save it.

    Args:
        words: the command line after ``limbeck distill``.
    """
    from limbeck.data import DataSource
    from limbeck.engine.caching.cache_options import TeacherCache
    from limbeck.engine.settings.options import TrainerOptions, Training
    from limbeck.engine.stages.environment import is_main_process

    parser = new_parser(
        "limbeck distill",
        "Distil a network of your own: --teacher=my.module:build names a class or a function annotated to return an "
        "nn.Module, --teacher.KEY=VALUE its arguments, --teacher.weights=FILE its weights; the same for the student.",
    )
    import_modules(parser, words)
    parser.add_argument("--teacher", type=str, help="module:name of what builds it, or a directory of a saved model")
    parser.add_argument("--student", type=str, help="module:name of what builds it")
    parser.add_argument("--match", type=list[str], default=[_DEFAULT], help="LAYER->LAYER:DIVERGENCE@WEIGHT; repeat it")
    parser.add_argument("--task_weight", type=float, default=1.0, help="weight of the cross-entropy of the labels")
    parser.add_argument("--data", type=DataSource, help="a folder of images in folders of classes, or a data source")
    parser.add_argument("--mean", type=list[float] | None, default=None, help="of each channel, which both subtract")
    parser.add_argument("--std", type=list[float] | None, default=None, help="of each channel, by which both divide")
    parser.add_argument(
        "--teacher_cache", type=TeacherCache | None, default=None,
        help="what is matched of the teacher is computed once for every image and kept beside the student: {}, or "
        "--teacher_cache.dtype=float16",
    )  # fmt: skip
    parser.add_class_arguments(Training, "training")
    parser.add_class_arguments(TrainerOptions, "trainer")
    parser.add_argument("--seed", type=int, default=0, help="fixes initialisation and order of data")
    parser.add_argument("--out", type=str, default="student", help="directory for the student and its checkpoints")
    if help_wanted(words):
        parser.print_help()
        return
    texts, words = _matches(words)
    taught, words = take_settings(words, "teacher")
    learned, words = take_settings(words, "student")
    given, wanted = option(words, "--teacher"), option(words, "--student")
    if given is None or wanted is None:
        raise RecipeError(
            "give both --teacher=my.module:build (or the directory of a saved model) and --student=my.module:build"
        )
    found = parse(parser, folder_words(words))
    if found.data is None:
        raise RecipeError("which images? Give --data=FOLDER, with a folder for each class")
    built = instantiate(parser, found)
    matches = [_matched(text) for text in texts]
    dataset = built.data.load()
    constants = _constants(found.mean, found.std)
    teacher = _classifier("teacher", given, taught, matches, texts, constants, found.seed)
    if teacher.normalize:  # perhaps by what a saved one brought along
        constants = [teacher.mean.flatten().tolist(), teacher.deviation.flatten().tolist()]
    student = _classifier("student", wanted, learned, matches, texts, constants, found.seed)
    _distil(teacher, student, matches, dataset, found, built)
    if is_main_process():
        _tell(teacher, student, dataset, Path(found.out))


def _distil(
    teacher: NetworkClassifier,
    student: NetworkClassifier,
    matches: list[Match],
    dataset: Dataset,
    found: Any,
    built: Any,
) -> None:
    from limbeck.core.methods import transfer
    from limbeck.engine.distill import distill
    from limbeck.engine.experiments.recipe import rows_of
    from limbeck.engine.experiments.rehearsal import check_classes, check_method
    from limbeck.engine.stages.environment import is_main_process

    objective = transfer(matches, found.task_weight)
    check_classes(student, dataset, "images", "the student")
    check_method(objective, teacher, student, dataset, "images", "--match")
    rows = rows_of(dataset.train, "labels", "images")
    validation = None
    if built.training.validate_every is not None:
        validation = rows_of(dataset.validation, "labels", "images")
    distill(
        teacher, student, objective, data=rows, validation=validation, training=built.training, trainer=built.trainer,
        seed=found.seed, directory=found.out, progress=is_main_process(),
        teacher_cache=built.teacher_cache,
    )  # fmt: skip


def _classifier(
    role: str, given: str, settings: dict[str, Any], matches: list[Match], texts: list[str],
    constants: list[list[float]] | None, seed: int,
) -> NetworkClassifier:  # fmt: skip
    """A network as a model whose sites are the layers that the matches name."""
    from limbeck.core.graph import DGM
    from limbeck.engine.stages.seeding import derive_seed, seeded
    from limbeck.models import NetworkClassifier

    if not is_builder(given):
        saved = DGM.from_pretrained(given)
        if isinstance(saved, NetworkClassifier) and saved.normalize and constants is None:
            constants = [saved.mean.flatten().tolist(), saved.deviation.flatten().tolist()]
        if not isinstance(saved, NetworkClassifier) or settings:
            told = f"--{role}.{next(iter(settings))}: it is built already" if settings else "it is no network"
            raise RecipeError(f"--{role}={given} is a saved {type(saved).__name__}; {told}")
        network = OwnNetwork(role, str(saved.config["network"]), dict(saved.config["settings"] or {}), saved.network)
    else:
        with seeded(derive_seed(seed, "initialisation")):
            network = OwnNetwork.of(role, given, settings)
    own = {f"h[{i}]": path for i, path in enumerate(getattr(network.module, "feature_paths", ()))}
    paths: dict[str, str] = {}
    for match, text in zip(matches, texts, strict=True):
        assert isinstance(match.teacher, str)
        pattern = match.teacher if role == "teacher" or match.student is None else match.student
        for name in pattern.split("&"):
            paths |= _paths(name, own, network, text)
    model = NetworkClassifier.wrap(
        network.module, paths, normalize=constants is not None, network=network.name, settings=network.settings
    )
    if constants is not None:
        model.standardize(*constants)
    return model.eval()


def _paths(name: str, own: dict[str, str], network: OwnNetwork, text: str) -> dict[str, str]:
    """Site name to module path, for all that a name or pattern of a match stands for."""
    import fnmatch

    from limbeck.models import NetworkClassifier

    if name in _SITES or "|" in name:
        return {}
    literal = name.replace("[", "[[]")  # brackets are part of names, not sets of letters
    if "*" not in name:
        if name in own:
            return {name: own[name]}
        try:
            NetworkClassifier.wrap(network.module, [name], penultimate=None)
        except ModelError as error:
            other = "" if "->" in text else f"; name the {network.role}'s own layer, as in LAYER->LAYER:NAME"
            raise ModelError(f"--match {text}: the {network.role}'s {error}{other}") from None
        return {name: name}
    among = own if any(fnmatch.fnmatchcase(site, literal) for site in own) else None
    modules = among or {path: path for path, _ in network.module.named_modules() if path.count(".") == name.count(".")}
    found = {site: path for site, path in modules.items() if fnmatch.fnmatchcase(site, literal)}
    if not found:
        known = ", ".join([*own, *(path for path, _ in network.module.named_children())])
        raise ModelError(f"--match {text}: no layer of the {network.role} is called {name!r}; there are {known}")
    return found


def _matches(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Every ``--match``, and the other words."""
    texts: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--match":
            texts.append(next(rest, ""))
        elif word.startswith("--match="):
            texts.append(word.removeprefix("--match="))
        else:
            others.append(word)
    return texts or [_DEFAULT], others


def _matched(text: str) -> Match:
    from limbeck.core.methods.knowledge_transfer import matched

    try:
        return matched(text)
    except MatchError as error:
        raise RecipeError(f"--match: {error}") from None


def _constants(mean: list[float] | None, std: list[float] | None) -> list[list[float]] | None:
    if (mean is None) != (std is None):
        raise RecipeError("give --mean and --std together, a number for each channel: --mean=[0.5] --std=[0.25]")
    return None if mean is None or std is None else [mean, std]


def _tell(teacher: NetworkClassifier, student: NetworkClassifier, dataset: Any, out: Path) -> None:
    """Keep the student's weights also under its own names, and say how good it is."""
    from rich.console import Console
    from safetensors.torch import save

    from limbeck.data import as_float
    from limbeck.engine.evaluations.classifiers.predictive import predict
    from limbeck.files import atomic_write_bytes
    from limbeck.metrics import accuracy, parameter_count

    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in student.network.state_dict().items()}
    atomic_write_bytes(out / WEIGHTS, save(tensors))
    console = Console()
    images, labels = as_float(dataset.test.images), dataset.test.labels
    for role, model in (("Teacher", teacher), ("Student", student)):
        size = f"{role}: {parameter_count(model.network.parameters()):,.0f} parameters"
        found = predict(model.cpu(), images)
        right = "trained for other classes"
        if found.shape[1] == len(dataset.classes):
            right = f"{100 * accuracy(found, labels):.2f} % of {len(labels):,} test images right"
        console.print(f"{size}, {right}.", highlight=False)
    console.print(f"Student: {out}; its weights under its own names: {out / WEIGHTS}", soft_wrap=True, highlight=False)

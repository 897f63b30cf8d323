"""Who may call whom: the arrows between the rooms of the package go one way, in imports and in names of modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import limbeck

SOURCES = Path(limbeck.__file__).parent
COMMON = {"errors", "files", "layouts", "lazy", "pictures"}
"""Modules beside the rooms, which import none of them."""

MAY_USE = {
    "core": set[str](),
    "data": set[str](),
    "metrics": set[str](),
    "models": {"core"},
    "engine": {"core", "data", "metrics"},
    "report": {"metrics"},
}


ENGINE = SOURCES / "engine"
ENGINE_ROOMS = (
    ("stages",),
    ("settings",),
    ("teachers",),
    ("pairs", "caching"),
    ("training",),
    ("evaluations",),
    ("evaluations.classifiers", "evaluations.images", "evaluations.strokes"),
    ("evaluations.diffusion", "evaluations.flows"),
    ("experiments",),
    ("sweeps",),
)
"""Rooms of the engine; each uses those of the lines above it, and none of its own line but itself."""

BESIDE_THE_ENGINES_ROOMS = {"__init__", "distill"}


def named(path: Path) -> Iterator[str]:
    """What a file imports of ours, or names in a text as ``limbeck.ROOM...``: without ``limbeck.``, with what it is."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module or ''}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            names = [node.value]
        for name in names:
            package, _, rest = name.partition(".")
            if rest and package in ("limbeck", ""):
                yield rest


def used(path: Path) -> Iterator[str]:
    """Rooms and modules of ours that a file imports or names."""
    for name in named(path):
        yield name.partition(".")[0]


def used_of_the_engine(path: Path) -> Iterator[str]:
    """Rooms of the engine that a file imports or names; what stands beside them as it is written."""
    rooms = [room for line in ENGINE_ROOMS for room in line]
    for name in named(path):
        package, _, rest = name.partition(".")
        if package == "engine":
            yield max((room for room in rooms if f"{rest}.".startswith(f"{room}.")), key=len, default=rest)


def above_in_the_engine(path: Path, room: str) -> set[str]:
    """What a file of a room must not use, and does."""
    line = next(number for number, rooms in enumerate(ENGINE_ROOMS) if room in rooms)
    below = {other for rooms in ENGINE_ROOMS[:line] for other in rooms}
    return set(used_of_the_engine(path)) - below - {room}


@pytest.mark.parametrize("room", MAY_USE)
def test_a_room_uses_only_those_below_it(room: str) -> None:
    rooms = {path.name for path in SOURCES.iterdir() if (path / "__init__.py").is_file()}
    files = list((SOURCES / room).rglob("*.py"))
    assert files
    found = {name: path for path in files for name in used(path)}
    above = {name: found[name].name for name in found if name in rooms - MAY_USE[room] - {room}}
    assert above == {}


@pytest.mark.parametrize("module", sorted(COMMON))
def test_what_all_rooms_use_imports_none(module: str) -> None:
    tree = ast.parse((SOURCES / f"{module}.py").read_text(encoding="utf-8"))
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name for name in imported if name.startswith("limbeck")} <= {f"limbeck.{name}" for name in COMMON}


def test_an_arrow_upwards_is_seen(tmp_path: Path) -> None:
    """In each of the ways it can be drawn."""
    ways = ["from limbeck.models import DDIM", "import limbeck.models.ddim", "from limbeck import models",
            "NAME = 'limbeck.models.ddim.DDIM'", "def f():\n    from limbeck.models.ddim import DDIM"]  # fmt: skip
    for number, way in enumerate(ways):
        path = tmp_path / f"{number}.py"
        path.write_text(way)
        assert list(used(path)) == ["models"]


@pytest.mark.parametrize("room", [room for line in ENGINE_ROOMS for room in line])
def test_a_room_of_the_engine_uses_only_those_before_it(room: str) -> None:
    files = list((ENGINE / room.replace(".", "/")).glob("*.py"))
    assert files
    found = {f"{path.stem} -> {name}" for path in files for name in above_in_the_engine(path, room)}
    assert found == set()


def test_every_folder_of_the_engine_has_its_place() -> None:
    folders = {path.parent.relative_to(ENGINE).as_posix().replace("/", ".") for path in ENGINE.rglob("*.py")}
    assert folders == {".", *(room for line in ENGINE_ROOMS for room in line)}
    assert {path.stem for path in ENGINE.glob("*.py")} == BESIDE_THE_ENGINES_ROOMS


@pytest.mark.parametrize(
    ("room", "way", "seen"),
    [
        ("stages", "from limbeck.engine.sweeps.sweep import Sweep", "sweeps"),
        ("stages", "from limbeck.engine.sweeps import sweep", "sweeps"),
        ("stages", "from limbeck.engine import sweeps", "sweeps"),
        ("stages", "import limbeck.engine.sweeps.sweep", "sweeps"),
        ("stages", "NAME = 'limbeck.engine.sweeps.sweep.Sweep'", "sweeps"),
        ("stages", "if TYPE_CHECKING:\n    from limbeck.engine.settings.options import Training", "settings"),
        ("training", "def f():\n    from limbeck.engine.experiments.recipe import Recipe", "experiments"),
        ("pairs", "from limbeck.engine.caching.filling import cached", "caching"),
        ("evaluations", "from limbeck.engine.evaluations.images import extractor", "evaluations.images"),
        ("sweeps", "from limbeck.engine import Training", "Training"),
        ("sweeps", "from limbeck.engine.distill import distill", "distill.distill"),
    ],
)
def test_an_arrow_upwards_in_the_engine_is_seen(room: str, way: str, seen: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"from limbeck.engine.{room}.own import thing\n{way}")
    assert above_in_the_engine(path, room) == {seen}


def test_arrows_downwards_in_the_engine_are_free(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from limbeck.engine.stages.progress import Progress\nfrom limbeck.engine.evaluations.images import extractor\n"
        "from limbeck.core.graph import DGM\n"
    )
    assert above_in_the_engine(path, "evaluations.flows") == set()
    assert above_in_the_engine(path, "sweeps") == set()

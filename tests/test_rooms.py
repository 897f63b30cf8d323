"""Who may call whom: the arrows between the rooms of the package go one way, in imports and in names of modules."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import limbeck

SOURCES = Path(limbeck.__file__).parent
COMMON = {"choices", "errors", "files", "layouts", "names", "pictures", "pixels"}
"""Modules beside the rooms, which import none of them."""

MAY_USE = {
    "core": set[str](),
    "data": set[str](),
    "metrics": set[str](),
    "models": {"core"},
    "engine": {"core", "data", "metrics"},
    "report": {"metrics"},
}

ITSELF = ""
"""The modules of a room that are in none of its rooms."""

PUBLIC_NAMES = {"divergence", "methods", "reparam"}
"""Modules beside the rooms that are rooms of core by another name."""


@dataclass(frozen=True)
class Storeys:
    """A room of the package that has rooms of its own.

    Attributes:
        package: its name.
        lines: rooms; each uses those of the lines above it, and none of its own line but itself.
        alone: modules beside the rooms that no room uses, ``ITSELF`` neither: where that has no line, all of them.
        excepted: room to the modules beside the rooms that it uses all the same.
    """

    package: str
    lines: tuple[tuple[str, ...], ...]
    alone: frozenset[str] = frozenset()
    excepted: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return SOURCES / self.package

    @property
    def rooms(self) -> list[str]:
        return [room for line in self.lines for room in line]

    def files(self, room: str) -> list[Path]:
        files = (self.folder / room.replace(".", "/")).glob("*.py")
        return [path for path in files if room or path.stem not in self.alone]

    def room_of(self, name: str) -> str:
        """The room, or the room within a room, of what an import names."""
        return max((room for room in self.rooms if room and f"{name}.".startswith(f"{room}.")), key=len, default=ITSELF)

    def is_alone(self, name: str) -> bool:
        """Whether an import names something beside the rooms that is not for them: a public name, for one."""
        own = {path.stem for path in self.files(ITSELF)}
        return bool(self.alone) and self.room_of(name) == ITSELF and name.partition(".")[0] not in own

    def used(self, path: Path) -> Iterator[str]:
        """What a file imports or names of the package, without the package's name."""
        for name in named(path):
            package, _, rest = name.partition(".")
            if package == self.package:
                yield rest
            elif self.package == "core" and package in PUBLIC_NAMES:
                yield name

    def above(self, path: Path, room: str) -> set[str]:
        """What a file of a room must not use, and does: rooms, and modules beside them."""
        line = next(number for number, rooms in enumerate(self.lines) if room in rooms)
        free = {other for rooms in self.lines[:line] for other in rooms} | {room}
        excepted = self.excepted.get(room, frozenset())
        found = {(self.room_of(name), name) for name in self.used(path) if name.partition(".")[0] not in excepted}
        return {where or name for where, name in found if where not in free or self.is_alone(name)}


CORE = Storeys(
    "core",
    (("reparam",), (ITSELF,), ("divergence",), ("coupling",), ("objective",), ("methods.diffusion",), ("methods",)),
    # A point mass needs no noise, and is a law like any other; arithmetic in single precision is that of all rooms.
    excepted={"reparam": frozenset({"delta", "precision"})},
)
DATA = Storeys(
    "data",
    ((ITSELF,), ("tables", "images", "pairs", "caching"), ("sequences",)),
    alone=frozenset({"__init__"}),
)
MODELS = Storeys(
    "models",
    ((ITSELF,), ("networks", "flows", "diffusion", "helmholtz", "ladder"), ("vrnn", "wrapped")),
    alone=frozenset({"__init__"}),
)
ENGINE = Storeys(
    "engine",
    (
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
    ),
    alone=frozenset({"__init__", "distill"}),
)
WITH_ROOMS = (CORE, DATA, MODELS, ENGINE)
EVERY_ROOM = [
    pytest.param(storeys, room, id=f"{storeys.package}.{room}") for storeys in WITH_ROOMS for room in storeys.rooms
]


def named(path: Path) -> Iterator[str]:
    """What a file imports of ours, or names in a text as ``limbeck.ROOM...``: without ``limbeck.``, with what it is."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module or ''}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            names = [node.value] if node.value.startswith("limbeck.") else []  # not the ending of a file's name
        for name in names:
            package, _, rest = name.partition(".")
            if rest and package in ("limbeck", ""):
                yield rest


def used(path: Path) -> Iterator[str]:
    """Rooms and modules of ours that a file imports or names."""
    for name in named(path):
        yield name.partition(".")[0]


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
    ways = ["from limbeck.models import VIB", "import limbeck.models.vib", "from limbeck import models",
            "NAME = 'limbeck.models.vib.VIB'", "def f():\n    from limbeck.models.vib import VIB"]  # fmt: skip
    for number, way in enumerate(ways):
        path = tmp_path / f"{number}.py"
        path.write_text(way)
        assert list(used(path)) == ["models"]


@pytest.mark.parametrize(("storeys", "room"), EVERY_ROOM)
def test_a_room_within_uses_only_those_before_it(storeys: Storeys, room: str) -> None:
    files = storeys.files(room)
    assert files
    found = {f"{path.stem} -> {name}" for path in files for name in storeys.above(path, room)}
    assert found == set()


@pytest.mark.parametrize(("storeys", "room"), EVERY_ROOM)
def test_a_room_uses_its_own_modules_by_their_names(storeys: Storeys, room: str) -> None:
    """Not by what its ``__init__`` takes from them, which waits for them."""
    assert round_about(storeys, room, storeys.files(room)) == set()


def round_about(storeys: Storeys, room: str, files: Iterable[Path]) -> set[str]:
    """What files of a room import from the room and from none of its modules."""
    own = {path.stem for path in storeys.files(room)} - {"__init__"}
    names = {name for path in files for name in storeys.used(path) if room and storeys.room_of(name) == room}
    return {name for name in names if name.removeprefix(room).lstrip(".").partition(".")[0] not in own}


@pytest.mark.parametrize("storeys", WITH_ROOMS, ids=lambda storeys: storeys.package)
def test_every_folder_has_its_place(storeys: Storeys) -> None:
    folders = {path.parent.relative_to(storeys.folder) for path in storeys.folder.rglob("*.py")}
    assert folders == {Path(), *(Path(room.replace(".", "/")) for room in storeys.rooms)}
    beside = {path.stem for path in storeys.folder.glob("*.py")}
    assert storeys.alone <= beside if ITSELF in storeys.rooms else storeys.alone == beside


@pytest.mark.parametrize(
    ("storeys", "room", "way", "seen"),
    [
        (ENGINE, "stages", "from limbeck.engine.sweeps.sweep import Sweep", "sweeps"),
        (ENGINE, "stages", "from limbeck.engine.sweeps import sweep", "sweeps"),
        (ENGINE, "stages", "from limbeck.engine import sweeps", "sweeps"),
        (ENGINE, "stages", "import limbeck.engine.sweeps.sweep", "sweeps"),
        (ENGINE, "stages", "NAME = 'limbeck.engine.sweeps.sweep.Sweep'", "sweeps"),
        (ENGINE, "stages", "if TYPE_CHECKING:\n    from limbeck.engine.settings.options import Training", "settings"),
        (ENGINE, "training", "def f():\n    from limbeck.engine.experiments.recipe import Recipe", "experiments"),
        (ENGINE, "pairs", "from limbeck.engine.caching.filling import cached", "caching"),
        (ENGINE, "evaluations", "from limbeck.engine.evaluations.images import extractor", "evaluations.images"),
        (ENGINE, "sweeps", "from limbeck.engine import Training", "Training"),
        (ENGINE, "sweeps", "from limbeck.engine.distill import distill", "distill.distill"),
        (CORE, "reparam", "from limbeck.core.graph import DGM", "graph.DGM"),
        (CORE, ITSELF, "from limbeck.core.divergence import kl", "divergence"),
        (CORE, ITSELF, "if TYPE_CHECKING:\n    from limbeck.core.coupling import Request", "coupling"),
        (CORE, "divergence", "from limbeck.core.objective import Match", "objective"),
        (CORE, "coupling", "def f():\n    from limbeck.core.objective.comparison import compare", "objective"),
        (CORE, "coupling", "from limbeck.core import methods", "methods"),
        (CORE, "objective", "from limbeck import methods", "methods"),
        (CORE, "objective", "from limbeck.methods import joint", "methods"),
        (CORE, "objective", "from limbeck.core.methods.diffusion.denoiser import Diffusion", "methods.diffusion"),
        (CORE, "methods.diffusion", "from limbeck.core.methods.basic import joint", "methods"),
        (CORE, "methods.diffusion", "from limbeck.core.methods import joint", "methods"),
        (DATA, ITSELF, "from limbeck.data.tables.table import TableDataset", "tables"),
        (DATA, "images", "from limbeck.data.tables.tabular import split_table", "tables"),
        (DATA, "images", "from limbeck.data.sequences import strokes", "sequences"),
        (DATA, "sequences", "from limbeck.data import Digits", "Digits"),
        (MODELS, ITSELF, "from limbeck.models.flows.flow import Flow", "flows"),
        (MODELS, "flows", "from limbeck.models.diffusion.schedule import NoiseSchedule", "diffusion"),
        (MODELS, "ladder", "def f():\n    from limbeck.models.vrnn.parts import network", "vrnn"),
        (MODELS, "vrnn", "from limbeck.models import LadderVAE", "LadderVAE"),
        (MODELS, "networks", "NAME = 'limbeck.models.wrapped.building.build'", "wrapped"),
    ],
)
def test_an_arrow_upwards_within_is_seen(storeys: Storeys, room: str, way: str, seen: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    own = f"from limbeck.{storeys.package}.{room}.own import thing\n" if room else ""
    path.write_text(f"{own}{way}")
    assert storeys.above(path, room) == {seen}


def test_arrows_downwards_within_are_free(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from limbeck.engine.stages.progress import Progress\nfrom limbeck.engine.evaluations.images import extractor\n"
        "from limbeck.core.graph import DGM\nfrom limbeck.core import reparam\n"
    )
    assert ENGINE.above(path, "evaluations.flows") == set()
    assert ENGINE.above(path, "sweeps") == set()
    assert CORE.above(path, "coupling") == set()
    path.write_text("from limbeck.core.delta import Delta\n")
    assert CORE.above(path, "reparam") == set()
    path.write_text(
        "from limbeck.models.ladder.blocks import DomainNorm\nfrom limbeck.models.sizes import check_positive\n"
        "import limbeck.models.networks as own\n"
    )
    assert MODELS.above(path, "vrnn") == set()


@pytest.mark.parametrize(
    ("way", "seen"),
    [
        ("from limbeck.core.coupling import Request", {"coupling.Request"}),
        ("from limbeck.core import coupling", {"coupling"}),
        ("from limbeck.core.coupling.coupling import Request", set[str]()),
        ("from limbeck.core.coupling import beam", set[str]()),
    ],
)
def test_a_way_round_through_the_rooms_own_names_is_seen(way: str, seen: set[str], tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(way)
    assert round_about(CORE, "coupling", [path]) == seen

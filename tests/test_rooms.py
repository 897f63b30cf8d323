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


def used(path: Path) -> Iterator[str]:
    """Rooms and modules of ours that a file imports, or names in a text as ``limbeck.ROOM...``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module and node.module != "limbeck" else [f".{x.name}" for x in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            names = [node.value]
        for name in names:
            package, _, rest = name.partition(".")
            if rest and package in ("limbeck", ""):
                yield rest.partition(".")[0]


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

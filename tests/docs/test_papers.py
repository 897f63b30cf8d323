"""Every command of the pages on papers and results names a recipe and settings that exist, and can be copied."""

import re
import shlex
from pathlib import Path

import pytest

from limbeck.cli.recipe_files import shipped_recipes
from limbeck.cli.recipe_parser import RecipeCommand
from limbeck.cli.sweep import planned

DOCS = Path(__file__).parents[2] / "docs"
PAPERS = DOCS / "papers.md"
PLACEHOLDERS = {"N": "6"}  # a number that the reader puts in


def commands(page: Path) -> list[str]:
    """What is written as ``limbeck run ...`` or ``limbeck sweep ...``, in blocks and inside lines."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    inline = re.findall(
        r"`([^`\n]*limbeck (?:run|sweep) [^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    )
    found = [re.sub(r"^(\w+=\S+ )*", "", re.sub(r"\s+#.*$", "", line.strip())) for line in (*lines, *inline)]
    return list(dict.fromkeys(line for line in found if line.startswith(("limbeck run ", "limbeck sweep "))))


CASES = [(page, line) for page in (PAPERS, *sorted((DOCS / "results").glob("*.md"))) for line in commands(page)]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The YAML files that the page of papers shows, in the current directory."""
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```yaml\n(.*?)^```", PAPERS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        (tmp_path / re.match(r"# (\S+)\n", block).group(1)).write_text(block, encoding="utf-8")


@pytest.mark.parametrize(("page", "line"), CASES, ids=lambda case: case.stem if isinstance(case, Path) else None)
def test_commands_can_be_copied(page, line, files):
    verb, *words = shlex.split(line)[1:]
    words = [re.sub(r"=(\w)$", lambda found: "=" + PLACEHOLDERS.get(found[1], found[1]), word) for word in words]
    command = RecipeCommand.unless_help(verb, words, "")
    found = command.parsed()
    if found.over:
        assert all(point.recipe for point in planned(command, found)[1])


def test_pages_have_commands():
    # Should the way commands are found break, every page would pass by having none.
    assert len(commands(PAPERS)) > 40
    assert {page.stem for page, _ in CASES} >= {"papers", "flows", "continual", "hidden-features"}


def test_every_recipe_of_a_table_or_figure_is_on_the_page():
    text = PAPERS.read_text(encoding="utf-8")
    for recipe in shipped_recipes():
        source = recipe.read()["about"]["source"]
        if re.search(r"Fig\.|Tables? \d", source) and "not in the paper" not in source:
            assert f"`{recipe.name}`" in text or f" {recipe.name}" in text, f"{recipe.name}: {source}"

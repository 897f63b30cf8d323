"""The Python blocks of README and docs run, in order, page by page; their commands and links exist."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

import limbeck
from limbeck.cli.main import COMMANDS, main
from limbeck.cli.recipe_files import find_recipe
from limbeck.models import LadderVAE

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RESULTS = sorted((ROOT / "docs" / "results").glob("*.md"))
TEACHER = "runs/ladder-vae-digits/default/teacher"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def file_name(block: str) -> str | None:
    """The name in a first line such as ``# mine.py``: the block is a file, not a part of the page's program."""
    found = re.match(r"# ([\w-]+\.(?:py|yaml))\n", block)
    return found.group(1) if found else None


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A directory with a small trained-looking teacher at the place that the pages name."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    LadderVAE(image_size=8, image_channels=1, levels=3, width=8).save_pretrained(TEACHER)
    return tmp_path


@pytest.fixture
def module():
    """A module that the blocks of one page define their names in, so that their models can be saved and loaded."""
    module = types.ModuleType("limbeck_page")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_blocks_run(page, workplace, module):
    before = torch.random.get_rng_state()
    for number, block in enumerate(blocks(page, "python"), 1):
        if file_name(block):
            continue
        short = re.sub(r"\bsteps=\d+", "steps=3", block)
        exec(compile(short, f"{page.name}, Python block {number}", "exec"), vars(module))
    torch.random.set_rng_state(before)


def test_pages_have_programs():
    # Should the way blocks are found break, every page would pass by having none.
    counts = {page.stem: len(blocks(page, "python")) for page in PAGES}
    assert counts["your-own-model"] >= 6
    assert counts["methods"] >= 5
    assert counts["quick-start"] >= 3


def test_own_model_is_short_and_learns(module):
    block = next(block for block in blocks(ROOT / "README.md", "python") if "class TinyVAE" in block)
    body = block[block.index("class TinyVAE") :].strip().splitlines()
    assert len(body) < 30
    exec(compile(block, "README", "exec"), vars(module))
    torch.manual_seed(0)
    teacher, student = module.TinyVAE(width=32), module.TinyVAE(width=8)
    result = limbeck.distill(teacher, student, steps=200, progress=False)
    assert result.history.rows[-1]["total"] < 0.5 * result.history.rows[0]["total"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_exist(page, workplace):
    own = {name for block in blocks(page, "yaml") if (name := file_name(block))}
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    for line in lines:
        words = re.sub(r"^(\w+=\S+ )*", "", line).split()
        if not words or words[0] != "limbeck":
            continue
        assert words[1] in COMMANDS, line
        words = [word for word in words if not word.startswith("[")]
        if words[1] == "run" and not words[2].startswith("RECIPE") and words[2] not in own:
            assert find_recipe(words[2]), line


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_file(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name}: {target}"


def test_own_recipe_runs(workplace, monkeypatch, capsys):
    for language in ("python", "yaml"):
        for block in blocks(ROOT / "docs" / "recipes.md", language):
            if name := file_name(block):
                Path(name).write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(str(workplace))
    try:
        for options in ([], ["--evaluation=brightness.Brightness"]):
            status = main(["run", "mine.yaml", *options, "--dry-run"])
            assert status == 0, capsys.readouterr().err
    finally:
        for name in ("mine", "brightness"):
            sys.modules.pop(name, None)
    page = (workplace / "runs/mine/dry-run/report.html").read_text(encoding="utf-8")
    assert "error of the mean brightness" in page

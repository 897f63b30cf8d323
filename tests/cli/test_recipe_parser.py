"""Recipes that are wrong: one message that names the key, the file or the class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from limbeck.cli.recipe_parser import RecipeCommand
from limbeck.cli.sweep import planned
from limbeck.models import LadderVAE
from tests.cli.refusals import refused
from tests.tiny import call, write_recipe

pytestmark = pytest.mark.usefixtures("here")

DIGITS = {"class_path": "limbeck.data.Digits", "init_args": {"limit": 20}}


def ladder(**settings: Any) -> dict[str, Any]:
    arguments = {"image_size": 8, "image_channels": 1, "levels": 2, "width": 4, "latent_channels": 2}
    return {"class_path": "limbeck.models.LadderVAE", "init_args": arguments | settings}


def tiny(kind: str = "Tiny", **settings: Any) -> dict[str, Any]:
    return {"class_path": f"tests.tiny.{kind}", "init_args": settings}


STEPS = {"steps": 3, "batch_size": 4}
RECIPES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "key": ({"studnet": tiny()}, ["studnet", "did you mean student"]),
    "key of a part": ({"training": {"step": 3}}, ["training", "step", "steps"]),
    "key of a class": ({"teacher": tiny(widht=3)}, ["teacher", "widht", "width"]),
    "type": ({"training": {"steps": "many"}}, ["training", "steps", "many"]),
    "a class that cannot be built": ({"teacher": tiny(width="wide")}, ["teacher", "width", "wide"]),
    "no rows": ({"data": {"class_path": "tests.tiny.Spots", "init_args": {"rows": 0}}}, ["spots", "is empty"]),
    "not a number in the data": (
        {"data": {"class_path": "tests.tiny.Spots", "init_args": {"broken": "nan"}}},
        ["spots", "1 values in 1 of 12 images are NaN"],
    ),
    "missing folder": (
        {"data": {"class_path": "limbeck.data.Images", "init_args": {"path": "no/such/folder"}}},
        ["no/such/folder"],
    ),
    "size of the images": (
        {"teacher": ladder(image_size=16), "student": ladder(image_size=16), "data": DIGITS},
        ["(1, 16, 16)", "(1, 8, 8)", "image_size"],
    ),
    "sites that the student lacks": (
        {"teacher": ladder(levels=3), "student": ladder(levels=2), "data": DIGITS},
        ["the student has no site 'z3'", "limbeck.methods.mapped"],
    ),
    "shape of the latents": (
        {"teacher": ladder(), "student": ladder(latent_channels=3), "data": DIGITS},
        ["z2", "2, 2, 2", "3, 2, 2", "limbeck.methods.mapped"],
    ),
    "size of the student's images": (
        {"teacher": ladder(), "student": ladder(image_size=4), "data": DIGITS}, ["z2", "must agree"]
    ),
    "loss": (
        {"teacher_training": STEPS | {"learning_rate": 1e30, "steps": 30}},
        ["non-finite", "at step", "Lower the learning rate"],
    ),
    "unknown distribution": (
        {"teacher": tiny("Positive", width=4), "student": tiny("Positive", width=3)}, ["z1", "Gamma", "register"]
    ),
    "baseline's name": (
        {"baselines": {"teacher": {"objective": {"class_path": "limbeck.methods.local"}}}}, ["is taken"]
    ),
    "teacher that is not there": ({"teacher_from": "nowhere"}, ["nowhere is not a directory"]),
    "teacher of another class": ({"teacher_from": "other"}, ["other", "LadderVAE", "Tiny"]),
    "code as a class": (
        {"student": {"class_path": "subprocess.check_output", "init_args": {"args": ["touch", "ran"]}}},
        ["student", "subprocess.check_output"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_wrong_in_a_recipe_is_told(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    changes, told = RECIPES[name]
    LadderVAE(image_size=8, image_channels=1, levels=2, width=4, latent_channels=2).save_pretrained("other")
    refused(capsys, ["run", write_recipe(Path(), **{"training": STEPS, "teacher_training": STEPS} | changes)], *told)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title: [unclosed", "not a readable YAML file"),
        ("- a\n- list", "is not a recipe"),
        ("", "is not a recipe"),
        ("title: only this", "required"),
        ("title: !!python/object/apply:os.system ['touch ran']", "not a readable YAML file"),
    ],
)
def test_files_that_are_no_recipes_are_refused(text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(text)
    refused(capsys, ["run", "mine.yaml"], told)
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["flow-power", "vid-digits", "ddim-digits"])
def test_a_printed_configuration_is_the_same_recipe(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        call("run", name, "--print_config")
    Path("printed.yaml").write_text(capsys.readouterr().out)
    first, again = (RecipeCommand.of("run", [recipe]) for recipe in (name, "printed.yaml"))
    assert first.built(first.parsed())[1] == again.built(again.parsed())[1]
    assert again.parsed().over == []


def test_a_printed_sweep_keeps_its_axes(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(Path())
    with pytest.raises(SystemExit, match="0"):
        call("sweep", path, "--over=student.width=2,3", "--print_config")
    Path("printed.yaml").write_text(capsys.readouterr().out)
    assert RecipeCommand.of("run", ["printed.yaml", "--over=seed=1,2"]).parsed().over == [
        "student.width=2,3", "seed=1,2"
    ]  # fmt: skip


def test_bytes_that_are_no_text_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_bytes(b"\xff\xfe\x00")
    refused(capsys, ["run", "mine.yaml"], "mine.yaml", "not a readable YAML file")


def test_a_file_that_is_no_image_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The file is named, and no buffer in memory."""
    images = Path("images")
    images.mkdir()
    for number in range(12):
        Image.new("L", (8, 8), 20 * number).save(images / f"{number}.png")
    (images / "5.png").write_bytes(b"nothing of a picture")
    data = {"class_path": "limbeck.data.Images", "init_args": {"path": "images", "size": 8, "channels": 1}}
    message = refused(capsys, ["run", write_recipe(Path(), data=data)], "images/5.png", "damaged, or no image")
    assert "BytesIO" not in message


def test_a_folder_without_images_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("images").mkdir()
    data = {"class_path": "limbeck.data.Images", "init_args": {"path": "images"}}
    refused(capsys, ["run", write_recipe(Path(), data=data)], "images")


def test_classes_on_an_axis_stay_as_typed() -> None:
    """The parser resolves what a class_path names, and functions among its defaults are no values of a record."""
    local = {"class_path": "limbeck.methods.local"}
    other = {"class_path": "limbeck.methods.surrogate", "init_args": {"latent_weight": 2}}
    own = write_recipe(Path(), "own", sweep=[{"keys": ["objective"], "values": [local, other]}])
    for words in ([own], [write_recipe(Path()), f"--over=objective={json.dumps(local)},{json.dumps(other)}"]):
        command = RecipeCommand.of("sweep", [str(word) for word in words])
        axes, points = planned(command, command.parsed())
        assert axes[0].values == [local, other]
        assert [len(point.recipe.objective.matches) for point in points] == [2, 2]
        assert [point.recipe.objective.matches[1].weight for point in points] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("words", "weight"),
    [
        ((), 0.5),
        (("--objective=limbeck.methods.surrogate",), 0.5),
        (("--objective=limbeck.methods.local",), 1.0),
        (("--objective", "{class_path: limbeck.methods.local}"), 1.0),
        (("--objective.latent_weight=2", "--objective=limbeck.methods.local"), 2.0),
    ],
)
def test_another_method_has_its_own_defaults(words: tuple[str, ...], weight: float) -> None:
    """A weight that was chosen for one method means something else in another."""
    chosen = {"class_path": "limbeck.methods.surrogate", "init_args": {"latent_weight": 0.5}}
    joint = {"class_path": "limbeck.methods.joint", "init_args": {"alpha": 0.5, "distillation": chosen}}
    path = write_recipe(Path(), objective=chosen, baselines={"both": {"objective": joint}})
    command = RecipeCommand.of("run", [str(path), *words])
    assert command.built(command.parsed())[0].objective.matches[1].weight == weight
    further = Path("further.yaml")
    further.write_text("objective: {class_path: limbeck.methods.local}")
    command = RecipeCommand.of("run", [str(path), f"--config={further}"])
    assert command.built(command.parsed())[0].objective.matches[1].weight == 1.0
    inner = [word.replace("--objective", "--baselines.both.objective.distillation") for word in words]
    command = RecipeCommand.of("run", [str(path), *inner])
    assert command.built(command.parsed())[0].baselines["both"].objective.matches[1].weight == weight

"""What a user gets wrong: one message that names the thing and the mend, a status, and nothing lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from limbeck.models import LadderVAE
from tests.tiny import built, call, hashes, write_recipe

DIGITS = {"class_path": "limbeck.data.Digits", "init_args": {"limit": 20}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def refused(
    capsys: pytest.CaptureFixture[str], words: list[object], *told: str, status: tuple[int, ...] = (1, 2)
) -> str:
    """Run a command that must fail with one line on standard error, which says all that is expected."""
    before = hashes(Path())
    capsys.readouterr()
    assert call(*words) in status
    found = capsys.readouterr()
    assert found.err.count("limbeck: error:") == 1
    message = found.err.split("limbeck: error:")[1].strip()
    assert "Traceback" not in found.err
    assert "\n" not in message
    for text in told:
        assert text in message, message
    for internal in ("Namespace(", "NestedArg(", "Subtypes", "Given value"):
        assert internal not in message, message
    after = hashes(Path())
    assert {name: after.get(name) for name in before} == before
    return message


# -------------------------------------------------------------------------------------------------- the words of a line

LINES: dict[str, tuple[list[str], list[str]]] = {
    "command": (["runn"], ["'runn'", "did you mean 'run'?"]),
    "no recipe": (["run"], ["which recipe?"]),
    "recipe": (["run", "lader-vae-digits"], ["'lader-vae-digits'", "did you mean ladder-vae-digits"]),
    "recipe without a near one": (["run", "xyzzy"], ["'xyzzy'", "`limbeck recipes` lists them"]),
    "recipe file": (["run", "nothing.yaml"], ["nothing.yaml does not exist"]),
    "recipes takes nothing": (["recipes", "all"], ["'all'"]),
    "key": (["run", "spots.yaml", "--trainning.steps=5"], ["trainning.steps", "did you mean", "training.steps"]),
    "key of a class": (["run", "spots.yaml", "--student.widht=5"], ["widht", "width"]),
    "type": (["run", "spots.yaml", "--training.steps=many"], ["training.steps", "many", "int"]),
    "choice": (["run", "spots.yaml", "--training.schedule=cosinus"], ["schedule", "cosinus", "cosine"]),
    "steps": (["run", "spots.yaml", "--training.steps=0"], ["steps must be at least 1, not 0"]),
    "ema": (["run", "spots.yaml", "--training.ema=2"], ["ema", "between 0 and 1", "2"]),
    "learning rate": (["run", "spots.yaml", "--training.learning_rate=-1"], ["learning_rate must be positive", "-1"]),
    "seeds": (["run", "spots.yaml", "--seeds=0"], ["seeds must be at least 1, not 0"]),
    "width": (["run", "ladder-vae-digits", "--student.width=-1"], ["width must be positive, not -1"]),
    "levels": (["run", "ladder-vae-digits", "--teacher.levels=9"], ["9 levels", "8 pixels", "use fewer levels"]),
    "images in a picture": (
        ["run", "ladder-vae-digits", "--dry-run", "--evaluation.grid=-1"], ["evaluation.grid", "at least 1, not -1"]
    ),
    "extractor": (["run", "ladder-vae-digits", "--evaluation.extractor=inceptoin.pt"], ["no file inceptoin.pt"]),
    "nothing for a number": (["run", "ladder-vae-digits", "--student.width=null"], ["student.width is null", "int"]),
    "no size of the data": (["run", "ladder-vae-digits", "--data.size=null"], ["data.size is null", "int"]),
    "nothing for a method's number": (
        ["run", "ladder-vae-digits", "--objective.latent_weight=null"], ["objective.latent_weight is null", "float"]
    ),
    "baseline": (
        ["run", "spots.yaml", "--baselines.scrach.learning_rate=1"],
        ["no baseline 'scrach', did you mean scratch?"],
    ),
    "name of the run": (["run", "spots.yaml", "--name=../../up"], ["--name=../../up", "--output"]),
    "name that goes up": (["run", "spots.yaml", "--name=.."], ["--name=.. is no name"]),
    "name that is none": (["sweep", "spots.yaml", "--over=seed=1,2", "--name="], ["--name= is no name"]),
    "classes of the data": (["run", "ladder-vae-digits", "--data.classes=[0,11]"], ["classes", "11", "0 0, 1 1"]),
    "limit of the data": (["run", "ladder-vae-digits", "--data.limit=0"], ["limit 0", "at least 1"]),
    "config file": (["run", "spots.yaml", "--config=nowhere.yaml"], ["nowhere.yaml"]),
    "precision": (["run", "spots.yaml", "--trainer.precision=12"], ["trainer", "12"]),
    "accelerator": (["run", "spots.yaml", "--trainer.accelerator=abacus"], ["trainer", "abacus"]),
    "alpha": (["run", "spots.yaml", "--objective=limbeck.methods.joint", "--objective.alpha=3"], ["alpha", "[0, 1]"]),
    "method's name": (["run", "spots.yaml", "--method=scratch"], ["scratch", "is taken"]),
    "nothing to condition on": (["run", "spots.yaml", "--condition=images"], ["'images' given 'images'"]),
    "class of a function": (["run", "spots.yaml", "--teacher=os.system"], ["teacher", "os.system"]),
    "class of another kind": (["run", "spots.yaml", "--teacher=torch.nn.Linear"], ["teacher", "torch.nn.Linear"]),
    "class that is none": (["run", "spots.yaml", "--student=limbeck.models.Lader"], ["limbeck.models.Lader"]),
    "class of the data": (["run", "spots.yaml", "--data=subprocess.Popen"], ["data", "subprocess.Popen"]),
    "objective": (["run", "spots.yaml", "--objective=os.getcwd"], ["objective", "os.getcwd"]),
    "distil what": (["distill"], ["--teacher=DIR"]),
    "teacher's directory": (["distill", "--teacher=nowhere"], ["nowhere is not a directory", "config.json"]),
    "student's key": (["distill", "--teacher=model", "--student.widht=3"], ["widht", "width"]),
    "student into the teacher": (["distill", "--teacher=model", "--out=./model"], ["teacher's own directory"]),
    "student's wrong size": (["distill", "--teacher=model", "--student.width=0"], ["width must be positive, not 0"]),
    "sample from where": (["sample"], ["directory"]),
    "sample from nothing": (["sample", "nowhere"], ["nowhere is not a directory"]),
    "sample no model": (["sample", "."], ["config.json is missing", "not a saved limbeck model"]),
    "number of samples": (["sample", "model", "--n=0"], ["--n must be a whole number of at least 1, not 0"]),
    "part of a sample": (["sample", "model", "--n=1.5"], ["--n must be a whole number of at least 1, not 1.5"]),
    "images in a row": (["sample", "model", "--columns=0"], ["--columns must be a whole number of at least 1, not 0"]),
    "steps of a sample": (["sample", "model", "--steps=0"], ["--steps must be a whole number of at least 1, not 0"]),
    "steps of a model without": (["sample", "model", "--steps=3"], ["a LadderVAE has no steps", "leave it out"]),
    "steps of a student without": (["distill", "--teacher=model", "--steps=3"], ["a LadderVAE has no steps"]),
    "start": (
        ["distill", "--teacher=model", "--start=cold"], ["--start must be one of 'teacher', 'random', not 'cold'"]
    ),
    "temperature": (
        ["sample", "model", "--temperature=-1"], ["--temperature must be a number of at least 0, not -1"]
    ),
    "temperature that is none": (["sample", "model", "--temperature=nan"], ["--temperature", "at least 0, not nan"]),
    "seed": (["sample", "model", "--seed=99999999999999999999999"], ["--seed=9999", "64 bits"]),
    "output": (["sample", "model", "--output=best"], ["--output must be one of 'mean', 'sample', not 'best'"]),
    "no table": (["sample", "model", "--out=a.csv"], ["a.csv", "makes no table", ".png"]),
    "ending": (["sample", "model", "--out=a.gif"], [".png or .safetensors", ".csv", "a.gif"]),
    "sample into a file": (["sample", "model", "--out=spots.yaml/a.png"], ["spots.yaml/a.png", "is a file, not"]),
    "module": (["sample", "model", "--import=no_such_module"], ["no_such_module", "PYTHONPATH"]),
    "evaluate on what": (["evaluate", "model"], ["which data?", "--data=limbeck.data.Digits"]),
    "evaluate nothing": (["evaluate", "nowhere", "--data=limbeck.data.Digits"], ["nowhere is not a directory"]),
    "size of the data": (
        ["evaluate", "model", "--data=limbeck.data.Digits", "--data.size=12", "--data.limit=20",
         "--evaluation.extractor_steps=1", "--evaluation.samples=4", "--cache=cache"],
        ["(1, 12, 12)", "(1, 8, 8)"],
    ),
    "data that are not there": (["evaluate", "model", "--data=nosuch"], ["=nosuch: there is no such directory"]),
    "data of no class": (["distill", "--teacher=model", "--data=Digit"], ["did you mean limbeck.data.Digits"]),
    "data in a table that is not there": (["evaluate", "model", "--data=a.csv"], ["--data=a.csv", "no such file"]),
    "data in a program": (["evaluate", "model", "--data=a.py"], ["a.py names a file", "directory of images", ".csv"]),
    "argument of no data": (
        ["distill", "--teacher=model", "--data.foo=1"], ["--data.foo: an argument of what? Give --data=CLASS first"]
    ),
    "pairs": (["distill", "--teacher=model", "--pairs.count=0"], ["pairs.count must be at least 1, not 0"]),
    "method without its room": (
        ["distill", "--teacher=model", "--objective=vanilla"], ["did you mean limbeck.methods.vanilla?"]
    ),
    "misspelt method": (
        ["distill", "--teacher=model", "--objective=limbeck.methods.vanila"], ["did you mean limbeck.methods.vanilla?"]
    ),
    "misspelt evaluation": (
        ["evaluate", "model", "--data=limbeck.data.Digits", "--evaluation=limbeck.engine.ImageEvalution"],
        ["did you mean limbeck.engine.ImageEvaluation"],
    ),
    "method of another module": (["distill", "--teacher=model", "--objective=no.such"], ["No module named 'no'"]),
    "help of nothing": (["distill", "--student.help=LadderVEA"], ["did you mean limbeck.models.LadderVAE?"]),
    "report of nothing": (["report"], ["runs"]),
    "report of no run": (["report", "model"], ["model", "metrics.json"]),
    "report of a file": (["report", "spots.yaml"], ["spots.yaml is a file", "directory of a run"]),
    "report into a file": (["report", "model", "--out=spots.yaml/a.html"], ["model", "metrics.json"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_lines(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, told = LINES[name]
    write_recipe(Path())
    LadderVAE(image_size=8, image_channels=1, levels=2, width=4, latent_channels=2).save_pretrained("model")
    refused(capsys, words, *told)


# ----------------------------------------------------------------------------------------------------- recipes and data


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
        {"teacher": ladder(levels=3), "student": ladder(levels=2), "data": DIGITS}, ["the student has no site 'z3'"]
    ),
    "shape of the latents": (
        {"teacher": ladder(), "student": ladder(latent_channels=3), "data": DIGITS}, ["z2", "2, 2, 2", "3, 2, 2"]
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
def test_recipes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_files_that_are_no_recipes(text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(text)
    refused(capsys, ["run", "mine.yaml"], told)
    assert not Path("ran").exists()


def test_bytes_that_are_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_bytes(b"\xff\xfe\x00")
    refused(capsys, ["run", "mine.yaml"], "mine.yaml", "not a readable YAML file")


def test_image_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """The file is named, and no buffer in memory."""
    images = Path("images")
    images.mkdir()
    for number in range(12):
        Image.new("L", (8, 8), 20 * number).save(images / f"{number}.png")
    (images / "5.png").write_bytes(b"nothing of a picture")
    data = {"class_path": "limbeck.data.Images", "init_args": {"path": "images", "size": 8, "channels": 1}}
    message = refused(capsys, ["run", write_recipe(Path(), data=data)], "images/5.png", "damaged, or no image")
    assert "BytesIO" not in message


def test_folder_without_images(capsys: pytest.CaptureFixture[str]) -> None:
    Path("images").mkdir()
    data = {"class_path": "limbeck.data.Images", "init_args": {"path": "images"}}
    refused(capsys, ["run", write_recipe(Path(), data=data)], "images")


# --------------------------------------------------------------------------------------------------------- saved models


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def rename_class(path: Path) -> None:
    path.write_text(path.read_text().replace("LadderVAE", "LadderVEA"))


def claim_code(path: Path) -> None:
    path.write_text(json.dumps({"class": "os.system", "config": {"command": "touch ran"}}))


def shrink(path: Path) -> None:
    path.write_text(path.read_text().replace('"width": 4', '"width": 3'))


DAMAGE: dict[str, tuple[str, Callable[[Path], Any], list[str]]] = {
    "half a file": ("model.safetensors", truncate, ["model.safetensors is corrupt"]),
    "noise": ("model.safetensors", lambda path: path.write_bytes(os.urandom(500)), ["model.safetensors is corrupt"]),
    "no weights": ("model.safetensors", Path.unlink, ["model.safetensors is missing"]),
    "other weights": ("config.json", shrink, ["does not fit"]),
    "no json": ("config.json", lambda path: path.write_text("{"), ["config.json", "not readable JSON"]),
    "other json": ("config.json", lambda path: path.write_text("[]"), ["config.json", "not a saved limbeck model"]),
    "unknown class": ("config.json", rename_class, ["LadderVEA"]),
    "code for a class": ("config.json", claim_code, ["os.system"]),
}


@pytest.mark.parametrize("command", ["sample", "distill"])
@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_models(name: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    file, damage, told = DAMAGE[name]
    LadderVAE(image_size=8, image_channels=1, levels=2, width=4, latent_channels=2).save_pretrained("model")
    damage(Path("model") / file)
    refused(capsys, [command, "model" if command == "sample" else "--teacher=model"], *told)
    assert not Path("ran").exists()


def test_own_class_needs_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    built(width=3).save_pretrained("model")
    config = Path("model/config.json")
    config.write_text(config.read_text().replace("tests.tiny", "my.module"))
    refused(capsys, ["sample", "model"], "my.module.Tiny", "--import=my.module")


class Lifted(DGM):
    """A row given a row, by a layer that says nothing of its own if there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def generate(self, sites: Sites, x: torch.Tensor | None = None) -> None:
        sites.target("y", torch.distributions.Normal(self.layer(x), 1.0))


def test_conditional_model(capsys: pytest.CaptureFixture[str]) -> None:
    """Its samples need an input, in the form that the model takes."""
    Lifted().save_pretrained("model")
    words: list[object] = ["sample", "model", "--n=5", "--out=a.safetensors"]
    refused(capsys, words, "the Lifted cannot be sampled without an input x", "--x=FILE.safetensors")
    refused(capsys, [*words, "--x=x.safetensors"], "x.safetensors does not exist")
    refused(capsys, [*words, "--x=x.csv"], "must be a file that ends in .safetensors")
    save_file({"x": torch.ones(2, 4)}, "x.safetensors")
    refused(capsys, [*words, "--x=x.safetensors"], "cannot be sampled given --x=x.safetensors, 4 each")
    refused(capsys, [*words, "--x=x.safetensors", "--class=1"], "leave out --domain and --class")
    save_file({"a": torch.ones(2, 3), "b": torch.ones(2)}, "x.safetensors")
    refused(capsys, [*words, "--x=x.safetensors"], "must hold one tensor", "['a', 'b']")
    save_file({"x": torch.randn(2, 3)}, "x.safetensors")
    assert call(*map(str, words), "--x=x.safetensors") == 0
    drawn = load_file("a.safetensors")["y"]
    assert drawn.shape == (5, 2)
    torch.testing.assert_close(drawn[0], drawn[2])  # the rows in turn


def test_run_of_another_directory(capsys: pytest.CaptureFixture[str]) -> None:
    """Its recipe names classes that are not found here."""
    built(width=3).save_pretrained("run/teacher")
    write_recipe(Path("run"), "recipe", data={"class_path": "nowhere_here.Spots"})
    refused(capsys, ["evaluate", "run/teacher"], "module nowhere_here", "PYTHONPATH")


def test_model_without_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.zoo import Mixed

    Mixed(3).save_pretrained("model")
    refused(capsys, ["sample", "model"], "expected one target that is an image", "y1")


def test_model_that_draws_nothing_usable(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.tiny import NotANumber

    built(NotANumber, width=3).save_pretrained("model")
    refused(capsys, ["sample", "model"], "NaN or infinite pixels")


# --------------------------------------------------------------------------------------------------------- nothing lost


def test_finished_stages_survive_a_mistake(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher of a run is kept when a student fails, and the run goes on from there."""
    from limbeck.engine.training.module import StudentModule

    monkeypatch.setattr("limbeck.report.write_report", lambda runs, out: out)
    path = write_recipe(Path())
    refused(capsys, ["run", path, "--training.learning_rate=1e30", "--training.steps=30"], "non-finite", status=(1,))
    teacher = Path("runs/spots/default/teacher/model.safetensors")
    stamp = teacher.stat().st_mtime_ns
    steps = []
    plain = StudentModule.training_step
    monkeypatch.setattr(StudentModule, "training_step", lambda *words: (steps.append(1), plain(*words))[1])
    assert call("run", path) == 0
    assert teacher.stat().st_mtime_ns == stamp
    assert len(steps) == 2 * 12


@pytest.mark.parametrize("output", ["spots.yaml", "spots.yaml/deeper"])
def test_run_into_a_file(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(Path())
    before = path.read_text()
    refused(capsys, ["run", path, f"--output={output}"], "spots.yaml", "is a file, not a directory", status=(1,))
    assert path.read_text() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind this user")
def test_run_into_a_forbidden_directory(capsys: pytest.CaptureFixture[str]) -> None:
    Path("closed").mkdir(mode=0o500)
    refused(capsys, ["run", write_recipe(Path()), "--output=closed"], "closed", "permission is missing", status=(1,))


def test_distil_over_another_model(capsys: pytest.CaptureFixture[str]) -> None:
    """A model that happens to be where the student shall go is kept beside it."""
    LadderVAE(image_size=8, image_channels=1, levels=2, width=4, latent_channels=2).save_pretrained("teacher")
    LadderVAE(image_size=8, image_channels=1, levels=2, width=5, latent_channels=2).save_pretrained("student")
    before = hashes(Path("student"))
    assert call("distill", "--teacher=teacher", "--student.width=3", "--training.steps=2") == 0
    assert hashes(Path("student.replaced-unknown")) == before
    assert "kept as student.replaced-unknown" in " ".join(capsys.readouterr().err.split())

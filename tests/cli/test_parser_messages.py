"""Wrong words on a command line: one message that names the thing and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.models import LadderVAE, TableGlow
from tests.cli.refusals import refused
from tests.tiny import write_recipe

pytestmark = pytest.mark.usefixtures("here")

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
    "steps": (["run", "spots.yaml", "--training.steps=0"], ["training.steps must be at least 1, not 0"]),
    "the teacher's steps": (
        ["run", "spots.yaml", "--teacher_training.steps=0"], ["teacher_training.steps must be at least 1, not 0"]
    ),
    "snapshots of nothing": (
        ["run", "spots.yaml", "--training.snapshots=[0.5]"], ["training.snapshots has no effect", "as vid does"]
    ),
    "a student's snapshots of nothing": (
        ["distill", "--teacher=model", "--training.snapshots=[0.5]"], ["training.snapshots has no effect"]
    ),
    "share of no choices": (["run", "spots.yaml", "--choice_share=0.3"], ["choice_share has no effect", "at 0.2"]),
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
    "pairs without a number": (["run", "spots.yaml", "--pairs.held_out=3"], ["--pairs: Pairs needs count"]),
    "student that lacks something": (
        ["run", "spots.yaml", "--student=limbeck.models.NetworkClassifier"], ["NetworkClassifier needs network"]
    ),
    "baseline that lacks its method": (
        ["run", "spots.yaml", "--baselines.scrach.seed=1"], ["no baseline 'scrach', did you mean scratch?"]
    ),
    "nothing for a field of a baseline": (
        ["run", "kd-digits", "--baselines.scratch.choices=null"], ["baselines.scratch.choices is null", "give one"]
    ),
    "nothing for a field of the teacher's training": (
        ["run", "kd-digits", "--teacher_training.betas=null"], ["teacher_training.betas is null", "tuple[float, float]"]
    ),
    "nothing for a field of the pairs": (
        ["distill", "--teacher=model", "--pairs.count=3", "--pairs.workers=null"], ["pairs.workers is null", "int"]
    ),
    "nothing for a share of the data": (
        ["run", "kd-digits", "--data.test=null"], ["data.test is null", "takes int | float"]
    ),
    "name of an argument of the method": (
        ["run", "ladder-vae-digits", "--objective.latent=k1"], ["--objective.latent=k1: there is no such"]
    ),
    "field of a training that is none": (
        ["run", "kd-digits", "--teacher_training.augmentation=0.5"], ["augmentation", "0.5"]
    ),
    "truth for a number": (["run", "spots.yaml", "--training.gradient_clip=true"], ["gradient_clip", "float", "True"]),
    "mapping for a divergence": (
        ["run", "ladder-vae-digits", "--objective.latent={a: 1}"], ["objective", "latent", "'a' is not accepted"]
    ),
    "class that is left blank": (["run", "kd-digits", "--data.class_path=null"], ["--data: class_path must be"]),
    "empty path": (["distill", "--teacher=model", "--out="], ["--out is empty; give a path"]),
    "empty path as a word": (["run", "spots.yaml", "--output", ""], ["--output is empty"]),
    "empty file of overrides": (["run", "spots.yaml", "--config=empty.yaml"], ["empty.yaml is not a recipe"]),
    "value of a flag": (["run", "spots.yaml", "--dry-run=true"], ["--dry-run takes no value; write it without =true"]),
    "processes for a single run": (["run", "spots.yaml", "--jobs=3"], ["--jobs is for the points of a sweep"]),
    "cluster for a single run": (["run", "spots.yaml", "--backend=ray"], ["--backend is for the points of a sweep"]),
    "data that nothing needs": (
        ["distill", "--teacher=model", "--data=limbeck.data.Digits", "--training.steps=1"], ["--data: nothing learns"]
    ),
    "part of no data": (["distill", "--teacher=model", "--target=images"], ["--target names a part", "give --data"]),
    "condition without data": (
        ["distill", "--teacher=model", "--condition=labels"], ["--condition names a part", "give --data"]
    ),
    "columns of tensors": (
        ["sample", "model", "--columns=3", "--out=a.safetensors"], ["--columns", "but --out is a.safetensors"]
    ),
    "picture of a table": (["sample", "table", "--out=a.png"], ["TableGlow makes rows of a table", ".csv or .npz"]),
    "more than memory holds": (["sample", "model", "--n=1000000000000000"], ["not enough memory", "smaller numbers"]),
    "network beyond memory": (["run", "ladder-vae-digits", "--student.width=10000000000000"], ["not enough memory"]),
    "no training": (["run", "spots.yaml", "--training=null"], ["--training stands for several fields", "be null"]),
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
def test_what_is_wrong_on_a_command_line_is_told(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, told = LINES[name]
    write_recipe(Path())
    LadderVAE(image_size=8, image_channels=1, levels=2, width=4, latent_channels=2).save_pretrained("model")
    TableGlow(2, depth=1, hidden=4).save_pretrained("table")
    Path("empty.yaml").touch()
    refused(capsys, words, *told)

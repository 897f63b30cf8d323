"""A user's own zuko flow on the command line: distilled, sampled, measured, and all that can be wrong with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from limbeck.core.graph import DGM
from limbeck.models import Glow, TableGlow, ZukoFlow
from tests.tiny import call

zuko = pytest.importorskip("zuko")
HIDDEN = "--teacher.hidden_features=[8,8]"
SETTINGS = ["--teacher.class=zuko.flows.MAF", "--teacher.features=3", "--teacher.transforms=4", HIDDEN]
TEACHER = ["distill", "--teacher=my_flow.safetensors", *SETTINGS, "--training.steps=3", "--objective.pool=40"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_file(zuko.flows.MAF(features=3, transforms=4, hidden_features=[8, 8]).state_dict(), "my_flow.safetensors")
    np.savetxt("mine.csv", np.random.default_rng(0).normal(size=(200, 3)), delimiter=",")
    np.savetxt("wide.csv", np.random.default_rng(0).normal(size=(200, 5)), delimiter=",")


def test_a_flow_of_fewer_steps_comes_out_for_zuko_too() -> None:
    assert call(*TEACHER, "--student.transforms=2") == 0
    student = DGM.from_pretrained("student")
    assert isinstance(student, ZukoFlow)
    assert student.config["transforms"] == 2
    assert student.config["hidden_features"] == [8, 8]  # the teacher's, since nothing else was said
    own = zuko.flows.MAF(features=3, transforms=2, hidden_features=[8, 8])
    own.load_state_dict(load_file("student/zuko.safetensors"))
    rows = torch.randn(7, 3)
    assert torch.equal(own().log_prob(rows), student.log_prob(rows))


def objective(words: list[str]) -> str:
    """What a distillation minimises by default: told by the terms of its history."""
    assert call(*words, "--training.log_every=1") == 0
    return Path("student/history.csv").read_text().splitlines()[0]


def test_densities_without_data_and_latents_with_data() -> None:
    assert "log_prob" in objective([*TEACHER, "--student.transforms=2"])
    words = [*TEACHER[:-1], "--data=limbeck.data.Tabular", "--data.path=mine.csv", "--training.validate_every=2"]
    terms = objective([*words, "--student.transforms=2"])
    assert {"log_prob", "u[0]", "validation"} <= set(terms.replace('"', "").split(","))


def test_a_student_of_another_class() -> None:
    words = ["--student.class_path=limbeck.models.TableGlow", "--student.features=3", "--objective.align=false"]
    assert call(*TEACHER, *words) == 0
    assert isinstance(DGM.from_pretrained("student"), TableGlow)
    assert not Path("student/zuko.safetensors").exists()
    assert call("distill", "--teacher=student", "--student.depth=2", "--training.steps=2", "--objective.pool=40",
                "--out=smaller") == 0  # fmt: skip
    assert DGM.from_pretrained("smaller").config["depth"] == 2


def test_samples_as_a_table() -> None:
    flow = ZukoFlow("MAF", features=3, transforms=2, hidden_features=[8])
    flow.save_pretrained("flow")
    assert call("sample", "flow", "--n=6") == 0
    for ending in ("npz", "safetensors", "csv"):
        assert call("sample", "flow", "--n=6", f"--out=rows.{ending}") == 0
    rows = load_file("rows.safetensors")["y"].numpy()
    np.testing.assert_array_equal(np.load("rows.npz")["samples"], rows)
    assert Path("rows.csv").read_text() == Path("samples.csv").read_text()
    assert Path("rows.csv").read_text().startswith("0,1,2\n")
    text = np.loadtxt("rows.csv", delimiter=",", skiprows=1, dtype=np.float32)
    np.testing.assert_array_equal(text, rows)  # every digit that a float32 has


def test_likelihood_of_data(capsys: pytest.CaptureFixture[str]) -> None:
    flow = ZukoFlow("MAF", features=3, transforms=2, hidden_features=[8])
    flow.save_pretrained("flow")
    small = ["--evaluation.samples=50", "--evaluation.drawn=20", "--evaluation.batch=8", "--evaluation.timing=0.01"]
    assert call("evaluate", "flow", "--data=limbeck.data.Tabular", "--data.path=mine.csv", *small) == 0
    told = capsys.readouterr().out
    assert "test log-likelihood" in told
    assert "0.1 % quantile" in told


def test_flows_of_images_are_measured_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    Glow(8, channels=1, levels=1, depth=1, hidden=2, quantization=17).save_pretrained("glow")
    words = ["--evaluation.samples=40", "--evaluation.interpolated=10", "--evaluation.extractor_steps=2"]
    assert call("evaluate", "glow", "--data=limbeck.data.Digits", "--data.limit=40", *words) == 0
    assert "bits per dimension" in capsys.readouterr().out
    assert call("sample", "glow", "--n=4") == 0
    assert Path("samples.png").exists()


WRONG = {
    "no class": (["distill", "--teacher=my_flow.safetensors"], ["--teacher.class=zuko.flows.MAF"]),
    "no columns": (TEACHER[:3], ["--teacher.features"]),
    "another class": (
        ["distill", "--teacher=my_flow.safetensors", "--teacher.class=zuko.flows.MFA", "--teacher.features=3"],
        ["no flow 'MFA'", "NSF", "did you mean zuko.flows.MAF?"],
    ),
    "steps": ([*TEACHER, "--teacher.transforms=3"], ["transform.transforms.3", "number of transforms"]),
    "columns": ([*TEACHER, "--teacher.features=4"], ["(3,)", "(4,)", "features"]),
    "teacher's key": ([*TEACHER, "--teacher.transfroms=3"], ["transfroms"]),
    "student's key": ([*TEACHER, "--student.transfroms=3"], ["transfroms"]),
    "no file": (["distill", "--teacher=nowhere.safetensors", *SETTINGS], ["nowhere.safetensors is missing"]),
    "no weights": (["distill", "--teacher=mine.csv", *SETTINGS], ["mine.csv is not a readable file of weights"]),
    "no yaml": ([*TEACHER, "--teacher.hidden_features=[8"], ["--teacher.hidden_features=[8"]),
    "data": (
        [*TEACHER[:-1], "--data=limbeck.data.Tabular", "--data.path=wide.csv"],
        ["rows of 3 numbers, but these have 5", "features"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, told = WRONG[name]
    assert call(*words) in (1, 2)
    message = capsys.readouterr().err
    assert message.count("limbeck: error:") == 1
    for text in told:
        assert text in message, message


def test_rows_of_another_width_are_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    ZukoFlow("MAF", features=3, transforms=1, hidden_features=[8]).save_pretrained("flow")
    assert call("evaluate", "flow", "--data=limbeck.data.Tabular", "--data.path=wide.csv") == 1
    message = capsys.readouterr().err
    assert "5" in message
    assert "features" in message


def test_without_zuko(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    assert call(*TEACHER) == 1
    assert "limbeck[flows]" in capsys.readouterr().err


def test_settings_of_the_teacher_are_kept_with_the_student() -> None:
    assert call(*TEACHER, "--out=same") == 0
    config = json.loads(Path("same/config.json").read_text())
    wanted = {"flow": "MAF", "features": 3, "standardize": False, "transforms": 4, "hidden_features": [8, 8]}
    assert all(config["config"][name] == value for name, value in wanted.items())

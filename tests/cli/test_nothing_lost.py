"""What a user gets wrong in the middle: finished work and other files stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from limbeck.engine.training.module import StudentModule
from limbeck.models import LadderVAE
from tests.cli.refusals import refused
from tests.tiny import call, hashes, write_recipe

pytestmark = pytest.mark.usefixtures("here")


def test_finished_stages_survive_a_mistake(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher of a run is kept when a student fails, and the run goes on from there."""
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
def test_a_run_into_a_file_leaves_the_file_alone(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(Path())
    before = path.read_text()
    refused(capsys, ["run", path, f"--output={output}"], "spots.yaml", "is a file, not a directory", status=(1,))
    assert path.read_text() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_run_into_a_forbidden_directory_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("closed").mkdir(mode=0o500)
    refused(capsys, ["run", write_recipe(Path()), "--output=closed"], "closed", "permission is missing", status=(1,))


def test_a_model_where_the_student_shall_go_is_kept_aside(capsys: pytest.CaptureFixture[str]) -> None:
    """A model that happens to be where the student shall go is kept beside it."""
    LadderVAE(image_size=8, image_channels=1, levels=2, width=4, latent_channels=2).save_pretrained("teacher")
    LadderVAE(image_size=8, image_channels=1, levels=2, width=5, latent_channels=2).save_pretrained("student")
    before = hashes(Path("student"))
    assert call("distill", "--teacher=teacher", "--student.width=3", "--training.steps=2") == 0
    assert hashes(Path("student.replaced-unknown")) == before
    assert "kept as student.replaced-unknown" in " ".join(capsys.readouterr().err.split())

"""``limbeck evaluate``: a saved model measured, in a run and outside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.models import LadderVAE
from tests.tiny import Tiny, built, call, write_recipe

pytestmark = pytest.mark.usefixtures("quick")


class TestEvaluate:
    def test_inside_a_run_it_measures_as_the_run_did(self, dry: Path, capsys: pytest.CaptureFixture[str]) -> None:
        student = shutil.copytree(dry, Path("runs/ladder-vae-digits/dry-run")) / "students/local/0"
        picture = (student / "samples.png").read_bytes()
        words = ["evaluate", "--seed", "3", "--evaluation.samples", "20", student]
        assert call(*words, f"--cache={dry.parents[1] / 'cache'}", "--evaluation.extractor_steps=4") == 0
        # The run's page says that its pictures are of the same noise: others stand elsewhere.
        assert (student / "samples.png").read_bytes() == picture != (student / "evaluation/samples.png").read_bytes()
        out = capsys.readouterr().out
        assert f"Pictures: {student / 'evaluation'}" in out
        assert "FID (digits-cnn) to test data" in out
        assert "real vs real" in out
        assert "log-likelihood" not in out

    def test_the_teacher_is_that_of_the_run(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Distances to the teacher mean the teacher of the run, also where it came from elsewhere."""
        built(width=8).save_pretrained("elsewhere")
        path = write_recipe(Path(), teacher_from="elsewhere", baselines={})
        monkeypatch.setattr("limbeck.report.write_report", lambda runs, out: out)
        assert call("run", path) == 0
        seen = []
        plain = Tiny.from_pretrained.__func__

        def spying(cls: type, directory: Any, **more: Any) -> Any:
            seen.append(str(directory))
            return plain(cls, directory, **more)

        monkeypatch.setattr("limbeck.core.graph.DGM.from_pretrained", classmethod(spying))
        assert call("evaluate", "runs/spots/default/students/surrogate/0", "--import=tests.tiny") == 0
        assert seen == ["runs/spots/default/students/surrogate/0", "elsewhere"]
        out = capsys.readouterr().out
        assert "brightness" in out
        assert "Warning" not in out
        built(width=8, seed=1).save_pretrained("elsewhere")  # another model takes its place
        assert call("evaluate", "runs/spots/default/students/surrogate/0", "--import=tests.tiny") == 0
        assert "elsewhere, from which the run loaded its teacher, has changed since" in capsys.readouterr().out
        Path("elsewhere").rename("away")
        assert call("evaluate", "runs/spots/default/students/surrogate/0", "--import=tests.tiny") == 2
        error = capsys.readouterr().err
        assert "the run loaded its teacher from elsewhere, where it is not found now" in error
        assert "--teacher=DIR" in error

    def test_numbers_are_those_of_the_run(self, capsys: pytest.CaptureFixture[str], no_page: None) -> None:
        """The seed is the one that the run measured with."""
        path = write_recipe(Path(), student={"class_path": "tests.tiny.Tiny"}, baselines={}, seed=7)
        assert call("run", path) == 0
        results = json.loads(Path("runs/spots/default/metrics.json").read_text())["results"]
        (brightness,) = (r["values"]["brightness"] for r in results if r["method"] == "surrogate")
        capsys.readouterr()
        assert call("evaluate", "runs/spots/default/students/surrogate/7", "--evaluation.samples=8") == 0
        assert f"brightness  {brightness:.3f}" in capsys.readouterr().out

    def test_a_lost_teacher_is_told_and_a_model_alone_is_compared_with_nothing(
        self, dry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A run that lost its teacher is refused; outside a run, nothing is compared with the model itself."""
        copied = shutil.copytree(dry, tmp_path / "copied")
        shutil.rmtree(copied / "teacher")
        assert call("evaluate", copied / "students/local/0") == 2
        error = capsys.readouterr().err
        assert f"{copied / 'teacher'} holds no model" in error
        assert "--teacher=DIR" in error
        few = ["--data=limbeck.data.Digits", "--data.limit=30", "--evaluation.samples=10"]
        few += ["--evaluation.extractor_steps=2", "--cache=cache"]
        alone = shutil.copytree(dry / "students/local/0", tmp_path / "alone")
        assert call("evaluate", alone, *few) == 0
        out = capsys.readouterr().out
        assert "FID (digits-cnn) to test data" in out
        assert "FID (digits-cnn) to teacher" not in out
        assert "What compares with a teacher is left out" in out
        assert call("evaluate", alone, *few, f"--teacher={dry / 'teacher'}") == 0
        assert "FID (digits-cnn) to teacher" in capsys.readouterr().out

    def test_a_model_outside_a_run_is_measured_on_the_data_that_are_named(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        torch.manual_seed(0)
        LadderVAE(image_size=8, image_channels=1, levels=2, width=4, latent_channels=2).save_pretrained("model")
        status = call(
            "evaluate", "model", "--data=limbeck.data.Digits", "--data.limit=30", "--evaluation.samples=10",
            "--evaluation.extractor_steps=2", "--evaluation.bound_images=4", "--bound", "--out=pictures",
        )  # fmt: skip
        assert status == 0
        assert sorted(path.name for path in Path("pictures").iterdir()) == ["reconstructions.png", "samples.png"]
        assert "test log-likelihood bound" in capsys.readouterr().out

    def test_data_and_evaluation_may_be_named_as_classes(self, capsys: pytest.CaptureFixture[str]) -> None:
        built(width=8).save_pretrained("model")
        words = ["evaluate", "--bound", "model", "--data=tests.tiny.Spots", "--evaluation=tests.tiny.Quick"]
        assert call(*words, "--import=tests.tiny") == 0
        out = capsys.readouterr().out
        assert "brightness" in out
        assert "--bound changes nothing: Quick has no bound for a Tiny." in out

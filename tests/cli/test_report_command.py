"""``limbeck report``: the page of a run, and one that compares several."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.tiny import call

pytestmark = pytest.mark.usefixtures("quick")


class TestReport:
    def test_a_run_has_a_page(self, dry: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("report", dry, "--out=page.html") == 0
        assert "surrogate" in capsys.readouterr().out
        assert Path("page.html").read_text().startswith("<!")

    def test_two_runs_have_one_page(self, dry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        other = shutil.copytree(dry, tmp_path / "other")
        record = json.loads((other / "metrics.json").read_text()) | {"name": "other"}
        (other / "metrics.json").write_text(json.dumps(record))
        assert call("report", dry, other) == 0
        page = Path("comparison.html").read_text()
        assert "dry-run" in page
        assert "other" in page

    def test_runs_of_one_name_are_told_apart(
        self, dry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Rows say whose they are, and no heading or name is cut where the output is no terminal."""
        other = shutil.copytree(dry, tmp_path / "other")
        capsys.readouterr()
        assert call("report", dry, other) == 0
        out = capsys.readouterr().out
        assert "ladder-vae-digits/dry-run (1)" in out
        assert "ladder-vae-digits/dry-run (2)" in out
        assert "surrogate-l1" in out
        assert "FID (digits-cnn) to test data ↓" in out

    def test_a_sweep_has_a_page_of_its_own(self, dry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It is no unfinished run, as a missing record would have it."""
        (tmp_path / "sweep").mkdir()
        (tmp_path / "sweep/sweep.json").write_text("{}")
        assert call("report", dry, tmp_path / "sweep") == 2
        assert f"{tmp_path / 'sweep'} is a sweep, and a page compares runs" in capsys.readouterr().err

    def test_a_sweep_that_was_interrupted(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "sweep" / "stages").mkdir(parents=True)
        assert call("report", tmp_path / "sweep") == 1
        assert "is this a finished sweep? Run `limbeck sweep` first" in capsys.readouterr().err

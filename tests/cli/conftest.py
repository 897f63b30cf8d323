"""What tests of several commands share: an empty working directory, and runs to look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.whole_runs import prepared, run
from tests.tiny import call


def at_no_speed(patch: pytest.MonkeyPatch) -> None:
    """How fast a model draws is not measured, which would take seconds."""
    patch.setattr("limbeck.engine.evaluations.images.image_evaluation.throughput", lambda sample, rows: 1.0)


def without_page(patch: pytest.MonkeyPatch) -> None:
    """The page of a run is not drawn, where it is not what is tested."""
    patch.setattr("limbeck.report.write_report", lambda runs, out: out)


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    at_no_speed(monkeypatch)


@pytest.fixture
def quick(untimed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped recipe, a few steps of each stage; several files read it, so none may write into it."""
    folder = tmp_path_factory.mktemp("dry")
    with pytest.MonkeyPatch.context() as patch:
        at_no_speed(patch)
        patch.chdir(folder)
        assert call("run", "ladder-vae-digits", "--dry-run") == 0
    return folder / "runs" / "ladder-vae-digits" / "dry-run"


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    without_page(monkeypatch)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Uninterrupted runs, with and without a moving average; no test may change what they hold."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        at_no_speed(patch)
        without_page(patch)
        for name in ("plain", "ema"):
            folder = tmp_path_factory.mktemp(name)
            prepared(folder, name)
            assert run(folder) == 0
            found[name] = folder / "runs"
    return found

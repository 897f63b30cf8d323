"""Snapshots that are asked for and cannot be drawn are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbeck.core.methods import scratch, transfer
from limbeck.data import Digits
from limbeck.engine import ClassifierEvaluation, Training
from limbeck.engine.experiments.likelihoods_without_transfer import draw_likelihoods
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.models import NetworkClassifier
from tests.listening import Recorder
from tests.tiny import built


@pytest.mark.parametrize(
    ("match", "snapshots", "told"),
    [
        ("h[*]:vid", (0.0, 1.0), "vid: there are no snapshots, since this student was trained before"),
        ("y:kd", (), ""),
    ],
)
def test_snapshots_that_were_not_taken(match: str, snapshots: tuple[float, ...], told: str, tmp_path: Path) -> None:
    """A finished student is read back, whether or not it was looked at while it learned."""
    network: Any = built(
        NetworkClassifier, 0, network="ConvNet", settings={"widths": [4, 8], "channels": 1, "halved": [1]}
    )
    recipe = Recipe(
        title="Digits", teacher=network, student=network, objective=transfer([match]), method="vid",
        baselines={"scratch": Baseline(scratch())}, evaluation=ClassifierEvaluation(), data=Digits(), target="labels",
        condition="images", training=Training(steps=4, snapshots=snapshots),
    )  # fmt: skip
    nothing: Any = None
    heard = Recorder()
    draw_likelihoods(recipe, {}, nothing, nothing, tmp_path, heard)
    assert (told in " ".join(heard.messages)) if told else not heard.messages
    assert str(tmp_path / "students/vid/0") in " ".join(heard.messages) or match != "h[*]:vid"

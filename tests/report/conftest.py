from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from limbeck.metrics.results import Measure, ModelResult, RunResults
from limbeck.report import save_grid

MEASURES = [
    Measure("fid_data", "FID to data", "lower", 1),
    Measure("elbo", "ELBO", "higher", 2, "nats"),
    Measure("parameters_generative", "Parameters", "lower", 0, kind="cost"),
    Measure("samples_per_second", "Speed", "higher", 0, kind="cost"),
]
FID = {"teacher": [8.0], "surrogate": [10.0, 12.0, 11.0], "local": [14.0, 15.0, 16.0], "scratch": [18.0, 20.0, 22.0]}


def results(fid: dict[str, list[float]] = FID, **changes: object) -> RunResults:
    models = []
    for method, values in fid.items():
        for seed, value in enumerate(values):
            teacher = method == "teacher"
            numbers = {"fid_data": value, "elbo": -value, "parameters_generative": 8000.0 if teacher else 1000.0}
            numbers["samples_per_second"] = 100.0 if teacher else 500.0 + seed
            folder = "teacher" if teacher else f"students/{method}/{seed}"
            models.append(ModelResult(method, seed, folder, numbers, {} if teacher else {"learning_rate": 0.001}))
    run = RunResults(
        recipe="digits",
        name="first",
        title="Digits distilled",
        description="A model of digits.",
        command="limbeck run digits --name=first",
        measures=MEASURES,
        results=models,
        references={"real vs real": 4.1},
        notes=["Pictures are clamped."],
        environment={"python": "3.11"},
    )
    return dataclasses.replace(run, **changes)


HISTORY = "step,total,y,z1,learning_rate,seconds\n10,3.0,2.0,1.0,0.1,\n20,1.5,1.0,0.5,0.1,2\n30,0.75,0.5,0.25,0.1,3\n"


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    def make(record: RunResults | None = None) -> Path:
        record = results() if record is None else record
        directory = tmp_path / "runs" / record.recipe / record.name
        for model in record.results:
            folder = directory / model.directory
            folder.mkdir(parents=True)
            images = np.random.default_rng(len(str(folder))).random((16, 1, 8, 8))
            save_grid(images, folder / "samples.png")
            (folder / "history.csv").write_text(HISTORY)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "metrics.json").write_text(record.to_json())
        (directory / "recipe.yaml").write_text("seed: 0\n")
        return directory

    return make

"""Runs of a small recipe, and what is compared of an interrupted one and a whole one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tiny import call, recipe, write_recipe

EVALUATION = {
    "class_path": "limbeck.engine.ImageEvaluation",
    "init_args": {"samples": 10, "extractor_steps": 4, "bound_samples": 2, "bound_images": 4, "grid": 4},
}


def prepared(folder: Path, kind: str) -> None:
    training = recipe()["training"] | ({"ema": 0.9, "schedule": "cosine"} if kind == "ema" else {})
    models = {
        name: {"class_path": "tests.tiny.Tiny", "init_args": {"width": width, "norm": True}}
        for name, width in (("teacher", 6), ("student", 3))
    }
    write_recipe(folder, evaluation=EVALUATION, training=training, teacher_training=training, **models)


def run(folder: Path) -> int:
    return call("run", folder / "spots.yaml", f"--output={folder / 'runs'}")


def numbers(runs: Path) -> dict[str, Any]:
    """What was measured, without what is measured with a clock."""
    record = json.loads((runs / "spots" / "default" / "metrics.json").read_text())
    clocks = ("train_seconds", "samples_per_second")
    return {
        f"{model['method']} {key}": value
        for model in record["results"]
        for key, value in model["values"].items()
        if key not in clocks
    }

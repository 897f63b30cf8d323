"""Sweeps with known numbers, for the tests of what is made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.metrics.sweep_results import SweepAxis, SweepPoint, SweepResults
from limbeck.report.sweep_lines import SIZE
from tests.report.conftest import results

WIDTH = SweepAxis("width", ["student.width"], [4, 8, 16])
WEIGHT = SweepAxis("weight", ["objective.latent_weight"], [0, 0.001, 1.0])


def made(folder: Path, axes: Sequence[SweepAxis] = (WIDTH, WEIGHT), failed: Sequence[int] = (), **changes: Any) -> Path:
    """A sweep in which FID falls with the width and rises with the weight, along lines; the teacher is one."""
    grids = np.stack(np.meshgrid(*(np.arange(len(axis.values)) for axis in axes), indexing="ij"), -1)
    points = []
    for number, places in enumerate(grids.reshape(-1, len(axes))):
        values = [axis.values[place] for axis, place in zip(axes, places)]
        name = ",".join(f"{axis.label}={value}" for axis, value in zip(axes, values))
        error = "the loss became non-finite at step 3 & <stopped>." if number in failed else ""
        points.append(SweepPoint(name, values, error))
        if error:
            continue
        known = dict(zip((axis.label for axis in axes), values))
        width, weight = known.get("width", 8), known.get("weight", 0)
        fid = {"teacher": [5.0], "surrogate": [40.0 - 2.0 * width + weight + shift for shift in (-1.0, 0.0, 1.0)],
               "scratch": [50.0 - 2.0 * width] * 3}  # fmt: skip
        record = results(fid)
        models = [
            r if r.method == "teacher" else dataclasses.replace(r, values=r.values | {SIZE: 100.0 * width})
            for r in record.results
        ]
        (folder / name).mkdir(parents=True)
        (folder / name / "metrics.json").write_text(dataclasses.replace(record, results=models, name=name).to_json())
    texts = ("digits", "grid", "Digits <swept>", "About & more", "limbeck sweep digits")
    record = SweepResults(*texts, axes=list(axes), points=points, notes=["Two at once."])
    folder.mkdir(exist_ok=True)
    (folder / "sweep.json").write_text(dataclasses.replace(record, **changes).to_json())
    return folder

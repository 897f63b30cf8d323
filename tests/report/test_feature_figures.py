"""What a report shows of hidden features, and that it is kept apart from the loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from limbeck.report.curves import Curves, read_curves, read_variances
from limbeck.report.feature_figures import feature_panels, information_figure, variance_figure
from limbeck.report.page import render_report
from limbeck.report.runs import read_run

HISTORY = """step,total,y,learning_rate,seconds,information/h[0],information/h[1],share/even
10,3.0,3.0,0.1,1,-50,-20,1
20,1.5,1.5,0.1,2,4.5,7,1
30,0.75,0.75,0.1,3,5.5,,1
"""

MakeRun = Callable[..., Path]


def learned(make_run: MakeRun) -> Path:
    directory = make_run()
    for seed in range(3):
        folder = directory / f"students/local/{seed}"
        (folder / "history.csv").write_text(HISTORY)
        (folder / "variances.json").write_text(json.dumps({"h[0]": [2.0, 0.5, 0.25], "h[2]": [1.0]}))
    return directory


def test_what_was_observed_is_no_term(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text(HISTORY)
    curves = read_curves(path)
    assert curves is not None
    assert list(curves.terms) == ["y"]
    assert list(curves.observed) == ["information/h[0]", "information/h[1]", "share/even"]
    assert curves.observed["information/h[0]"].tolist() == [-50, 4.5, 5.5]


def test_total_without_a_column_is_the_sum_of_the_terms(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("step,a,b,seconds,information/h\n1,2,3,0,100\n")
    curves = read_curves(path)
    assert curves is not None
    assert curves.total.tolist() == [5.0]


def test_panels(make_run: MakeRun) -> None:
    (panel,) = feature_panels(read_run(learned(make_run)))
    assert panel.method == "local"
    assert [site for site, _ in panel.legend] == ["h[0]", "h[1]", "h[2]"]
    assert len({color for _, color in panel.legend}) == 3
    information, variances = panel.figures
    assert "h[0] 5.5, h[1] 7 nats" in information
    assert "h[0] 0.25 to 2, h[2] 1 to 1" in variances
    assert all(f"var(--{color})" in information + variances for _, color in panel.legend)


def test_page(make_run: MakeRun) -> None:
    page = render_report([learned(make_run)])
    assert page.count("Hidden features") == 1
    assert page.count("Learned variances of the channels") == 1
    assert "share/even" not in page


def test_page_without(make_run: MakeRun) -> None:
    assert "Hidden features" not in render_report([make_run()])


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"h": "x"}', '{"h": [1, -1]}', '{"h": []}', '{"h": [null]}', "{"])
def test_variances_that_cannot_be_drawn(tmp_path: Path, text: str) -> None:
    (tmp_path / "variances.json").write_text(text)
    assert read_variances(tmp_path / "variances.json") == {}
    assert read_variances(tmp_path / "none.json") == {}


def test_a_single_point_is_seen() -> None:
    one = Curves(np.array([1.0]), np.zeros(1), {}, {"h": np.array([2.0])})
    assert "<use" in information_figure([one], {"h": "t0"}, "short")
    assert "<use" in variance_figure([{"h": np.array([1.0])}], {"h": "t0"}, "short")


def test_record_without_histories(make_run: MakeRun) -> None:
    directory = make_run()
    for path in directory.rglob("history.csv"):
        path.unlink()
    assert feature_panels(read_run(directory)) == []

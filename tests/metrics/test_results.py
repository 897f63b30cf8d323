"""The record of a run and its file."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import DataError
from limbeck.metrics import Measure, ModelResult, PictureKind, RunResults


def results(values: dict[str, float], references: dict[str, float] | None = None) -> RunResults:
    return RunResults(
        recipe="ladder",
        name="first",
        title="Title",
        description="Beschreibung mit Umlaut: für",
        command="limbeck run ladder",
        measures=[
            Measure("fid", "FID", digits=2),
            Measure("rate", "Speed", better="higher", unit="images/s", kind="cost"),
        ],
        results=[
            ModelResult("teacher", None, "teacher", values),
            ModelResult("surrogate", 0, "students/surrogate/0", {"fid": 2.0}, {"learning_rate": 1e-3, "note": "x"}),
            ModelResult("scratch", 0, "students/scratch/0", {"rate": 3.0}),
            ModelResult("surrogate", 1, "students/surrogate/1", {"fid": math.nan}),
        ],
        references=references or {},
        notes=["clamped"],
        environment={"torch": "2"},
        dry_run=True,
        pictures=[PictureKind("larger", "Larger", "Of another size.", "larger images of")],
    )


@given(st.dictionaries(st.text(), st.floats(), max_size=4))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, values: dict[str, float]) -> None:
    path = tmp_path_factory.mktemp("run") / "metrics.json"
    record = results(values, references=values)
    path.write_text(record.to_json(), encoding="utf-8")
    again = RunResults.from_file(path)
    assert repr(again) == repr(record)  # NaN is not equal to itself, but its text is
    if not any(math.isnan(value) for value in values.values()):
        assert dataclasses.replace(again, results=again.results[:3]) == dataclasses.replace(
            record, results=record.results[:3]
        )


def test_file_is_strict_json() -> None:
    text = results({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1}).to_json()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    raw = json.loads(text, parse_constant=refuse)
    assert raw["results"][0]["values"] == {"a": "nan", "b": "inf", "c": "-inf", "d": 0.1}


def test_a_record_without_kinds_tells_them_by_the_keys(tmp_path: Path) -> None:
    """Records written before measures had a kind."""
    costs = ["parameters_generative", "train_seconds", "samples_per_second", "density_milliseconds"]
    raw = json.loads(results({}).to_json())
    raw["measures"] = [{"key": key, "label": key} for key in ("fid_data", *costs, "network_evaluations")]
    (tmp_path / "metrics.json").write_text(json.dumps(raw))
    found = RunResults.from_file(tmp_path / "metrics.json").measures
    assert [measure.key for measure in found if measure.kind == "cost"] == costs


def test_methods_and_values() -> None:
    record = results({"fid": 1.0})
    assert record.methods == ["teacher", "surrogate", "scratch"]
    assert record.values("surrogate", "fid") == [2.0]
    assert record.values("scratch", "fid") == []
    assert record.values("nobody", "fid") == []


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"measures": [], "results": []}', '{"measures": [{"x": 1}], "results": []}']
)
def test_unusable_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.json is not the record of a run"):
        RunResults.from_file(tmp_path / "metrics.json")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        RunResults.from_file(tmp_path / "metrics.json")

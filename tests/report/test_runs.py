from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.metrics import PictureKind
from limbeck.report.curves import Curves, read_curves
from limbeck.report.figures import fold_terms, shares
from limbeck.report.page import render_report
from limbeck.report.runs import read_picture, read_run

from .conftest import results


def curves(tmp_path, text):
    path = tmp_path / "history.csv"
    path.write_text(text)
    return read_curves(path)


def test_history_columns(tmp_path):
    found = curves(tmp_path, "step,total,y,z,learning_rate,seconds\n1,3,2,1,0.1,\n2,,1,,0.1,5\n")
    assert list(found.terms) == ["y", "z"]
    np.testing.assert_array_equal(found.total, [3, np.nan])
    np.testing.assert_array_equal(found.terms["z"], [1, np.nan])


def test_cut_off_repeated_and_unsorted_rows(tmp_path):
    found = curves(tmp_path, "step,total,y\n2,5,5\n1,3,3\n2,4,4\n3,2\nx,9,9\n\n4")
    np.testing.assert_array_equal(found.steps, [1, 2, 3, 4])
    np.testing.assert_array_equal(found.terms["y"], [3, 4, np.nan, np.nan])


@pytest.mark.parametrize(
    "text", ["", "\n", "step\n", "a,b\n1,2\n", "step,total\n1,\n", "step,total\nx,1\n", "\x00\x00"]
)
def test_nothing_to_draw(tmp_path, text):
    assert curves(tmp_path, text) is None


def test_long_histories_are_thinned_by_averaging(tmp_path):
    rows = "".join(f"{step},{step % 2}\n" for step in range(6000))
    found = curves(tmp_path, "step,total\n" + rows)
    assert len(found.steps) == 300
    np.testing.assert_allclose(found.total, 0.5)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "history.csv"
    path.write_bytes(b"step,total,y\n" + data)
    read_curves(path)
    assert read_picture(path) is None


def test_truncated_picture_is_not_available(make_run):
    directory = make_run()
    path = directory / "teacher" / "samples.png"
    path.write_bytes(path.read_bytes()[:60])
    assert read_run(directory).of("teacher")[0].picture is None
    assert read_run(directory).of("local")[0].picture.uri.startswith("data:image/png;base64,")


def test_other_pictures_are_shown_where_the_run_names_them_and_there_are_any(make_run):
    kinds = [
        PictureKind("b", "Second letter", "It is <b>.", "the letter b by"),
        PictureKind("a", "First letter", "It is <a>.", "the letter a by"),
    ]
    directory = make_run(results(pictures=kinds))
    samples = (directory / "teacher" / "samples.png").read_bytes()
    assert "First letter" not in render_report([directory])
    for file in ("a", "b", "c"):
        (directory / "teacher" / f"{file}.png").write_bytes(samples)
    assert list(read_run(directory).of("teacher")[0].others) == ["b", "a"]
    page = render_report([directory])
    assert page.index("Second letter") < page.index("It is &lt;b&gt;.") < page.index("First letter")
    for kind in kinds:
        assert page.count(f"{kind.what} teacher") == 1
        assert f"{kind.what} local" not in page


@pytest.mark.parametrize("name", ["../../second/teacher/samples", "../teacher/samples", "{}", "a/../samples"])
def test_a_kind_of_picture_reaches_no_file_outside_the_models_folder(make_run, name):
    other = make_run(results(name="second"))
    name = name.format(other / "teacher/samples")
    directory = make_run(results(pictures=[PictureKind(name, "Title", "Sentence.", "what of")]))
    (directory / "teacher/a").mkdir()
    assert (directory / "teacher" / f"{name}.png").is_file()
    assert [model.others for model in read_run(directory).models] == [{}] * 10


@pytest.mark.parametrize("elsewhere", ["../second/teacher", "teacher/../../second/teacher", "/{}"])
def test_a_record_reaches_no_file_outside_its_run(make_run, elsewhere):
    other = make_run(results(name="second"))
    record = results()
    directory = make_run(record)
    folder = str(other / "teacher") if elsewhere == "/{}" else elsewhere
    moved = dataclasses.replace(record, results=[dataclasses.replace(record.results[0], directory=folder)])
    (directory / "metrics.json").write_text(moved.to_json())
    model = read_run(directory).models[0]
    assert model.picture is None
    assert model.curves is None


def test_shares_by_hand():
    steps = np.arange(1.0, 21.0)
    one = Curves(steps, np.zeros(20), {"a": np.full(20, 3.0), "b": np.full(20, -1.0)})
    assert shares([one, one]) == {"a": 0.75, "b": 0.25}


def test_many_terms_are_folded():
    steps = np.array([1.0, 2.0])
    terms = {f"z{i}": np.full(2, float(i)) for i in range(20)}
    (folded,) = fold_terms([Curves(steps, steps, terms)])
    assert list(folded.terms) == [f"z{i}" for i in range(13, 20)] + ["13 others"]
    np.testing.assert_array_equal(folded.terms["13 others"], np.full(2, sum(range(13))))


def test_a_run_that_was_started_again_with_other_settings(make_run):
    """Its numbers are those of the recipe in its record, which is shown; that of the interrupted run is mentioned."""
    record = dataclasses.replace(results(), resolved="steps: 20\n")
    directory = make_run(record)
    (directory / "recipe.yaml").write_text("steps: 20\n")
    same = read_run(directory)
    assert same.results.notes == record.notes
    (directory / "recipe.yaml").write_text("steps: 3000\n")
    other = read_run(directory)
    assert "started again with other settings" in other.results.notes[0]
    assert other.recipe == same.recipe == "steps: 20\n"
    assert "started again with other settings" in render_report([directory])

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from limbeck.errors import DataError, StorageError
from limbeck.metrics.results import Measure
from limbeck.report import render_report, write_report

from .conftest import FID, HISTORY, MEASURES, results

VOID = {"meta", "img", "br", "link", "input", "hr", "use", "path"}


class Page(HTMLParser):
    """Checks nesting, collects tags, identifiers and references."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.references = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "srcset", "xlink:href"):
                self.references.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def test_page_is_self_contained(make_run):
    text = render_report([make_run(), make_run(results(name="second"))])
    page = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(r.startswith(("data:image/png;base64,", "#")) for r in page.references)
    assert all(f"#{i}" in "".join(f"#{x} " for x in page.ids) for i in re.findall(r"url\(#([^)]+)\)", text))
    assert len(page.ids) == len(set(page.ids))
    assert all(a.get("alt") for tag, a in page.tags if tag == "img")
    assert all(a.get("aria-label") for tag, a in page.tags if tag == "svg")
    assert all(a.get("scope") for tag, a in page.tags if tag == "th")


def test_page_shows_everything(make_run):
    text = render_report([make_run()])
    for expected in (
        "Digits distilled",
        "A model of digits.",
        "distilled in 2 ways: surrogate and local, with 3 seeds each",
        "<strong>11.0 ± 1.0</strong>",
        "75 ± 8 %",
        "Size and speed",
        "same noise",
        "Pictures are clamped.",
        "real vs real",
        "limbeck run digits --name=first",
        "seed: 0",
        "3.11",
        "8.0 ×",  # 8,000 to 1,000 parameters
    ):
        assert expected in text, expected
    assert text.count("<img ") == 10
    assert "not available" not in text
    assert "Dry run" not in text


def test_texts_say_what_is_there(make_run):
    text = render_report([make_run()])
    assert "100 → 501 Speed" in text  # in the words of the measure: not every model is sampled
    assert 'alt="Grid of samples drawn from surrogate, seed 0"' in text
    assert "Loss curves of surrogate:" in text
    assert "1 of 1 histories" not in text


def test_models_of_other_things_than_images_have_no_samples(make_run):
    measures = [Measure("nll", "NLL", "lower", 2), *MEASURES[2:]]
    named = results()
    models = [
        dataclasses.replace(model, values={**model.values, "nll": model.values["fid_data"]}) for model in named.results
    ]
    text = render_report([make_run(dataclasses.replace(named, measures=measures, results=models))])
    assert 'alt="Picture of surrogate, seed 0"' in text
    assert "Pictures of the other seeds" in text
    assert "amples of the other" not in text
    assert "samples drawn" not in text


def test_a_teacher_that_nobody_trained_misses_no_history(make_run):
    run = make_run()
    (run / "teacher" / "history.csv").unlink()
    assert "histories are not available" not in render_report([run])


def test_dry_run_warns_and_claims_nothing(make_run):
    text = render_report([make_run(results(dry_run=True))])
    assert 'role="alert"' in text
    assert "Dry run" in text
    assert '<dl class="highlights">' not in text


def test_everything_given_is_escaped(make_run):
    bad = "<script>alert('x')</script>&$a$\""
    record = results({"teacher": [8.0], bad: [9.0, 9.5], "scratch": [20.0, 21.0]})
    models = [dataclasses.replace(m, directory=f"m{i}") for i, m in enumerate(record.results)]
    measures = [dataclasses.replace(m, label=bad + m.label) for m in record.measures]
    record = dataclasses.replace(
        record, results=models, measures=measures, title=bad, description=bad, command=bad, notes=[bad],
        references={bad: 1.0}, environment={bad: bad},
    )  # fmt: skip
    directory = make_run(record)
    (directory / "recipe.yaml").write_text(bad)
    (directory / "m0" / "history.csv").write_text(HISTORY.replace("z1", "<b>z</b>"))
    text = render_report([directory])
    assert "<script" not in text
    assert "<b>z</b>" not in text
    Page(text)


def test_missing_and_broken_files_are_not_available(make_run):
    directory = make_run()
    (directory / "teacher" / "samples.png").write_bytes(b"not a picture")
    (directory / "students" / "local" / "0" / "samples.png").unlink()
    (directory / "students" / "local" / "1" / "history.csv").unlink()
    (directory / "students" / "surrogate" / "0" / "history.csv").write_bytes(b"\xff\x00,")
    (directory / "recipe.yaml").unlink()
    text = render_report([directory])
    assert text.count("Pictures: not available") == 2
    assert "1 of 3 histories are not available." in text
    assert "Recipe: not available" in text
    Page(text)


def test_only_the_record(make_run, tmp_path):
    record = results(environment={})
    directory = tmp_path / "bare"
    directory.mkdir()
    (directory / "metrics.json").write_text(record.to_json())
    text = render_report([directory])
    assert "Loss curves: not available" in text
    assert "Environment: not available" in text
    (directory / "environment.json").write_text(json.dumps({"torch": "2.13", "threads": 4}))
    assert "2.13" in render_report([directory])


@pytest.mark.parametrize(
    "fid", [{}, {"teacher": [float("nan")]}, {"surrogate": [0.0, 0.0]}, {"a": [-5.0], "b": [1e9]}, {"scratch": [1e-3]}]
)
def test_unusual_records(make_run, fid):
    Page(render_report([make_run(results(fid))]))


def test_several_runs(make_run):
    text = render_report([make_run(), make_run(results(name="second"))])
    assert "Comparison of first and second" in text
    assert "against the number of generative parameters" in text
    assert text.count("Pictures are clamped.") == 1
    assert text.count("A model of digits.") == 1


def test_runs_of_the_same_name_are_told_apart(make_run):
    text = render_report([make_run(), make_run(results(recipe="other"))])
    assert "Comparison of digits/first and other/first" in text


def test_same_input_same_bytes(make_run, tmp_path):
    directory = make_run()
    first = write_report([directory], tmp_path / "a.html").read_bytes()
    script = (
        f"from limbeck.report import write_report; write_report([{str(directory)!r}], {str(tmp_path / 'b.html')!r})"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "b.html").read_bytes() == first


def test_errors(tmp_path, make_run):
    with pytest.raises(DataError, match="at least one"):
        render_report([])
    with pytest.raises(DataError, match=r"metrics\.json"):
        render_report([tmp_path / "nothing"])
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_report([make_run()], tmp_path / "file" / "report.html")


def test_import_is_light():
    script = "import sys, limbeck.report; print(sorted({'matplotlib', 'jinja2', 'PIL', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_colours_stay_with_their_method(make_run):
    alone = render_report([make_run(results({"teacher": [8.0], "local": FID["local"]}))])
    assert "var(--orange)" in alone
    assert "var(--blue)" not in alone.split("</style>")[1]

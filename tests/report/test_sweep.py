"""The table, the figures and the page of a sweep."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from limbeck.errors import DataError
from limbeck.metrics.sweep_results import SweepAxis, SweepResults
from limbeck.report.sweep import print_sweep, render_sweep_report, write_sweep_report
from limbeck.report.sweep_figures import axis_figures
from limbeck.report.sweep_lines import (
    Line,
    Panel,
    axis_panels,
    is_logarithmic,
    is_numeric,
    read_sweep,
    size_panels,
    straight_line,
)
from limbeck.report.sweep_tables import EVERYWHERE, _fits, fit_table, sweep_size_table, sweep_table
from tests.report.conftest import MEASURES
from tests.report.made_sweeps import WEIGHT, WIDTH, made


def test_record_is_read_back(tmp_path: Path) -> None:
    sweep = read_sweep(made(tmp_path, failed=[1]))
    assert SweepResults.from_file(tmp_path / "sweep.json") == sweep.record
    assert len(sweep.finished) == 8
    assert [point.values for point in sweep.record.failed] == [[4, 0.001]]


@pytest.mark.parametrize("text", ["{", "[]", '{"axes": []}', '{"axes": 3, "points": []}'])
def test_record_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(DataError, match=r"sweep.json is not the record of a sweep"):
        SweepResults.from_file(tmp_path / "sweep.json")
    with pytest.raises(DataError, match="does not exist"):
        read_sweep(tmp_path / "nowhere")


class TestTable:
    def test_rows(self, tmp_path: Path) -> None:
        table = sweep_table(read_sweep(made(tmp_path)))
        assert (table.rows[0].run, table.rows[0].label, table.rows[0].cells[0].text) == (EVERYWHERE, "teacher", "5.0")
        rows = [(row.run, row.label, row.cells[0].text) for row in table.rows[1:4]]
        # Scratch does not depend on the weight: it stands under its width alone.
        assert rows == [
            ("width = 4", "scratch", "42.0 ± 0.0"),
            ("width = 4, weight = 0", "surrogate", "32.0 ± 1.0"),
            ("width = 4, weight = 0.001", "surrogate", "32.0 ± 1.0"),
        ]
        assert sum(row.kind != "reference" for row in table.rows) == 1 + 3 + 9

    def test_equal_by_chance_at_some_points(self, tmp_path: Path) -> None:
        """Only what is the same everywhere along an axis is merged."""
        made(tmp_path)
        path = tmp_path / "width=8,weight=1.0" / "metrics.json"
        path.write_text(path.read_text().replace('"fid_data": 34.0', '"fid_data": 35.0'))
        table = sweep_table(read_sweep(tmp_path))
        assert sum(row.label == "scratch" for row in table.rows) == 9

    def test_failed_points_do_not_hide_what_is_shared(self, tmp_path: Path) -> None:
        table = sweep_table(read_sweep(made(tmp_path, failed=[0, 4])))
        assert [row.run for row in table.rows if row.label == "scratch"] == ["width = 4", "width = 8", "width = 16"]
        assert [row.run for row in table.rows if row.label == "failed"] == ["width = 4, weight = 0",
                                                                            "width = 8, weight = 0.001"]  # fmt: skip

    def test_teachers_that_differ_are_not_merged(self, tmp_path: Path) -> None:
        made(tmp_path, [WIDTH])
        path = tmp_path / "width=8" / "metrics.json"
        path.write_text(path.read_text().replace('"fid_data": 5.0', '"fid_data": 6.0'))
        table = sweep_table(read_sweep(tmp_path))
        assert [row.run for row in table.rows if row.label == "teacher"] == ["width = 4", "width = 8", "width = 16"]

    def test_a_reference_stands_under_what_changes_it(self, tmp_path: Path) -> None:
        for metrics in made(tmp_path).glob("*/metrics.json"):
            width = metrics.parent.name.partition(",")[0].removeprefix("width=")
            metrics.write_text(metrics.read_text().replace('"real vs real": 4.1', f'"real vs real": {width}'))
        table = sweep_table(read_sweep(tmp_path))
        runs = [row.run for row in table.rows if row.label == "real vs real"]
        assert runs == ["width = 4", "width = 8", "width = 16"]

    def test_failed_point_stands_in_its_place(self, tmp_path: Path) -> None:
        table = sweep_table(read_sweep(made(tmp_path, [WIDTH], failed=[1])))
        runs = list(dict.fromkeys(row.run for row in table.rows if row.run))
        assert runs == [EVERYWHERE, "width = 4", "width = 8", "width = 16"]
        row = next(row for row in table.rows if row.run == "width = 8")
        assert row.label == "failed"
        assert {cell.text for cell in row.cells} == {"–"}

    def test_nothing_finished(self, tmp_path: Path) -> None:
        sweep = read_sweep(made(tmp_path, [WIDTH], failed=[0, 1, 2]))
        assert [row.label for row in sweep_table(sweep).rows] == ["failed"] * 3
        assert sweep_size_table(sweep) is None
        assert "3 of 3 points failed" in render_sweep_report(tmp_path)

    @pytest.mark.parametrize(
        ("values", "shown"),
        [
            (["data/a.csv", "data/b.csv"], ["data/a.csv", "data/b.csv"]),
            (["mine.one.build", "mine.two.build"], ["mine.one.build", "mine.two.build"]),
            (["limbeck.methods.local", "a.csv"], ["local", "a.csv"]),
            ([0.12345678, 0.12345679], ["0.12345678", "0.12345679"]),
            ([{"class_path": "mine.A"}, {"class_path": "mine.B", "init_args": {"n": 2}}], ["A", "B(n=2)"]),
        ],
    )
    def test_no_point_hides_another(self, tmp_path: Path, values: list[Any], shown: list[str]) -> None:
        axis = SweepAxis("of", ["data.path"], values)
        made(tmp_path, [axis])
        for number, folder in enumerate(sorted(tmp_path.glob("**/metrics.json"))):
            folder.write_text(folder.read_text().replace('"fid_data": 34.0', f'"fid_data": {34 + number}.0'))
        table = sweep_table(read_sweep(tmp_path))
        assert [row.run for row in table.rows if row.label == "scratch"] == [f"of = {text}" for text in shown]

    def test_size(self, tmp_path: Path) -> None:
        table = sweep_size_table(read_sweep(made(tmp_path, [WIDTH])))
        assert table is not None
        assert [row.cells[0].text for row in table.rows if row.label == "scratch"] == ["400", "800", "1,600"]


class TestLines:
    def test_a_teacher_of_other_data_is_left_out(self, tmp_path: Path) -> None:
        """Its numbers cannot be compared, and would set the scale of the picture."""
        made(tmp_path, [WIDTH])
        assert "teacher" in [line.method for line in axis_panels(read_sweep(tmp_path), 0, "fid_data")[0].lines]
        for path in tmp_path.glob("*/metrics.json"):
            path.write_text(path.read_text().replace('"teacher_elsewhere": false', '"teacher_elsewhere": true'))
        sweep = read_sweep(tmp_path)
        for panels in (axis_panels(sweep, 0, "fid_data"), size_panels(sweep, "fid_data")):
            assert [line.method for line in panels[0].lines] == ["surrogate", "scratch"]

    def test_panels(self, tmp_path: Path) -> None:
        sweep = read_sweep(made(tmp_path))
        panels = axis_panels(sweep, 0, "fid_data")
        assert [panel.title for panel in panels] == ["weight = 0", "weight = 0.001", "weight = 1"]
        line = next(line for line in panels[2].lines if line.method == "surrogate")
        assert line.at == [4, 8, 16]
        assert [np.mean(values) for values in line.values] == [33, 25, 9]
        assert [panel.title for panel in axis_panels(sweep, 1, "fid_data")] == ["width = 4", "width = 8", "width = 16"]

    def test_size_follows_the_axes_that_change_it(self, tmp_path: Path) -> None:
        panels = size_panels(read_sweep(made(tmp_path)), "fid_data")
        assert [panel.title for panel in panels] == ["weight = 0", "weight = 0.001", "weight = 1"]
        at = {line.method: line.at for line in panels[0].lines}
        assert at == {"teacher": [8000], "surrogate": [400, 800, 1600], "scratch": [400, 800, 1600]}

    def test_no_size_figure_for_one_size(self, tmp_path: Path) -> None:
        assert size_panels(read_sweep(made(tmp_path, [WEIGHT])), "fid_data") == []

    def test_straight_line_agrees_with_scipy(self) -> None:
        from scipy.stats import linregress

        generator = np.random.default_rng(0)
        at = [1.0, 5.0, 10.0, 20.0]
        values = [(3 * x + generator.normal(size=3)).tolist() for x in at]
        fit = straight_line(Line("a", at, values))
        other = linregress(np.repeat(at, 3), np.concatenate(values))
        assert fit is not None
        assert fit.count == 12
        assert (fit.slope, fit.intercept, fit.r2) == pytest.approx((other.slope, other.intercept, other.rvalue**2))
        assert straight_line(Line("a", at[:2], values[:2])) is None

    def test_rounding_errors_of_a_zero_are_not_numbers(self) -> None:
        """The divergence of a formula from itself."""
        line = Line("teacher", [1.0, 2.0, 5.0], [[-1e-313], [-3e-312], [-7e-310]])
        (row,) = _fits([Panel("", [line])], "along layers")
        assert [cell.text for cell in row.cells] == ["0", "0", "–", "3"]
        (figure,) = axis_figures([Panel("", [line])], MEASURES[0], {"teacher": "ink"}, "layers", "layers")
        assert "teacher 0 at 1, 0 at 2, 0 at 5" in figure

    def test_fit_table(self, tmp_path: Path) -> None:
        """The width alone: the weight is logarithmic. Scratch does not depend on the weight: once."""
        table = fit_table(read_sweep(made(tmp_path)), MEASURES[0])
        assert table is not None
        rows = [(row.run, row.label, row.cells[0].text, row.cells[1].text, row.cells[3].text) for row in table.rows]
        assert rows == [
            ("along width", "scratch", "−2", "50", "9"),
            ("along width, weight = 0", "surrogate", "−2", "40", "9"),
            ("along width, weight = 0.001", "surrogate", "−2", "40", "9"),
            ("along width, weight = 1", "surrogate", "−2", "41", "9"),
        ]
        surrogate = 1 - 6 / (6 + 3 * 4 * ((np.array([4, 8, 16]) - 28 / 3) ** 2).sum())
        assert table.rows[1].cells[2].text == f"{surrogate:.3f}"
        assert fit_table(read_sweep(made(tmp_path / "weight", [WEIGHT])), MEASURES[0]) is None

    @pytest.mark.parametrize(
        ("places", "expected"),
        [([1, 5, 50], True), ([0, 1e-3, 1e3], True), ([1, 30], False), ([-1, 1e3], False), ([0, 5], False),
         ([2], False)],
    )  # fmt: skip
    def test_logarithmic(self, places: list[float], expected: bool) -> None:
        assert is_logarithmic(places) is expected

    def test_numbers_and_names(self) -> None:
        assert is_numeric(WEIGHT)
        assert not is_numeric(SweepAxis("a", ["a"], [1, "b"]))
        assert not is_numeric(SweepAxis("a", ["a"], [True, False]))


class TestPage:
    def test_has_everything_and_fetches_nothing(self, tmp_path: Path) -> None:
        page = render_sweep_report(made(tmp_path, failed=[4]))
        assert "Digits &lt;swept&gt;" in page
        assert "About &amp; more" in page
        assert "limbeck sweep digits" in page
        assert "Two at once." in page
        assert "1 of 9 points failed" in page
        assert "non-finite at step 3 &amp; &lt;stopped&gt;" in page
        assert page.count("<svg") == 3 + 3 + 3
        assert not re.search(r"(src|href)=\"(https?:)?//", page)
        assert "<script" not in page
        identifiers = re.findall(r'\bid="([^"]+)"', page)
        assert len(set(identifiers)) == len(identifiers)

    def test_links_lead_to_the_points(self, tmp_path: Path) -> None:
        from urllib.parse import unquote

        page = render_sweep_report(made(tmp_path, failed=[4]))
        links = [unquote(link) for link in re.findall(r'<a href="([^"]+)"', page)]
        assert len(links) == 8
        for link in links:
            assert (tmp_path / link).parent.is_dir()

    def test_same_text_again(self, tmp_path: Path) -> None:
        made(tmp_path)
        assert render_sweep_report(tmp_path) == render_sweep_report(tmp_path)
        out = write_sweep_report(tmp_path, tmp_path / "report.html")
        assert out.read_text() == render_sweep_report(tmp_path)

    def test_zero_has_its_place_on_a_logarithmic_axis(self, tmp_path: Path) -> None:
        page = render_sweep_report(made(tmp_path, [WEIGHT]))
        assert page.count("<svg") == 1
        ticks = re.findall(r">(0|0\.001|1)</text>", page)
        assert ticks[:3] == ["0", "0.001", "1"]

    def test_axis_of_names_has_no_figure_but_a_table(self, tmp_path: Path) -> None:
        page = render_sweep_report(
            made(tmp_path, [SweepAxis("kind", ["student"], ["limbeck.models.A", "limbeck.models.B"])])
        )
        assert "<svg" not in page
        assert "kind = B" in page

    def test_dry_run_says_so(self, tmp_path: Path) -> None:
        assert "Dry run: the numbers mean nothing" in render_sweep_report(made(tmp_path, dry_run=True))

    def test_terminal(self, tmp_path: Path) -> None:
        console = Console(file=io.StringIO(), width=160)
        print_sweep(made(tmp_path, failed=[4]), console)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "width = 16, weight = 1" in text
        assert "R²" in text
        assert "width = 8, weight = 0.001 failed: the loss became non-finite" in text

    def test_narrow_terminal(self, tmp_path: Path) -> None:
        """Names whole, columns left out rather than squeezed, and that they are left out is said."""
        console = Console(file=io.StringIO(), width=60)
        print_sweep(made(tmp_path), console)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert max(map(len, lines)) <= 60
        assert any(re.match(r"│ width = 4, weight = 0.001 +│ surrogate ", line) for line in lines)
        assert "The page has more columns." in " ".join(" ".join(lines).split())

    def test_dashed_where_the_axis_changes_nothing(self, tmp_path: Path) -> None:
        page = render_sweep_report(made(tmp_path, [WEIGHT]))
        assert "Dashed: models that the axis does not change." in page
        assert page.count("stroke-dasharray") == 2  # teacher and scratch, not surrogate

"""Drawings from every layout that is read, each written here in small."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.data import StrokeDataset, Strokes, StrokeSplit
from limbeck.data.sequences.stroke_dataset import pad_drawings, simplify_drawing
from limbeck.data.sequences.stroke_files import read_drawings
from limbeck.errors import DataError

LINE = """<?xml version="1.0" encoding="ISO-8859-1"?>
<WhiteboardCaptureSession>
  <WhiteboardDescription><SensorLocation corner="top_left"/></WhiteboardDescription>
  <StrokeSet>
    <Stroke colour="black" start_time="0.00" end_time="0.02">
      <Point x="100" y="50" time="0.00"/><Point x="103" y="54" time="0.01"/>
    </Stroke>
    <Stroke colour="black" start_time="0.10" end_time="0.11"><Point x="{x}" y="50" time="0.10"/></Stroke>
  </StrokeSet>
</WhiteboardCaptureSession>
"""


def drawing(points: int, first: int = 0) -> np.ndarray:
    rows = np.arange(first, first + 3 * points, dtype=np.int16).reshape(points, 3)
    rows[:, 2] = 0
    rows[-1, 2] = 1
    return rows


def flat(path: Path, **splits: list) -> Path:
    arrays = {}
    for name, drawings in splits.items():
        arrays[f"{name}_points"] = np.concatenate(drawings)
        arrays[f"{name}_offsets"] = np.cumsum([0, *map(len, drawings)])
    np.savez(path, **arrays)
    return path


def objects(path: Path, **splits: list) -> Path:
    arrays = {}
    for name, drawings in splits.items():
        arrays[name] = np.empty(len(drawings), dtype=object)
        arrays[name][:] = drawings
    np.savez(path, **arrays)
    return path


SPLITS = {"train": [drawing(n, 7 * n) for n in (2, 5, 3, 4)], "valid": [drawing(3)], "test": [drawing(1), drawing(2)]}


def test_flat_arrays_and_padding(tmp_path: Path) -> None:
    dataset = Strokes(str(flat(tmp_path / "small.npz", **SPLITS)), max_length=4).load()
    assert (dataset.name, dataset.longer) == ("small", 1)
    assert dataset.train.strokes.shape == (3, 4, 4)
    assert sorted(dataset.train.lengths.tolist()) == [2, 3, 4]
    row = dataset.train.strokes[dataset.train.lengths.tolist().index(2)]
    assert row.tolist() == [[14, 15, 0, 0], [17, 18, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_longer_drawings_can_be_cut_and_then_have_no_end(tmp_path: Path) -> None:
    path = str(flat(tmp_path / "small.npz", **SPLITS))
    cut = Strokes(path, max_length=2, longer="cut").load()
    assert (len(cut.train), cut.longer) == (4, 4)
    assert cut.train.lengths.tolist() == [2, 2, 2, 2]
    assert cut.train.strokes[..., 3].sum() == 1
    assert Strokes(path).load().train.strokes.shape == (4, 5, 4)


@pytest.mark.parametrize("offsets", [[], [2, 7, 10, 14], [0, 7, 2, 14], [0, 2, 7]])
def test_offsets_that_do_not_divide_the_points(tmp_path: Path, offsets: list[int]) -> None:
    points = np.concatenate(SPLITS["train"])
    np.savez(tmp_path / "small.npz", train_points=points, train_offsets=np.array(offsets, dtype=np.int64))
    with pytest.raises(DataError, match=r"train_offsets do not divide the 14 rows .* must rise from 0 to 14"):
        Strokes(str(tmp_path / "small.npz")).load()


def test_arrays_of_arrays_are_refused_unless_trusted(tmp_path: Path) -> None:
    path = str(objects(tmp_path / "small.npz", **SPLITS))
    with pytest.raises(DataError, match=r"'train' is a pickle, which runs code .* allow_pickle: true"):
        Strokes(path).load()
    pickled = Strokes(path, allow_pickle=True).load()
    plain = Strokes(str(flat(tmp_path / "flat.npz", **SPLITS))).load()
    assert pickled.fingerprint == plain.fingerprint


def test_quick_draw(tmp_path: Path) -> None:
    path = tmp_path / "cat.ndjson"
    lines = [{"word": "cat", "recognized": True, "drawing": [[[0, 3 + i], [0, 4]], [[9], [9]]]} for i in range(20)]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    dataset = Strokes(str(path)).load()
    assert [len(part) for part in dataset.splits.values()] == [16, 2, 2]
    whole = torch.cat([part.strokes for part in dataset.splits.values()])
    assert sorted(whole[:, 1, 0].tolist()) == [3.0 + i for i in range(20)]
    for row in whole:
        dx = row[1, 0].item()
        assert row.tolist() == [[0, 0, 0, 0], [dx, 4, 1, 0], [9 - dx, 5, 1, 1]]


def test_iam_lines_stay_with_their_form(tmp_path: Path) -> None:
    for form in range(10):
        folder = tmp_path / "lineStrokes" / "a01" / f"a01-{form:03d}"
        folder.mkdir(parents=True)
        for line in range(3):
            (folder / f"a01-{form:03d}u-{line:02d}.xml").write_text(LINE.format(x=200 + form), encoding="latin-1")
    other = tmp_path / "original" / "a01"
    other.mkdir(parents=True)
    (other / "strokesu.xml").write_text(LINE.format(x=9999), encoding="latin-1")
    dataset = Strokes(str(tmp_path / "lineStrokes")).load()
    assert [len(part) for part in dataset.splits.values()] == [24, 3, 3]
    forms = [set(part.strokes[:, 2, 0].tolist()) for part in dataset.splits.values()]
    assert sum(map(len, forms)) == 10
    assert len(set.union(*forms)) == 10  # each form is in one split
    assert dataset.test.strokes[0, :2].tolist() == [[0, 0, 0, 0], [3, 4, 1, 0]]
    assert len(read_drawings(tmp_path)["train"]) == 30  # the parent directory: only what is in lineStrokes


def test_order_limit_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {name: [drawing(2, n) for n in range(30)] for name in ("train", "valid", "test")}
    (tmp_path / "strokes").mkdir()
    flat(tmp_path / "strokes" / "omniglot_flat.npz", **many)
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    whole, few = Strokes().load(), Strokes(limit=5).load()
    assert [len(part) for part in few.splits.values()] == [5, 5, 5]
    assert torch.equal(few.train.strokes, whole.train.strokes[:5])
    assert whole.train.strokes[:, 0, 0].tolist() != sorted(whole.train.strokes[:, 0, 0].tolist())
    assert Strokes(seed=1).load().fingerprint != whole.fingerprint
    assert Strokes().load().fingerprint == whole.fingerprint
    monkeypatch.delenv("LIMBECK_DATA")
    with pytest.raises(DataError, match=r"LIMBECK_DATA \(not set\); give data.path"):
        Strokes().load()


def test_simplified_drawings_stay_close_and_keep_their_strokes() -> None:
    angle = np.linspace(0.0, 2.0 * math.pi, 200)
    circle = np.column_stack([100 * np.cos(angle), 100 * np.sin(angle)])
    offsets = np.diff(circle, axis=0, prepend=np.zeros((1, 2)))
    pen = np.zeros((200, 1))
    pen[[99, 199]] = 1
    before = np.hstack([offsets, pen])
    after = simplify_drawing(before, 2.0)
    assert 10 < len(after) < 40
    assert after[:, 2].sum() == 2
    corners = after[:, :2].cumsum(0)
    torch.testing.assert_close(corners[-1], circle[-1])
    start, along = corners[:-1], np.diff(corners, axis=0)
    share = ((circle[:, None] - start) * along).sum(2) / (along**2).sum(1)
    nearest = start + np.clip(share, 0, 1)[..., None] * along
    assert np.linalg.norm(circle[:, None] - nearest, axis=2).min(1).max() <= 2.0 + 1e-9
    np.testing.assert_allclose(simplify_drawing(after, 1e-9), after)


def test_simplify_is_an_option(tmp_path: Path) -> None:
    straight = {name: [np.array([[0, 0, 0], *[[1, 0, 0]] * 9, [0, 5, 1]])] for name in ("train", "valid", "test")}
    dataset = Strokes(str(flat(tmp_path / "s.npz", **straight)), simplify=0.5).load()
    assert dataset.train.strokes[0].tolist() == [[0, 0, 0, 0], [9, 0, 0, 0], [0, 5, 1, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "missing.npz"}, r"cannot be read as drawings \(FileNotFoundError"),
        ({"path": "words.txt"}, r"neither an .npz nor an .ndjson"),
        ({"path": "broken.npz"}, r"cannot be read"),
        ({"path": "cut.npz"}, r"cannot be read as drawings \(BadZipFile"),
        ({"path": "broken.ndjson"}, r"cannot be read as drawings \(ValueError: a stroke has 2 x but 1 y"),
        ({"path": "no-train.npz"}, r"neither train_points"),
        ({"path": "empty"}, r"no XML file with a StrokeSet"),
        ({"path": "empty.npz"}, r"a drawing without points, 1 of train; repair"),
        ({"path": "two.npz"}, r"too few drawings to cut off a validation split: give at least three"),
        ({"path": "good.npz", "max_length": 0}, r"max_length \(0\)"),
        ({"path": "good.npz", "limit": 0}, r"limit \(0\)"),
        ({"path": "good.npz", "longer": "keep"}, r"'keep'\) is drop or cut"),
        ({"path": "good.npz", "simplify": 0.0}, r"simplify \(0.0\) positive"),
        ({"path": "good.npz", "max_length": 1}, r"train split has no drawings"),
    ],
)
def test_refusals(options: dict, message: str, tmp_path: Path) -> None:
    flat(tmp_path / "good.npz", **SPLITS)
    flat(tmp_path / "no-train.npz", test=[drawing(2)])
    flat(tmp_path / "empty.npz", train=[drawing(2), drawing(1)[:0]])
    flat(tmp_path / "two.npz", train=[drawing(2), drawing(1)])
    (tmp_path / "words.txt").write_text("hello")
    (tmp_path / "broken.npz").write_bytes(b"PK but no archive")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:200])
    (tmp_path / "broken.ndjson").write_text('{"drawing": [[[1, 2], [3]]]}\n')
    (tmp_path / "empty").mkdir()
    options = {**options, "path": str(tmp_path / options["path"])}
    with pytest.raises(DataError, match=message):
        Strokes(**options).load()


def part(**change: float) -> StrokeSplit:
    strokes = pad_drawings([drawing(2), drawing(3)], 4)[0].strokes
    if "pen" in change:
        strokes[0, 0, 2] = change["pen"]
    if "offset" in change:
        strokes[1, 1, 0] = change["offset"]
    if "after" in change:
        strokes[0, 3, 1] = change["after"]
    return StrokeSplit(strokes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (StrokeSplit(torch.zeros(2, 4, 3)), "expected float32 of shape"),
        (StrokeSplit(torch.zeros(2, 4, 4).double()), "expected float32"),
        (StrokeSplit(torch.zeros(0, 4, 4)), "has no drawings"),
        (StrokeSplit(torch.zeros(2, 5, 4)), "another length"),
        (part(offset=math.nan), "1 of 2 drawings have points that are NaN"),
        (part(pen=0.5), "pen or end of 1 of 2"),
        (part(after=2.0), "1 of 2 drawings go on after their end"),
    ],
)
def test_checks(wrong: StrokeSplit, message: str) -> None:
    assert StrokeDataset("lines", part(), part(), part()).test.parts.keys() == {"strokes"}
    with pytest.raises(DataError, match=f"'lines', test split.*{message}"):
        StrokeDataset("lines", part(), part(), wrong)

"""Images from Parquet files and the hub: rows, columns, splits, and what is refused."""

import os
import sys
from pathlib import Path

import pytest
import torch

from limbeck.data import CelebA, DataSource, Digits, Images
from limbeck.errors import DataError
from tests.data.images.drawn_pictures import FEATURES, datasets, encoded, parquet, picture, rows, values


def test_rows_of_parquet_files_keep_their_labels_and_splits(table: Path) -> None:
    dataset = Images(path=str(table), size=8, channels=1, validation=4).load()
    assert dataset.name == "tiny"
    assert dataset.classes == ("dark", "light")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [16, 4, 8]
    assert dataset.train.images.dtype == torch.uint8
    assert sorted(values(dataset.train.images) + values(dataset.validation.images)) == list(range(20))
    assert sorted(values(dataset.test.images)) == list(range(100, 108))
    for part in (dataset.train, dataset.validation):
        assert part.labels.tolist() == [int(value >= 10) for value in values(part.images)]
    assert dataset.validation.labels.bincount().tolist() == [2, 2]


def test_train_is_shuffled_before_it_is_limited(table: Path) -> None:
    dataset = Images(path=str(table), size=8, channels=1, limit=6).load()
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [6, 2, 6]
    assert len(dataset.train.labels.unique()) == 2
    whole = Images(path=str(table), size=8, channels=1).load()
    assert torch.equal(whole.train.images[:6], dataset.train.images)
    other = Images(path=str(table), size=8, channels=1, seed=1).load()
    assert values(other.train.images) != values(whole.train.images)
    assert Images(path=str(table), size=8, channels=1).load().fingerprint == whole.fingerprint


def test_classes_and_columns_can_be_chosen(table: Path) -> None:
    one = Images(path=str(table), size=8, channels=1, classes=[1]).load()
    assert one.classes == ("light",)
    assert sorted(values(one.train.images) + values(one.validation.images)) == list(range(10, 20))
    numbers = Images(path=str(table), size=8, channels=1, image_column="img", label_column="number").load()
    assert len(numbers.classes) == 20
    assert numbers.train.labels.tolist() == values(numbers.train.images)
    for option in ({"image_column": "none"}, {"label_column": "none"}):
        with pytest.raises(DataError, match=r"no column 'none'; set .*_column to one of: img, number, kind"):
            Images(path=str(table), **option).load()  # type: ignore[arg-type]
    with pytest.raises(DataError, match="'number' does not hold image files"):
        Images(path=str(table), image_column="number").load()


def test_columns_need_no_hub_types(tmp_path: Path) -> None:
    """Raw bytes and text labels, as a plain Parquet writer leaves them, and only one file without a split's name."""
    raw = [{"image": encoded(picture(i)), "label": "ab"[i % 2]} for i in range(20)]
    parquet(tmp_path, "part", raw)
    dataset = Images(path=str(tmp_path), size=8, channels=1).load()
    assert dataset.classes == ("a", "b")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [16, 2, 2]
    assert dataset.train.labels.tolist() == [value % 2 for value in values(dataset.train.images)]


def test_validation_split_of_the_set_is_used(table: Path) -> None:
    parquet(table, "validation", rows(3, first=50), FEATURES)
    dataset = Images(path=str(table), size=8, channels=1).load()
    assert len(dataset.train) == 20
    assert sorted(values(dataset.validation.images)) == [50, 51, 52]


def test_a_corrupt_table_is_named(table: Path) -> None:
    file = table / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DataError, match=r"tiny cannot be read .*repair or remove"):
        Images(path=str(table)).load()


def test_a_missing_image_in_a_table_is_named(tmp_path: Path) -> None:
    broken = rows(20)
    for row in broken:
        row["img"] = None
    parquet(tmp_path, "train", broken, FEATURES)
    with pytest.raises(DataError, match=r"image row \d+ cannot be read"):
        Images(path=str(tmp_path)).load()


@pytest.mark.parametrize(
    ("split", "table_rows", "features", "match"),
    [
        ("train", rows(2), FEATURES, r"cannot cut 0\.1 off 2 rows"),
        ("test", rows(2), FEATURES, "has no train split, only test"),
        ("train", [{"x": 1.0}] * 5, None, "no column with images; set image_column to one of: x"),
        (
            "train",
            [{"image": encoded(picture(i)), "label": i / 3} for i in range(9)],
            None,
            "'label' holds float values, not classes",
        ),
        ("train", [{**row, "kind": -1} for row in rows(20)], FEATURES, "labels lie outside 0 to 1"),
    ],
    ids=["short", "test only", "numbers", "real labels", "unknown classes"],
)
def test_useless_tables_are_refused(
    tmp_path: Path, split: str, table_rows: list[dict[str, object]], features: object, match: str
) -> None:
    parquet(tmp_path, split, table_rows, features)
    with pytest.raises(DataError, match=match):
        Images(path=str(tmp_path)).load()


@pytest.mark.parametrize("options", [{"size": 0}, {"limit": 0}, {"channels": 2}])
def test_unusable_options_are_refused(table: Path, options: dict[str, int]) -> None:
    with pytest.raises(DataError, match="Images: size"):
        Images(path=str(table), **options).load()  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [Images("/tmp", resize="a"), Digits(resize="a"), CelebA("/tmp", resize="a")])  # type: ignore[arg-type]
def test_an_unknown_resize_is_refused(source: DataSource) -> None:
    with pytest.raises(DataError, match=r"resize must be pad or bilinear, not 'a'"):
        source.load()


def test_places_are_asked_in_order(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMBECK_DATA", raising=False)
    with pytest.raises(DataError, match="LIMBECK_DATA"):
        Images(folder="tiny").load()
    asked: list[tuple[str, str | None]] = []

    def hub(name: str, config: str | None) -> object:
        asked.append((name, config))
        raise ConnectionError("no route to host")

    monkeypatch.setenv("LIMBECK_DATA", str(table.parent))
    assert Images(folder="tiny", name="someone/tiny").load().name == "tiny"
    monkeypatch.setattr(datasets, "load_dataset", hub)
    with pytest.raises(
        DataError, match=r"someone/tiny cannot be read \(ConnectionError: no route.*check name and network"
    ):
        Images(folder="missing", name="someone/tiny", config="large").load()
    assert asked == [("someone/tiny", "large")]


def test_hub_set_gives_the_same_rows_as_its_files(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = Images(path=str(table), size=8).load()
    found = datasets.DatasetDict(
        {
            "train": datasets.Dataset.from_list(rows(20), FEATURES),
            "test": datasets.Dataset.from_list(rows(8, 100), FEATURES),
        }
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: found)
    hub = Images(name="someone/tiny", size=8).load()
    assert (hub.name, hub.fingerprint) == (local.name, local.fingerprint)


def test_a_missing_library_is_named(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'limbeck\[data\]'"):
        Images(path=str(table)).load()


def test_loading_leaves_nothing_behind(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: object
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    bars = datasets.are_progress_bars_disabled()
    Images(path=str(table)).load()
    assert list((tmp_path / "scratch").iterdir()) == []
    assert datasets.are_progress_bars_disabled() == bars
    printed = capfd.readouterr()  # type: ignore[attr-defined]
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.skipif(
    not (Path(os.environ.get("LIMBECK_DATA", "/nonexistent")) / "fashion_mnist").is_dir(),
    reason="needs fashion_mnist inside $LIMBECK_DATA",
)
def test_fashion_mnist_has_its_published_mean_and_spread() -> None:
    dataset = Images(folder="fashion_mnist", size=28, channels=1, limit=3000).load()
    assert dataset.classes[0].startswith("T")
    assert dataset.classes[9] == "Ankle boot"
    train = dataset.train.images.double() / 255
    assert train.mean() == pytest.approx(0.2860, abs=0.006)
    assert train.std() == pytest.approx(0.3530, abs=0.006)
    assert (dataset.train.labels.bincount() / 3000 - 0.1).abs().max() < 0.03
    padded = Images(folder="fashion_mnist", size=32, channels=1, limit=50).load()
    assert torch.equal(padded.train.images[..., 2:30, 2:30], dataset.train.images[:50])

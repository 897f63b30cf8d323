"""Images from Parquet files, image folders and the hub."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import CelebA, DataSource, Digits, Images
from limbeck.errors import DataError

datasets = pytest.importorskip("datasets")


def picture(value: int, size: tuple[int, int] = (6, 4), mode: str = "L") -> Image.Image:
    """A picture (width, height) of one grey value, bright in its upper left corner."""
    pixels = np.full((size[1], size[0]), value, dtype=np.uint8)
    pixels[0, 0] = 255
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def parquet(directory: Path, split: str, rows: list[dict[str, object]], features: object = None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet(directory / f"{split}-00000-of-00001.parquet")


FEATURES = datasets.Features(
    {"img": datasets.Image(), "number": datasets.Value("int64"), "kind": datasets.ClassLabel(names=["dark", "light"])}
)


def rows(count: int, first: int = 0) -> list[dict[str, object]]:
    """Sorted by class; the grey value is the row's number."""
    return [
        {"img": {"bytes": encoded(picture(first + i)), "path": f"{i}.png"}, "number": i, "kind": int(2 * i >= count)}
        for i in range(count)
    ]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    parquet(tmp_path / "tiny", "train", rows(20), FEATURES)
    parquet(tmp_path / "tiny", "test", rows(8, first=100), FEATURES)
    return tmp_path / "tiny"


def values(images: torch.Tensor) -> list[int]:
    """Grey value of each 6x4 picture that was centred in 8x8."""
    return images[:, 0, 4, 4].tolist()


def test_parquet(table: Path) -> None:
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


def test_pad_centres_and_colour_repeats_grey(table: Path) -> None:
    images = Images(path=str(table), size=8, channels=3).load().test.images
    assert images.shape == (8, 3, 8, 8)
    assert torch.equal(images[:, 0], images[:, 2])
    expected = torch.zeros(8, 8, dtype=torch.uint8)
    expected[2:6, 1:7] = images[0, 0, 4, 4]
    expected[2, 1] = 255
    assert torch.equal(images[0, 0], expected)


def test_pad_shrinks_large_images_and_keeps_their_aspect(table: Path) -> None:
    images = Images(path=str(table), size=3, channels=1).load().test.images
    assert images.shape == (8, 1, 3, 3)
    assert (images[:, 0, :2] > 0).all()
    assert (images[:, 0, 2] == 0).all()


def test_bilinear_fills_the_square(table: Path) -> None:
    images = Images(path=str(table), size=8, channels=1, resize="bilinear").load().test.images
    assert (images > 0).all()
    assert sorted(images[:, 0, 7, 7].tolist()) == list(range(100, 108))


def test_center_crop(table: Path) -> None:
    images = Images(path=str(table), size=2, center_crop=2, channels=1).load().test.images
    assert sorted(images.flatten().tolist()) == sorted(list(range(100, 108)) * 4)
    with pytest.raises(DataError, match="center_crop 5 is larger than an image of 6 x 4"):
        Images(path=str(table), center_crop=5).load()


def test_classes_and_columns(table: Path) -> None:
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


def test_columns_without_hub_types(tmp_path: Path) -> None:
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


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.mark.parametrize("awkward", ["plain", "[1] train of .test"])
def test_image_folder_with_splits(tmp_path: Path, awkward: str) -> None:
    root = tmp_path / ".hidden" / awkward
    for index, name in enumerate(("cat", "dog")):
        for i in range(6):
            save(root / "train" / name / f"{i}.png", picture(10 * index + i, mode="RGB"))
        save(root / "test" / name / "0.png", picture(100 + index))
    (root / "train" / "notes.txt").write_text("not an image")
    dataset = Images(path=str(root), size=8, channels=1, validation=2).load()
    assert dataset.name == awkward
    assert dataset.classes == ("cat", "dog")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [10, 2, 2]
    for part in (dataset.train, dataset.validation):
        assert part.labels.tolist() == [value // 10 for value in values(part.images)]


def test_image_folder_without_splits_may_have_a_class_named_train(tmp_path: Path) -> None:
    for name in ("car", "train"):
        for i in range(10):
            save(tmp_path / name / f"{i}.png", picture(i))
    dataset = Images(path=str(tmp_path), size=8).load()
    assert dataset.classes == ("car", "train")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [16, 2, 2]


def test_flat_folder_of_mixed_pictures(tmp_path: Path) -> None:
    """Sizes, modes and formats differ, and the file names look like splits."""
    for i in range(5):
        save(tmp_path / f"test_{i}.png", picture(200, size=(5 + i, 9 - i)))
        save(tmp_path / f"train_{i}.JPG", picture(200, size=(40, 30), mode="RGB"))
        save(tmp_path / f"{i}.webp", picture(200, mode="RGBA"))
        save(tmp_path / f"{i}.gif", picture(200, mode="P"))
    dataset = Images(path=str(tmp_path), size=12, resize="bilinear").load()
    assert dataset.classes == ("all",)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [16, 2, 2]
    assert dataset.image_shape == (3, 12, 12)
    assert dataset.train.images[:, :, 6:, 6:].float().mean() == pytest.approx(200, abs=4)


def test_sixteen_bits_are_scaled_and_orientation_is_obeyed(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16))
    turned = picture(50, size=(4, 2), mode="RGB")
    exif = turned.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    for i in range(10):
        save(tmp_path / "deep" / f"{i}.png", deep)
        (tmp_path / "turned").mkdir(exist_ok=True)
        turned.save(tmp_path / "turned" / f"{i}.png", exif=exif)
    train = Images(path=str(tmp_path), size=4, channels=1).load().train
    assert (train.images[train.labels == 0] == 128).all()
    columns = train.images[train.labels == 1][:, 0].amax(dim=1)
    assert (columns == torch.tensor([0, 50, 255, 0])).all()


@pytest.mark.parametrize(
    ("suffix", "dtype", "values"),
    [
        (".pgm", np.uint16, [0, 0x8000, 0xFFFF, 0x0100]),
        (".tif", np.int32, [0, 0x8000, 0xFFFF, 0x0100]),
        (".tif", np.float32, [0.0, 128 / 255, 1.0, 1 / 255]),
    ],
)
def test_more_than_eight_bits(tmp_path: Path, suffix: str, dtype: type, values: list[float]) -> None:
    deep = Image.fromarray(np.array(values, dtype=dtype).reshape(2, 2))
    for i in range(12):
        save(tmp_path / f"{i}{suffix}", deep)
    image = Images(path=str(tmp_path), size=2, channels=1).load().train.images[0]
    assert image.flatten().tolist() == [0, 128, 255, 1]
    wrong = Image.fromarray(np.array([[-1.0, 70000.0]], dtype=np.float32 if dtype is np.float32 else np.int32))
    wrong.save(tmp_path / "0.tif")
    with pytest.raises(DataError, match=r"0\.tif cannot be read \(its values go from -1 to 70000, but"):
        Images(path=str(tmp_path), size=2, channels=1).load()


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a directory"):
        Images(path=str(tmp_path / "nowhere")).load()


def test_directory_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="holds neither Parquet nor image files"):
        Images(path=str(tmp_path)).load()


def test_corrupt_parquet(table: Path) -> None:
    file = table / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DataError, match=r"tiny cannot be read .*repair or remove"):
        Images(path=str(table)).load()


@pytest.mark.parametrize("content", [b"", b"not an image", encoded(picture(5, size=(60, 60)))[:60]])
def test_corrupt_image(tmp_path: Path, content: bytes) -> None:
    for i in range(12):
        save(tmp_path / f"{i}.png", picture(i))
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"image .*broken\.png cannot be read"):
        Images(path=str(tmp_path)).load()


def test_missing_image_in_a_table(tmp_path: Path) -> None:
    broken = rows(20)
    for row in broken:
        row["img"] = None
    parquet(tmp_path, "train", broken, FEATURES)
    with pytest.raises(DataError, match=r"image row \d+ cannot be read"):
        Images(path=str(tmp_path)).load()


def test_empty_or_useless_tables(tmp_path: Path) -> None:
    parquet(tmp_path / "short", "train", rows(2), FEATURES)
    with pytest.raises(DataError, match=r"cannot cut 0\.1 off 2 rows"):
        Images(path=str(tmp_path / "short")).load()
    parquet(tmp_path / "test-only", "test", rows(2), FEATURES)
    with pytest.raises(DataError, match="has no train split, only test"):
        Images(path=str(tmp_path / "test-only")).load()
    parquet(tmp_path / "numbers", "train", [{"x": 1.0}] * 5)
    with pytest.raises(DataError, match="no column with images; set image_column to one of: x"):
        Images(path=str(tmp_path / "numbers")).load()
    real = [{"image": encoded(picture(i)), "label": i / 3} for i in range(9)]
    parquet(tmp_path / "real", "train", real)
    with pytest.raises(DataError, match="'label' holds float values, not classes"):
        Images(path=str(tmp_path / "real")).load()
    unknown = [{**row, "kind": -1} for row in rows(20)]
    parquet(tmp_path / "unknown", "train", unknown, FEATURES)
    with pytest.raises(DataError, match="labels lie outside 0 to 1"):
        Images(path=str(tmp_path / "unknown")).load()


@pytest.mark.parametrize("options", [{"size": 0}, {"limit": 0}, {"channels": 2}])
def test_unusable_options(table: Path, options: dict[str, int]) -> None:
    with pytest.raises(DataError, match="Images: size"):
        Images(path=str(table), **options).load()  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [Images("/tmp", resize="a"), Digits(resize="a"), CelebA("/tmp", resize="a")])  # type: ignore[arg-type]
def test_unknown_resize(source: DataSource) -> None:
    with pytest.raises(DataError, match=r"resize must be pad or bilinear, not 'a'"):
        source.load()


def test_places_in_order(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_without_the_library(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'limbeck\[data\]'"):
        Images(path=str(table)).load()


def test_leaves_nothing_behind(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: object) -> None:
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
def test_fashion_mnist() -> None:
    dataset = Images(folder="fashion_mnist", size=28, channels=1, limit=3000).load()
    assert dataset.classes[0].startswith("T")
    assert dataset.classes[9] == "Ankle boot"
    train = dataset.train.images.double() / 255
    assert train.mean() == pytest.approx(0.2860, abs=0.006)
    assert train.std() == pytest.approx(0.3530, abs=0.006)
    assert (dataset.train.labels.bincount() / 3000 - 0.1).abs().max() < 0.03
    padded = Images(folder="fashion_mnist", size=32, channels=1, limit=50).load()
    assert torch.equal(padded.train.images[..., 2:30, 2:30], dataset.train.images[:50])

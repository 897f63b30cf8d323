"""The common data set: checks, fingerprints and splits."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from limbeck.data import DataSource, ImageDataset, ImageSplit, as_float, split_rows
from limbeck.data.images.image_dataset import choose_classes
from limbeck.errors import DataError


def split(rows: int = 4, value: float = 0.5, label: int = 0) -> ImageSplit:
    return ImageSplit(torch.full((rows, 1, 3, 2), value), torch.full((rows,), label))


def dataset(**changes: object) -> ImageDataset:
    fields = {"name": "set", "train": split(), "validation": split(2), "test": split(3), "classes": ("a", "b")}
    return ImageDataset(**{**fields, **changes})  # type: ignore[arg-type]


def test_image_shape_and_len() -> None:
    assert dataset().image_shape == (1, 3, 2)
    assert [len(part) for part in (dataset().train, dataset().validation, dataset().test)] == [4, 2, 3]


def test_take_copies_in_the_given_order() -> None:
    source = ImageSplit(torch.arange(4.0).reshape(4, 1, 1, 1) / 4, torch.arange(4))
    taken = source.take(torch.tensor([3, 1, 1]))
    assert taken.labels.tolist() == [3, 1, 1]
    assert taken.images.flatten().tolist() == [0.75, 0.25, 0.25]
    taken.images.zero_()
    assert source.images.sum() > 0


def test_as_float() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert as_float(every).dtype == torch.float32
    assert torch.equal(as_float(every), torch.arange(256) / 255)
    assert torch.equal(as_float(torch.tensor([0.25], dtype=torch.float64)), torch.tensor([0.25]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["train", "validation", "test"])
def test_non_finite_values_are_counted_and_located(bad: float, where: str) -> None:
    broken = split(3)
    broken.images[1, 0, 2] = bad
    with pytest.raises(DataError, match=rf"'set', {where} split: 2 values in 1 of 3 images are NaN or infinite"):
        dataset(**{where: broken})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": split(0)}, "validation split is empty"),
        ({"train": split(value=1.5)}, r"train split: 24 values lie outside \[0, 1\] \(smallest 1.5, largest 1.5\)"),
        ({"test": split(3, value=-0.1)}, r"test split: 18 values lie outside"),
        ({"train": split(label=2)}, "train split: 4 of 4 labels lie outside 0 to 1"),
        ({"test": split(3, label=-1)}, "test split: 3 of 3 labels lie outside 0 to 1"),
        ({"test": ImageSplit(torch.zeros(2, 1, 4, 4), torch.zeros(2).long())}, r"\(1, 4, 4\) but those of train"),
        ({"test": ImageSplit(torch.zeros(2, 1, 3, 2), torch.zeros(3).long())}, r"labels \(3,\)"),
        ({"train": ImageSplit(torch.zeros(2, 6), torch.zeros(2).long())}, r"shape \(2, 6\)"),
        ({"train": ImageSplit(torch.zeros(2, 1, 3, 2), torch.zeros(2))}, "labels torch.float32"),
        ({"train": ImageSplit(torch.zeros(2, 1, 3, 2).double(), torch.zeros(2).long())}, "images are torch.float64"),
    ],
)
def test_unusable_data_are_refused(changes: dict[str, ImageSplit], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(**changes)


def test_uint8_images_are_valid() -> None:
    byte = ImageSplit(torch.full((2, 1, 3, 2), 255, dtype=torch.uint8), torch.zeros(2).long())
    assert dataset(train=byte, validation=byte, test=byte).train is byte


def test_fingerprint_sees_every_tensor_shape_and_dtype() -> None:
    reference = dataset().fingerprint
    assert dataset().fingerprint == reference
    assert len(reference) == 64
    one_pixel = split()
    one_pixel.images[3, 0, 2, 1] = 0.25
    zero = ImageSplit(torch.zeros(4, 1, 3, 2), torch.zeros(4).long())
    turned = ImageSplit(torch.zeros(4, 1, 2, 3), torch.zeros(4).long())
    byte = ImageSplit(torch.zeros(4, 1, 3, 2, dtype=torch.uint8), torch.zeros(4).long())
    others = [
        dataset(train=one_pixel),
        dataset(test=split(3, label=1)),
        dataset(validation=split(3), test=split(2)),
        *(dataset(train=part, validation=part, test=part) for part in (zero, turned, byte)),
    ]
    assert len({reference, *(other.fingerprint for other in others)}) == len(others) + 1


def test_fingerprint_ignores_memory_layout() -> None:
    images = torch.rand(4, 1, 3, 2, generator=torch.Generator().manual_seed(0))
    strided = images.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    assert not strided.is_contiguous()
    labels = torch.zeros(4).long()
    assert (
        dataset(train=ImageSplit(images, labels)).fingerprint == dataset(train=ImageSplit(strided, labels)).fingerprint
    )


def test_dataset_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset().name = "other"  # type: ignore[misc]


def test_source_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        DataSource()  # type: ignore[abstract]


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=40),
    share=st.one_of(st.integers(-2, 45), st.floats(-0.5, 1.5)),
    seed=st.integers(0, 5),
)
def test_split_rows_is_a_partition_or_an_error(labels: list[int], share: int | float, seed: int) -> None:
    count = share if isinstance(share, int) else round(share * len(labels))
    target = torch.tensor(labels)
    if not 0 < count < len(labels):
        with pytest.raises(DataError, match="cannot cut"):
            split_rows(target, share, seed)
        return
    rest, part = split_rows(target, share, seed)
    assert len(part) == count
    assert sorted([*rest.tolist(), *part.tolist()]) == list(range(len(labels)))
    again = split_rows(target, share, seed)
    assert torch.equal(rest, again[0])
    assert torch.equal(part, again[1])


def test_split_rows_keeps_proportions_and_mixes_sorted_labels() -> None:
    labels = torch.arange(4).repeat_interleave(100)
    rest, part = split_rows(labels, 0.25, seed=0)
    assert labels[part].bincount().tolist() == [25] * 4
    assert labels[rest].bincount().tolist() == [75] * 4
    assert len(labels[rest][:50].unique()) == 4
    assert not torch.equal(split_rows(labels, 0.25, seed=1)[1], part)


def test_split_rows_works_when_stratifying_cannot() -> None:
    rest, part = split_rows(torch.tensor([0, 0, 0, 1]), 1, seed=0)  # a class with a single row
    assert (len(rest), len(part)) == (3, 1)
    rest, part = split_rows(torch.arange(3).repeat(3), 2, seed=0)  # fewer rows than classes
    assert (len(rest), len(part)) == (7, 2)


@pytest.mark.parametrize("classes", [[], [0, 0], [3], [-1]])
def test_choose_classes_refuses(classes: list[int]) -> None:
    with pytest.raises(DataError, match=r"pets: classes .* 0 cat, 1 dog, 2 emu"):
        choose_classes(("cat", "dog", "emu"), torch.tensor([0, 1]), classes, "pets")


def test_choose_classes_drops_rows_without_a_class() -> None:
    names, labels, rows = choose_classes(("cat", "dog"), torch.tensor([-1, 1, 0, -1]), [1, 0], "pets")
    assert (names, labels.tolist(), rows.tolist()) == (("dog", "cat"), [0, 1], [1, 2])


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("Digits", {"size": 16, "classes": [1, 2], "validation": 30, "test": 0.5}),
        ("Images", {"path": "somewhere", "channels": 1, "resize": "bilinear", "center_crop": 140, "validation": 0.2}),
    ],
)
def test_recipes_can_build_sources(source: str, options: dict[str, object]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=DataSource)
    recipe = {"data": {"class_path": f"limbeck.data.{source}", "init_args": options}}
    built = parser.instantiate_classes(parser.parse_object(recipe)).data
    assert isinstance(built, DataSource)
    assert {key: getattr(built, key) for key in options} == options
    assert type(built.validation) is type(options["validation"])  # type: ignore[attr-defined]


def test_import_stays_light() -> None:
    code = "import sys, json, limbeck.data, limbeck.metrics; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert not {"datasets", "sklearn", "torchmetrics", "scipy", "lightning", "PIL"} & set(modules)

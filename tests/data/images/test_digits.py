"""The digits that come with scikit-learn."""

import pytest
import torch
from sklearn.datasets import load_digits

from limbeck.data import Digits
from limbeck.errors import DataError


def test_rows_are_those_of_the_library() -> None:
    dataset = Digits().load()
    assert dataset.image_shape == (1, 8, 8)
    assert dataset.classes == tuple("0123456789")
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(part) for part in parts] == [1213, 135, 449]
    found = sorted(
        (tuple((row * 16).flatten().tolist()), int(label))
        for part in parts
        for row, label in zip(part.images, part.labels)
    )
    raw = load_digits()
    assert found == sorted((tuple(row), int(label)) for row, label in zip(raw.data.tolist(), raw.target))


def test_splits_are_stratified() -> None:
    dataset = Digits().load()
    shares = [
        part.labels.bincount(minlength=10) / len(part) for part in (dataset.train, dataset.validation, dataset.test)
    ]
    assert (shares[0] - shares[1]).abs().max() < 0.01
    assert (shares[0] - shares[2]).abs().max() < 0.01
    assert len(dataset.train.labels[:40].unique()) > 7


def test_fingerprint_is_stable_and_follows_the_options() -> None:
    reference = Digits().load().fingerprint
    assert Digits().load().fingerprint == reference
    others = [Digits(seed=1), Digits(size=16), Digits(size=16, resize="pad"), Digits(limit=100), Digits(classes=[0, 1])]
    prints = {reference, *(source.load().fingerprint for source in others)}
    assert len(prints) == len(others) + 1


def test_class_subset_is_numbered_anew() -> None:
    whole, some = Digits().load(), Digits(classes=[7, 1]).load()
    assert some.classes == ("7", "1")
    for index, digit in enumerate((7, 1)):
        count = sum(int((part.labels == digit).sum()) for part in (whole.train, whole.validation, whole.test))
        parts = (some.train, some.validation, some.test)
        assert sum(int((part.labels == index).sum()) for part in parts) == count
    # A one is a narrow stroke: its outer columns are darker than those of a seven.
    edge = some.train.images[..., [0, 1, 6, 7]].mean(dim=(1, 2, 3))
    assert edge[some.train.labels == 0].mean() > edge[some.train.labels == 1].mean()


def test_pad_keeps_the_pixels_and_bilinear_keeps_the_mean() -> None:
    plain = Digits(limit=20).load().train.images
    padded = Digits(limit=20, size=13, resize="pad").load().train.images
    assert padded.shape == (20, 1, 13, 13)
    assert torch.equal(padded[..., 2:10, 2:10], plain)
    assert padded.sum() == plain.sum()
    larger = Digits(limit=20, size=16).load().train.images
    assert larger.shape == (20, 1, 16, 16)
    assert abs(float(larger.mean() - plain.mean())) < 1e-3
    assert float(larger.min()) >= 0
    assert float(larger.max()) <= 1


def test_limit_counts_and_row_numbers() -> None:
    dataset = Digits(test=300, validation=200, limit=250).load()
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [250, 200, 250]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Digits(size=7), "size 7 is below the 8 pixels"),
        (Digits(classes=[10]), r"classes \[10\]"),
        (Digits(test=1797), "test: cannot cut 1797 off 1797 rows"),
        (Digits(validation=0.0), "validation: cannot cut 0.0"),
        (Digits(validation=float("nan")), "validation: cannot cut nan"),
        (Digits(seed=-1), "seed of the data must be a whole number from 0 to 4294967295, not -1"),
        (Digits(seed=2**32), "not 4294967296"),
        (Digits(limit=0), "limit 0"),
    ],
)
def test_unusable_options(source: Digits, message: str) -> None:
    with pytest.raises(DataError, match=message):
        source.load()

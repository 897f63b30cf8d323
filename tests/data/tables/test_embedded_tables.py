"""The tables that need no download."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.data import BreastCancer, DigitPixels
from tests.data.tables.written_tables import everything


class TestEmbedded:
    def test_breast_cancer_is_noised_by_the_steps_of_its_columns(self) -> None:
        dataset, plain = BreastCancer().load(), BreastCancer(noise=None).load()
        assert len(dataset.columns) == 30
        assert [len(split) for split in dataset.splits.values()] == [411, 45, 113]
        added = everything(dataset) - everything(plain)
        # Each column has its own step, from 0.0000001 of a fractal dimension to 0.1 of an area.
        for column, step in (("mean radius", 0.001), ("mean area", 0.1), ("mean symmetry", 1e-4)):
            noise = added[:, dataset.columns.index(column)]
            assert noise.min() > -0.01 * step
            assert 0.95 * step < noise.max() < 1.01 * step
        assert (everything(dataset).std(axis=0) > 0).all()

    def test_breast_cancer_can_be_standardised(self) -> None:
        dataset = BreastCancer(standardize=True).load()
        assert dataset.train.values.std(0).mean().item() == pytest.approx(1.0, abs=0.1)
        assert len(dataset.std) == 30

    def test_digit_pixels_are_those_of_the_digits(self) -> None:
        dataset = DigitPixels().load()
        values = everything(dataset)
        assert values.shape == (1797, 64)
        assert values.min() >= 0.0
        assert values.max() < 17.0
        assert np.array_equal(np.sort(np.floor(values).sum(0)), np.sort(everything_of_digits().sum(0)))
        assert len(DigitPixels(noise=None).load().columns) == 61
        few = DigitPixels(noise=None, seed=3, test=0.5, validation=0.5).load()  # more pixels are 0 in all training rows
        assert len(few.columns) < 61
        assert (few.train.values.amax(0) > 0).all()

    def test_seeds_fix_splits_and_noise(self) -> None:
        first, again, other = (BreastCancer(seed=seed).load().fingerprint for seed in (0, 0, 1))
        assert first == again != other


def everything_of_digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return load_digits().data

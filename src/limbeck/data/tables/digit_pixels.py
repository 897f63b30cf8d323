"""Handwritten digits as a table: 1797 real rows of 64 pixels, without a download."""

from __future__ import annotations

from typing_extensions import override

from limbeck.data.dataset import DataSource
from limbeck.data.tables.table import TableDataset
from limbeck.data.tables.tabular import split_table

__all__ = ["DigitPixels"]


class DigitPixels(DataSource):
    """The pixels of :class:`~limbeck.data.Digits` as 64 columns: levels from 0 to 16, each with noise in [0, 1).

    Densities of such rows bound the log-probability of the levels from below (Theis, van den Oord and Bethge, "A note
    on the evaluation of generative models", 2016). Three pixels are 0 in all rows: what is left there is the noise.

    Args:
        noise: amplitude of the noise; ``None`` leaves the levels as they are, in which case the three pixels are left
            out, and others that are 0 in all training rows.
        standardize: as for :class:`~limbeck.data.Tabular`; by default values are in their own units.
        test: test rows: a share (float) or a number of rows (int).
        validation: validation rows out of what the test split leaves, likewise.
        seed: fixes splits and noise.

    >>> dataset = DigitPixels().load()
    >>> len(dataset.train), len(dataset.columns), dataset.columns[9]
    (1214, 64, 'pixel 1,1')
    """

    def __init__(
        self,
        noise: float | None = 1.0,
        standardize: bool = False,
        test: int | float = 0.25,
        validation: int | float = 0.1,
        seed: int = 0,
    ) -> None:
        self.noise = noise
        self.standardize = standardize
        self.test = test
        self.validation = validation
        self.seed = seed

    @override
    def load(self) -> TableDataset:
        """Split the rows and add noise.

        Raises:
            DataError: a split would be empty, or the noise is negative.
        """
        from sklearn.datasets import load_digits

        raw = load_digits()
        names = [f"pixel {row},{column}" for row in range(8) for column in range(8)]
        return split_table(
            "digit-pixels", {"all": raw.data}, tuple(names), noise=self.noise, standardize=self.standardize,
            test=self.test, validation=self.validation, drop_constant=True, seed=self.seed,
        )  # fmt: skip

"""Measurements of cell nuclei: 569 real rows of 30 numbers, without a download."""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from limbeck.data.dataset import DataSource
from limbeck.data.tables.table import TableDataset
from limbeck.data.tables.tabular import split_table

__all__ = ["BreastCancer"]


class BreastCancer(DataSource):
    """569 rows of 30 measurements of cell nuclei, "Breast Cancer Wisconsin (Diagnostic)", as scikit-learn has it.

    W. Wolberg, O. Mangasarian, N. Street, W. Street, 1993; UCI set 17. The diagnosis is left out.

    Args:
        noise: as for :class:`~limbeck.data.Tabular`: the numbers are rounded, each column to its own step.
        standardize: as for :class:`~limbeck.data.Tabular`; by default values are in their own units.
        test: test rows: a share (float) or a number of rows (int).
        validation: validation rows out of what the test split leaves, likewise.
        seed: fixes splits and noise.

    >>> dataset = BreastCancer().load()
    >>> len(dataset.train), len(dataset.validation), len(dataset.test), dataset.columns[:2]
    (411, 45, 113, ('mean radius', 'mean texture'))
    """

    def __init__(
        self,
        noise: Literal["auto"] | float | list[float] | None = "auto",
        standardize: bool = False,
        test: int | float = 0.2,
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
            DataError: a split would be empty, or the noise makes no sense.
        """
        from sklearn.datasets import load_breast_cancer

        raw = load_breast_cancer()
        return split_table(
            "breast-cancer", {"all": raw.data}, tuple(map(str, raw.feature_names)), noise=self.noise,
            standardize=self.standardize, test=self.test, validation=self.validation, seed=self.seed,
        )  # fmt: skip

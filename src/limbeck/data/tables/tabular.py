"""Any table of numbers as a data set for densities."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from limbeck.data.dataset import DataSource, check_seed
from limbeck.data.tables.building import build_table, cut_off, drop_missing, moments
from limbeck.data.tables.files import find_table, read_table
from limbeck.data.tables.noise import noise_amplitudes
from limbeck.data.tables.table import TableDataset
from limbeck.errors import DataError

__all__ = ["Tabular", "split_table"]


class Tabular(DataSource):
    """A table from a file: text with separated cells, ``.npz``, ``.npy`` or Parquet (``pip install 'limbeck[data]'``).

    As in Papamakarios, Pavlakou and Murray, "Masked Autoregressive Flow for Density Estimation" (2017), rows are
    shuffled, the last tenth is for testing, the last tenth of the others for validation, and columns of rounded values
    get uniform noise of one rounding step. An ``.npz`` may bring splits (arrays ``train``, ``val``, ``test``), names
    (``columns``) and how it was standardised (``mean``, ``std``); splits that it brings stay as they are.

    Values stay in their own units unless ``standardize`` is set. A model that standardises by itself gives likelihoods
    in these units and takes values in them.

    Args:
        path: the file.
        file: where there is no ``path``, where the file lies in the directory that ``LIMBECK_DATA`` names.
        columns: columns to use, in this order, by name or, where they have none, by number from 0; by default all.
        drop: columns to leave out.
        noise: amplitude of the uniform noise in [0, amplitude): one number for all columns, one for each, ``None``, or
            ``"auto"``: the step of each column whose values lie on a regular grid, and none for the others.
        standardize: subtract the mean of training and validation rows and divide by their standard deviation; both are
            kept with the data set.
        missing: refuse rows with missing, NaN or infinite values, or drop them.
        test: test rows: a share (float) or a number of rows (int).
        validation: validation rows out of what the test split leaves, likewise.
        limit: at most this many rows in each split, drawn at random; ``None`` keeps all.
        header: whether the first line of a text has names; by default if none of its cells is a number.
        delimiter: what separates cells of a text; by default the most frequent of comma, semicolon and tabulator.
        seed: fixes shuffle, noise and limit.
    """

    def __init__(
        self,
        path: str | None = None,
        file: str | None = None,
        columns: list[str | int] | None = None,
        drop: list[str | int] | None = None,
        noise: Literal["auto"] | float | list[float] | None = "auto",
        standardize: bool = False,
        missing: Literal["raise", "drop"] = "raise",
        test: int | float = 0.1,
        validation: int | float = 0.1,
        limit: int | None = None,
        header: bool | None = None,
        delimiter: str | None = None,
        seed: int = 0,
    ) -> None:
        self.path = path
        self.file = file
        self.columns = columns
        self.drop = drop
        self.noise = noise
        self.standardize = standardize
        self.missing = missing
        self.test = test
        self.validation = validation
        self.limit = limit
        self.header = header
        self.delimiter = delimiter
        self.seed = seed

    @override
    def load(self) -> TableDataset:
        """Read, split, and add noise.

        Raises:
            DataError: the file is not there or cannot be read; a column is unknown, constant or not of numbers; values
                are missing; there are too few rows; or an option makes no sense.
        """
        if self.limit is not None and self.limit < 1:
            raise DataError(f"Tabular: limit {self.limit} leaves no rows; use at least 1, or none for all rows.")
        if self.missing not in ("raise", "drop"):
            raise DataError(f"Tabular: missing is raise or drop, not {self.missing!r}.")
        if self.delimiter is not None and len(self.delimiter) > 1:
            raise DataError(
                f"Tabular: delimiter is a single character, not {self.delimiter!r}; comma, semicolon and tabulator are "
                "found without it."
            )
        place = find_table(self.path, self.file)
        raw = read_table(
            place, columns=self.columns, drop=self.drop, header=self.header, delimiter=self.delimiter
        )  # fmt: skip
        splits = {
            split: drop_missing(values, raw.columns, self.missing, f"{place}, {split} rows")
            for split, values in raw.splits.items()
        }
        return split_table(
            place.stem, splits, raw.columns, noise=self.noise, standardize=self.standardize, test=self.test,
            validation=self.validation, limit=self.limit, seed=self.seed,
            before=None if raw.mean is None or raw.std is None else (raw.mean, raw.std),
        )  # fmt: skip


def split_table(
    name: str,
    splits: dict[str, npt.NDArray[Any]],
    columns: tuple[str, ...],
    *,
    noise: Literal["auto"] | float | list[float] | None,
    standardize: bool,
    test: int | float,
    validation: int | float,
    limit: int | None = None,
    drop_constant: bool = False,
    seed: int,
    before: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None,
) -> TableDataset:
    """The steps of :class:`Tabular` after reading.

    Args:
        name: of the data set.
        splits: those that there are, each of shape (rows, columns), or one called ``"all"``.
        columns: names.
        noise: see :class:`Tabular`.
        standardize: likewise.
        test: likewise; for splits that are missing.
        validation: likewise.
        limit: likewise.
        drop_constant: leave out columns that have one value in all training rows, instead of refusing them.
        seed: likewise.
        before: mean and deviation with which the columns were standardised before, each of shape (columns,).
    """
    check_seed(seed)
    random = np.random.default_rng(seed)
    amplitudes = noise_amplitudes(np.concatenate(list(splits.values())), noise, columns, name)
    parts = _complete(splits, test, validation, name, random)
    if limit is not None:
        parts = {split: values[random.permutation(len(values))[:limit]] for split, values in parts.items()}
    if amplitudes.any():
        parts = {split: values + amplitudes * random.random(values.shape) for split, values in parts.items()}
    if drop_constant:
        varying = np.ptp(parts["train"], axis=0) > 0
        parts = {split: values[:, varying] for split, values in parts.items()}
        columns = tuple(column for column, varies in zip(columns, varying, strict=True) if varies)
    standardized = moments(parts["train"], parts["validation"]) if standardize else None
    return build_table(name, parts, columns, standardized=standardized, before=before)


def _complete(
    splits: dict[str, npt.NDArray[Any]],
    test: int | float,
    validation: int | float,
    name: str,
    random: np.random.Generator,
) -> dict[str, npt.NDArray[Any]]:
    """All three splits; those that are missing are cut off the others at random."""
    parts = dict(splits)
    if len(parts) == 3:
        return parts
    pool = parts.pop("all") if "all" in parts else parts.pop("train")
    pool = pool[random.permutation(len(pool))]
    for split, part in (("test", test), ("validation", validation)):
        if split not in parts:
            pool, parts[split] = cut_off(pool, part, split, name)
    return {"train": pool} | parts

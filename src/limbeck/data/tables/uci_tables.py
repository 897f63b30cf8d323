"""The five tables on which densities are compared, from the archive in which they were published.

The archive belongs to Papamakarios, Pavlakou and Murray, "Masked Autoregressive Flow for Density Estimation" (NeurIPS
2017), which describes how the tables were made; it is on Zenodo, record 1161203. It holds partly prepared files; here
is what remains to be done with each. Columns get the numbers that they have in these files where they have no names.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from limbeck.data.dataset import DataSource
from limbeck.data.tables.building import build_table, cut_off, cut_rows, moments
from limbeck.data.tables.files import find_table, optional_module, read_table
from limbeck.data.tables.table import TableDataset
from limbeck.errors import DataError

__all__ = ["BSDS300", "Gas", "Hepmass", "MiniBooNE", "Power"]

_SHARE = 0.1
_CORRELATED = 0.98
_REPEATS = 5


class _Published(DataSource):
    """A table of the archive.

    Args:
        root: the archive's directory ``data``; by default the directory that ``LIMBECK_DATA`` names.
        limit: at most this many rows, the first, of each split; ``None`` keeps all.
    """

    def __init__(self, root: str | None = None, limit: int | None = None) -> None:
        self.root = root
        self.limit = limit

    @override
    def load(self) -> TableDataset:
        """Read and prepare the table.

        Raises:
            DataError: a file is missing or is not as in the archive, or the limit leaves no rows.
        """
        if self.limit is not None and self.limit < 1:
            raise DataError(f"{type(self).__name__}: limit {self.limit} leaves no rows; use at least 1.")
        splits, columns, standardized = self._prepared()
        parts = {split: values[: self.limit] for split, values in splits.items()}
        return build_table(type(self).__name__.lower(), parts, columns, standardized=standardized)

    @abstractmethod
    def _prepared(self) -> tuple[dict[str, npt.NDArray[Any]], list[str], Any]:
        """Splits, names of columns, and mean and deviation with which to standardise, if that remains to be done."""

    def _place(self, *names: str) -> Path:
        """The first of these files that exists."""
        root = self.root if self.root is not None else os.environ.get("LIMBECK_DATA", ".")
        found = [Path(root, name) for name in names if Path(root, name).is_file()]
        return found[0] if found else find_table(str(Path(root, names[0])), None)

    def _read(self, *names: str, columns: int) -> npt.NDArray[Any]:
        """A table with at least the given number of columns."""
        place = self._place(*names)
        values = read_table(place).splits["all"]
        if values.shape[1] < columns:
            raise DataError(f"{place} has {values.shape[1]} columns, in the archive at least {columns}; get it again.")
        return values


class Power(_Published):
    """POWER: electricity used by one house, each minute (``power/data.npy``); 6 columns, standardised.

    Rows are shuffled with seed 42; reactive power and intensity are left out; noise of one rounding step is added to
    active power, voltage and the three meters, none to the time of day.
    """

    @override
    def _prepared(self) -> tuple[dict[str, npt.NDArray[Any]], list[str], Any]:
        values = self._read("power/data.npy", columns=8)
        random = np.random.RandomState(42)
        rows = np.delete(values[random.permutation(len(values))], [1, 3], axis=1).astype(np.float64)
        # In the order in which the paper's program draws its noise.
        voltage, active, meters = (random.rand(len(rows), count) for count in (1, 1, 3))
        rows += np.hstack([0.001 * active, 0.01 * voltage, meters, np.zeros((len(rows), 1))])
        splits = cut_rows(rows, _SHARE, _SHARE, "POWER")
        names = ["active_power", "voltage", "meter_1", "meter_2", "meter_3", "time"]
        return splits, names, moments(splits["train"], splits["validation"])


class Gas(_Published):
    """GAS: readings of gas sensors (``gas/ethylene_CO.pickle``); 8 columns, standardised.

    The two concentrations and the time are left out, then, as long as two columns correlate by more than 0.98, the
    first of those that do.

    The archive's file is a pickle, which runs code when it is read. Convert it once to ``gas/ethylene_CO.parquet`` (or
    ``.csv``), with the names of its columns; the error message for the pickle says how.
    """

    @override
    def _prepared(self) -> tuple[dict[str, npt.NDArray[Any]], list[str], Any]:
        pickled = "gas/ethylene_CO.pickle"
        place = self._place("gas/ethylene_CO.parquet", "gas/ethylene_CO.csv", pickled)
        if place.suffix == ".pickle":
            target = place.with_suffix(".parquet")
            raise DataError(
                f"{place} is a pickle, which runs code when it is read. If you trust it, convert it once: python -c "
                f"\"import pandas; pandas.read_pickle('{place}').to_parquet('{target}')\""
            )
        raw = read_table(place, drop=["Meth", "Eth", "Time"])
        values, names = raw.splits["all"].astype(np.float64), list(raw.columns)
        while True:
            related = (np.corrcoef(values, rowvar=False) > _CORRELATED).sum(axis=1) > 1
            if not related.any():
                break
            first = int(np.argmax(related))
            values, names = np.delete(values, first, axis=1), names[:first] + names[first + 1 :]
        return cut_rows(values, _SHARE, _SHARE, "GAS"), names, moments(values, ddof=1)


class Hepmass(_Published):
    """HEPMASS: simulated collisions of particles (``hepmass/1000_train.csv``, ``1000_test.csv``); 21 columns.

    Only collisions with the new particle (label 1) are kept. Columns of discrete values are left out: those whose
    smallest value occurs more than five times in the training file, which is the rule of the paper's program.
    Standardised by the training file.
    """

    @override
    def _prepared(self) -> tuple[dict[str, npt.NDArray[Any]], list[str], Any]:
        train, test = (self._signal(f"hepmass/1000_{split}.csv") for split in ("train", "test"))
        width = train.shape[1]
        # The test file has an extra column at the end.
        if test.shape[1] not in (width, width + 1):
            raise DataError(f"HEPMASS: the files have {width} and {test.shape[1]} columns; get them again.")
        discrete = (train == train.min(axis=0)).sum(axis=0) > _REPEATS
        train, test = train[:, ~discrete], test[:, :width][:, ~discrete]
        rest, validation = cut_off(train, _SHARE, "validation", "HEPMASS")
        names = [str(index) for index in np.flatnonzero(~discrete) + 1]
        return {"train": rest, "validation": validation, "test": test}, names, moments(train, ddof=1)

    def _signal(self, name: str) -> npt.NDArray[Any]:
        place = self._place(name)
        values = read_table(place, ragged=True).splits["all"]
        kept = values[values[:, 0] == 1, 1:]
        if not len(kept):
            raise DataError(f"{place} has no row with label 1 in its first column; get it again.")
        return kept


class MiniBooNE(_Published):
    """MINIBOONE: detected neutrinos (``miniboone/data.npy``); 43 columns, standardised.

    The archive's file has the electron neutrinos only, without outliers and without columns of repeated values.
    """

    @override
    def _prepared(self) -> tuple[dict[str, npt.NDArray[Any]], list[str], Any]:
        values = self._read("miniboone/data.npy", columns=2)
        splits = cut_rows(values, _SHARE, _SHARE, "MINIBOONE")
        names = [str(index) for index in range(values.shape[1])]
        return splits, names, moments(splits["train"], splits["validation"])


class BSDS300(_Published):
    """BSDS300: patches of 8x8 pixels of natural images (``BSDS300/BSDS300.hdf5``); 63 columns; needs h5py.

    The archive's file has noise added, each patch's mean subtracted, and the last pixel, which follows from the
    others, left out.
    """

    @override
    def _prepared(self) -> tuple[dict[str, npt.NDArray[Any]], list[str], Any]:
        place = self._place("BSDS300/BSDS300.hdf5")
        library = optional_module("h5py", "BSDS300", "h5py")
        try:
            with library.File(place, "r") as file:
                splits = {split: np.asarray(file[split]) for split in ("train", "validation", "test")}
        except (KeyError, OSError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{place} is not the archive's file ({type(error).__name__}: {reason}).") from None
        return splits, [str(index) for index in range(splits["train"].shape[-1])], None

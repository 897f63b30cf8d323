"""Reading tables from csv, npz, npy and Parquet files: the numbers of the columns that are wanted, and nothing else."""

from __future__ import annotations

import csv
import difflib
import importlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from limbeck.data.tables.columns import chosen_columns, not_numbers
from limbeck.data.tables.noise import Array
from limbeck.data.tables.text import read_text
from limbeck.errors import DataError

__all__ = ["RawTable", "find_table", "optional_module", "read_table"]

_TEXT = (".csv", ".tsv", ".txt", ".data")
_MOMENTS = ("mean", "std")
_SPLITS = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}


@dataclass(frozen=True)
class RawTable:
    """A table as its file has it.

    Attributes:
        splits: split to numbers, shape (rows, columns), in the precision of the file; one split ``"all"`` if the file
            has none.
        columns: names.
        mean: what the file says was subtracted from each column, shape (columns,).
        std: what it says each was divided by.
    """

    splits: dict[str, npt.NDArray[Any]]
    columns: tuple[str, ...]
    mean: Array | None = None
    std: Array | None = None


def find_table(path: str | None, file: str | None) -> Path:
    """The file of a table.

    Args:
        path: where it is.
        file: where it lies in the directory that ``LIMBECK_DATA`` names; ``path``, if given, goes before.

    Raises:
        DataError: there is no such file, or neither is given.
    """
    if path is None and file is None:
        raise DataError(
            "a table is given by path, or by file inside the directory that LIMBECK_DATA names: give either."
        )
    root = os.environ.get("LIMBECK_DATA")
    if path is None and not root:
        raise DataError(f"{file!r} is looked for in the directory that LIMBECK_DATA names: set it, or give path.")
    place = Path(root or "", str(file)) if path is None else Path(path).expanduser()
    if not place.is_file():
        found = "is a directory, not a file" if place.is_dir() else "does not exist"
        near = difflib.get_close_matches(place.name, os.listdir(place.parent)) if place.parent.is_dir() else []
        hint = f"; near it there is {', '.join(near)}" if near and not place.is_dir() else ""
        raise DataError(f"the table {place.absolute()} {found}{hint}; check the path.")
    return place


def read_table(
    path: Path,
    *,
    columns: Sequence[str | int] | None = None,
    drop: Sequence[str | int] | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    ragged: bool = False,
) -> RawTable:
    """Read a file; see :class:`~limbeck.data.Tabular` for the formats and most arguments.

    Args:
        path: the file.
        columns: columns to use; by default all.
        drop: columns to leave out.
        header: whether the first line of a text has names; by default if none of its cells is a number.
        delimiter: what separates cells of a text; by default the most frequent of comma, semicolon and tabulator.
        ragged: whether lines of a text may have other numbers of cells than names; what is too much is ignored.

    Raises:
        DataError: the file cannot be read, a column is not there or is not of numbers.
    """
    kind = path.suffix.lower()
    try:
        if kind in _TEXT:
            values, names = read_text(
                path, columns, drop, header, delimiter or ("\t" if kind == ".tsv" else None), ragged=ragged
            )
            return RawTable({"all": values}, names)
        if kind in (".npz", ".npy"):
            return _read_arrays(path, columns, drop)
        if kind == ".parquet":
            return _read_parquet(path, columns, drop)
    except (BadZipFile, EOFError, KeyError, OSError, ValueError, csv.Error, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as a table ({type(error).__name__}: {reason}); repair it.") from None
    raise DataError(
        f"{path}: tables are read from {', '.join(_TEXT)}, .npz, .npy and .parquet; save it as one of these."
    )


def optional_module(name: str, what: str, install: str) -> Any:
    """A library that is needed for this format alone.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DataError(f"reading {what} needs {name.partition('.')[0]}: pip install {install}.") from None


def _read_arrays(path: Path, columns: Sequence[str | int] | None, drop: Sequence[str | int] | None) -> RawTable:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        arrays = {"all": loaded}
    else:
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    splits = {
        split: arrays[name]
        for split, names in _SPLITS.items()
        for name in names
        if "train" in arrays and name in arrays
    }
    if not splits:
        tables = [name for name, array in arrays.items() if array.ndim == 2 and name not in _MOMENTS]
        if len(tables) != 1:
            raise DataError(
                f"{path} holds {', '.join(arrays) or 'nothing'}; it must hold train, and perhaps val and test, or one "
                "array of rows and columns."
            )
        splits = {"all": arrays[tables[0]]}
    for split, array in splits.items():
        if array.ndim != 2 or array.dtype.kind not in "fiub":
            raise DataError(
                f"{path}: {split} is {array.dtype} of shape {array.shape}, not numbers in rows and columns."
            )
    widths = {split: array.shape[1] for split, array in splits.items()}
    if len(set(widths.values())) > 1:
        counts = ", ".join(f"{split} has {width}" for split, width in widths.items())
        raise DataError(f"{path}: the splits differ in their number of columns: {counts}.")
    width = next(iter(widths.values()))
    names = [str(index) for index in range(width)]
    if "columns" in arrays and arrays["columns"].shape == (width,):
        names = [str(name) for name in arrays["columns"]]
    chosen = chosen_columns(names, columns, drop, path)
    moments = _read_moments(path, arrays, width, chosen)
    # Of truth values numpy makes no differences.
    parts = {split: array[:, chosen].astype(np.uint8 if array.dtype == bool else array.dtype, copy=False)
             for split, array in splits.items()}  # fmt: skip
    return RawTable(parts, tuple(names[i] for i in chosen), *moments)


def _read_moments(
    path: Path, arrays: dict[str, npt.NDArray[Any]], width: int, chosen: Sequence[int]
) -> tuple[Array, Array] | tuple[None, None]:
    """With what the columns were standardised, each of shape (chosen,): densities are of another unit then.

    Raises:
        DataError: one of the two is missing, or is not a number for each column.
    """
    given = [name for name in _MOMENTS if name in arrays]
    if not given:
        return None, None
    if len(given) == 1:
        raise DataError(f"{path} has {given[0]} but not both of {' and '.join(_MOMENTS)}; save both or neither.")
    for name in given:
        array = arrays[name]
        if array.shape not in ((width,), (1, width)) or array.dtype.kind not in "fiu":
            raise DataError(
                f"{path}: {name} is {array.dtype} of shape {array.shape}, not one number for each of {width} columns; "
                "repair or remove it."
            )
    mean, std = (arrays[name].reshape(width)[list(chosen)].astype(np.float64) for name in given)
    if not (np.isfinite([mean, std]).all() and (std > 0).all()):
        raise DataError(f"{path}: mean must be finite and std positive in every column; repair or remove them.")
    return mean, std


def _read_parquet(path: Path, columns: Sequence[str | int] | None, drop: Sequence[str | int] | None) -> RawTable:
    arrow = optional_module("pyarrow", "Parquet files", "'limbeck[data]'")
    parquet = optional_module("pyarrow.parquet", "Parquet files", "'limbeck[data]'")
    schema = parquet.read_schema(path)
    names = schema.names
    if columns is None:  # the index of a pandas table numbers its rows, as a rule
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        columns = [name for name in names if name not in index]
    wanted = [names[number] for number in chosen_columns(names, columns, drop, path)]
    table = parquet.read_table(path, columns=wanted)
    parts = []
    for name in wanted:
        column = table.column(name)
        kind = column.type
        if not (arrow.types.is_integer(kind) or arrow.types.is_floating(kind) or arrow.types.is_decimal(kind)):
            raise not_numbers(path, name, f"its type is {kind}")
        parts.append(column.cast(arrow.float64(), safe=False).to_numpy())
    return RawTable({"all": np.column_stack(parts)}, tuple(wanted))

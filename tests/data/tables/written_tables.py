"""Tables of known numbers, written to files, and what is read back of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data import TableDataset, Tabular
from limbeck.errors import DataError

NAMES = ["a", "b", "c"]


def numbers(rows: int = 200, seed: int = 0) -> np.ndarray:
    """Rounded to 0.01, rounded to 5, continuous."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 3)) * [1.0, 100.0, 1.0]
    values[:, 0] = np.round(values[:, 0], 2)
    values[:, 1] = 5 * np.round(values[:, 1] / 5)
    return values


def text(path: Path, values: np.ndarray, names: list[str] | None = None, separator: str = ",") -> str:
    lines = [separator.join(names)] if names else []
    lines += [separator.join(map(repr, row)) for row in values.tolist()]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def parquet(path: Path, **columns: Any) -> str:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path)
    return str(path)


def everything(dataset: TableDataset) -> np.ndarray:
    return torch.cat([split.values for split in dataset.splits.values()]).double().numpy()


def same_rows(first: np.ndarray, second: np.ndarray) -> bool:
    """In whatever order."""
    return bool(np.array_equal(np.sort(first.astype(np.float32), axis=0), np.sort(second.astype(np.float32), axis=0)))


def refused(match: str, *arguments: Any, **options: Any) -> None:
    """Told in one line, by an error about the data."""
    with pytest.raises(DataError, match=match) as caught:
        Tabular(*arguments, **options).load()
    assert "\n" not in str(caught.value)

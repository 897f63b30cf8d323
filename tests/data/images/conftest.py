"""Data sets of pictures on disk."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twenty rows to train on and eight to test on, as Parquet files."""
    from tests.data.images.drawn_pictures import FEATURES, parquet, rows  # which needs datasets

    parquet(tmp_path / "tiny", "train", rows(20), FEATURES)
    parquet(tmp_path / "tiny", "test", rows(8, first=100), FEATURES)
    return tmp_path / "tiny"

"""Made-up data that recipes of several families are run on in reduced form."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of dark and light photographs in the layout of an image folder, not square."""
    root, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, rows in (("train", 20), ("test", 10)):
        for label in ("dark", "light"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for row in range(rows):
                pixels = random.integers(0, 128, (8, 8, 3), dtype=np.uint8) + 128 * (label == "light")
                Image.fromarray(pixels.astype(np.uint8)).resize((144, 150)).save(folder / f"{row}.png")
    return root

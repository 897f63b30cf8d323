"""Model directories that other libraries write, and who of ours reads them.

Loading belongs to core, which knows no model; what was saved by this library says itself which class it is of. For
what does not, the two meet here, beside the package's table of public names.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["FOREIGN", "Reader"]


class Reader(NamedTuple):
    """Who reads a layout.

    Attributes:
        model: module and name of a class of models; imported when there is something to read.
        method: its class method that takes the directory and returns the model.
    """

    model: str
    method: str


FOREIGN: Mapping[str, Reader] = MappingProxyType({"model_index.json": Reader("limbeck.models.DDIM", "from_pipeline")})
"""The file that tells a layout to who reads it."""

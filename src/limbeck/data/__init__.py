"""Data sources: each turns a set on disk, on the hub or inside a library into one :class:`Dataset`."""

from limbeck.data.dataset import Dataset, DataSource, Split, as_float, split_rows, validate_dataset
from limbeck.data.digits import Digits
from limbeck.data.images import Images

__all__ = ["DataSource", "Dataset", "Digits", "Images", "Split", "as_float", "split_rows", "validate_dataset"]

"""Data sources: each turns a set on disk, on the hub or inside a library into one :class:`Dataset`."""

from limbeck.data.celeba import CelebA
from limbeck.data.dataset import Dataset, DataSource, Split, split_rows
from limbeck.data.digits import Digits
from limbeck.data.domains import DomainDataset, Domains, DomainSplit
from limbeck.data.faithful import Faithful
from limbeck.data.image_dataset import ImageDataset, ImageSplit, as_float
from limbeck.data.images import Images
from limbeck.data.sequence_dataset import SequenceDataset, SequenceSplit
from limbeck.data.spelled_digits import SpelledDigits
from limbeck.data.stroke_dataset import StrokeDataset, StrokeSplit
from limbeck.data.strokes import Strokes
from limbeck.data.table import TableDataset, TableSplit

__all__ = [
    "CelebA",
    "DataSource",
    "Dataset",
    "Digits",
    "DomainDataset",
    "DomainSplit",
    "Domains",
    "Faithful",
    "ImageDataset",
    "ImageSplit",
    "Images",
    "SequenceDataset",
    "SequenceSplit",
    "SpelledDigits",
    "Split",
    "StrokeDataset",
    "StrokeSplit",
    "Strokes",
    "TableDataset",
    "TableSplit",
    "as_float",
    "split_rows",
]

"""Data sources: each turns a set on disk, on the hub or inside a library into one :class:`Dataset`."""

from limbeck.data.class_rows import take_per_class
from limbeck.data.dataset import Dataset, DataSource, Split, split_rows
from limbeck.data.images.augmentation import Augmentation
from limbeck.data.images.celeba import CelebA
from limbeck.data.images.digits import Digits
from limbeck.data.images.domains import DomainDataset, Domains, DomainSplit
from limbeck.data.images.image_dataset import ImageDataset, ImageSplit, as_float
from limbeck.data.images.images import Images
from limbeck.data.sequences.sequence_dataset import SequenceDataset, SequenceSplit
from limbeck.data.sequences.spelled_digits import SpelledDigits
from limbeck.data.sequences.stroke_dataset import StrokeDataset, StrokeSplit
from limbeck.data.sequences.strokes import Strokes
from limbeck.data.tables.breast_cancer import BreastCancer
from limbeck.data.tables.digit_pixels import DigitPixels
from limbeck.data.tables.faithful import Faithful
from limbeck.data.tables.table import TableDataset, TableSplit
from limbeck.data.tables.tabular import Tabular
from limbeck.data.tables.uci_tables import BSDS300, Gas, Hepmass, MiniBooNE, Power

__all__ = [
    "BSDS300",
    "Augmentation",
    "BreastCancer",
    "CelebA",
    "DataSource",
    "Dataset",
    "DigitPixels",
    "Digits",
    "DomainDataset",
    "DomainSplit",
    "Domains",
    "Faithful",
    "Gas",
    "Hepmass",
    "ImageDataset",
    "ImageSplit",
    "Images",
    "MiniBooNE",
    "Power",
    "SequenceDataset",
    "SequenceSplit",
    "SpelledDigits",
    "Split",
    "StrokeDataset",
    "StrokeSplit",
    "Strokes",
    "TableDataset",
    "TableSplit",
    "Tabular",
    "as_float",
    "split_rows",
    "take_per_class",
]

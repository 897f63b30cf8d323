"""Data sources: each turns a set on disk, on the hub or inside a library into one :class:`Dataset`."""

from limbeck.data.augmentation import Augmentation
from limbeck.data.breast_cancer import BreastCancer
from limbeck.data.celeba import CelebA
from limbeck.data.class_rows import take_per_class
from limbeck.data.dataset import Dataset, DataSource, Split, split_rows
from limbeck.data.digit_pixels import DigitPixels
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
from limbeck.data.tabular import Tabular
from limbeck.data.uci_tables import BSDS300, Gas, Hepmass, MiniBooNE, Power

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

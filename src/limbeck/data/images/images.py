"""Pictures from the hub, from local Parquet files or from a folder of image files, through one code path."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.data.dataset import DataSource, split_rows
from limbeck.data.images.image_dataset import ImageDataset, ImageSplit, choose_classes
from limbeck.data.images.local_files import SPLIT_WORDS, local_files
from limbeck.data.images.shaping import Resize, shaped
from limbeck.errors import DataError

__all__ = ["Images"]

_TEST_SHARE = 0.1
_IMAGE_NAMES = ("image", "img", "images", "pixels")
_LABEL_NAMES = ("label", "labels", "class", "target", "fine_label")


class Images(DataSource):
    """Images of one size as uint8 tensors, from wherever they are.

    The place is the first of these that is given:

    1. ``path``: a directory with Parquet files whose names or folders tell the split (``train-*.parquet``,
       ``test/*.parquet``, ...), or with image files: ``train/<class>/*.png``, ``<class>/*.png``, or pictures without
       classes. Files of other names beside such Parquet files are left out; image files at several depths are refused.
    2. ``folder`` inside the directory that the environment variable ``LIMBECK_DATA`` names, if it is there.
    3. ``name``: a data set on the hub, e.g. ``"ylecun/mnist"``; it is downloaded into the hub's own cache.

    A set without a test split gets one: a tenth of its rows. A validation split that the set brings along is used.
    Every split is shuffled with the seed before it is limited, because many sets are sorted by class. A transparency
    channel is dropped. Without labels every row has label 0.

    Args:
        path: directory on this machine.
        name: name on the hub.
        config: subset of a hub set that has several, e.g. ``"cropped_digits"``.
        folder: directory inside ``$LIMBECK_DATA``.
        size: pixels a side of the tensors.
        channels: 1 for grey, 3 for colour; images are converted.
        resize: ``"pad"`` centres the image on black and shrinks it only if it is too large; ``"bilinear"`` stretches or
            shrinks it to the size, with antialiasing.
        center_crop: side in pixels of the centred square that is cut out before resizing, e.g. 140 for CelebA.
        classes: class indices to keep; labels become positions in this list. ``None`` keeps all.
        limit: at most this many rows in each split, for quick trials; ``None`` keeps all.
        validation: validation rows cut off train: a share (float) or a number of rows (int).
        image_column: column with the images; ``None`` finds it.
        label_column: column with the classes; ``None`` finds it.
        seed: fixes splits and order.
    """

    def __init__(
        self,
        path: str | None = None,
        name: str | None = None,
        config: str | None = None,
        folder: str | None = None,
        size: int = 32,
        channels: Literal[1, 3] = 3,
        resize: Resize = "pad",
        center_crop: int | None = None,
        classes: list[int] | None = None,
        limit: int | None = None,
        validation: int | float = 0.1,
        image_column: str | None = None,
        label_column: str | None = None,
        seed: int = 0,
    ) -> None:
        self.path = path
        self.name = name
        self.config = config
        self.folder = folder
        self.size = size
        self.channels = channels
        self.resize = resize
        self.center_crop = center_crop
        self.classes = classes
        self.limit = limit
        self.validation = validation
        self.image_column = image_column
        self.label_column = label_column
        self.seed = seed

    @override
    def load(self) -> ImageDataset:
        """Find, split, decode and resize the images.

        Raises:
            DataError: the place does not exist, a column is not there, an image cannot be read, or nothing is left.
        """
        try:
            import datasets
        except ImportError:
            raise DataError("reading image sets needs the datasets library: pip install 'limbeck[data]'.") from None
        if self.size < 1 or self.channels not in (1, 3) or (self.limit is not None and self.limit < 1):
            raise DataError(
                f"Images: size ({self.size}) and limit ({self.limit}) must be at least 1, "
                f"channels ({self.channels}) must be 1 or 3."
            )
        check_choice(DataError, "Images: resize", self.resize, Resize)
        local = self._directory()
        title = str(local) if local else str(self.name)
        # The library copies what it reads into Arrow files; for local data these are of no use afterwards.
        with tempfile.TemporaryDirectory(prefix="limbeck-", ignore_cleanup_errors=True) as scratch, _quiet(datasets):
            try:
                if local:
                    builder, settings = local_files(local)
                    found = datasets.load_dataset(builder, cache_dir=scratch, **settings)
                else:
                    found = datasets.load_dataset(self.name, self.config)
            except DataError:
                raise
            except Exception as error:  # the library and its network stack share no base class
                mend = "repair or remove the broken file" if local else "check name and network, or give a local path"
                raise DataError(f"{title} cannot be read ({type(error).__name__}: {error}); {mend}.") from error
            return self._assemble(datasets, found, title, self.folder or Path(title).name)

    def _directory(self) -> Path | None:
        """The local directory to read, or ``None`` for the hub."""
        if self.path is not None:
            path = Path(self.path).expanduser().absolute()
            if not path.is_dir():
                raise DataError(f"{path} is not a directory; give the one that holds the Parquet or image files.")
            return path
        root = os.environ.get("LIMBECK_DATA")
        if self.folder is not None and root and (Path(root) / self.folder).is_dir():
            return (Path(root) / self.folder).absolute()
        if self.name is None:
            raise DataError(
                f"no images to load: path and name are not given and folder {self.folder!r} is not in the directory "
                f"of the environment variable LIMBECK_DATA ({root or 'not set'})."
            )
        return None

    def _assemble(self, datasets: Any, found: Any, title: str, name: str) -> ImageDataset:
        tables = {ours: found[word] for ours, words in SPLIT_WORDS.items() for word in words[::-1] if word in found}
        if "train" not in tables:
            raise DataError(f"{title} has no train split, only {', '.join(found)}; name the training files train-*.")
        column = _image_column(datasets, tables["train"], self.image_column, title)
        all_names, all_labels = _labels(datasets, tables, self.label_column, title)
        names = all_names
        # For each of our splits: the table that holds its rows, their numbers there, and their labels.
        pool: dict[str, tuple[Any, Tensor, Tensor]] = {}
        for split, table in tables.items():
            names, labels, rows = choose_classes(all_names, all_labels[split], self.classes, title)
            if len(rows) == 0:
                raise DataError(f"{title} has no rows in its {split} split; add images or ask for other classes.")
            pool[split] = (table, rows, labels)
        for split, part in (("test", _TEST_SHARE), ("validation", self.validation)):
            if split not in pool:
                table, rows, labels = pool["train"]
                rest, cut = split_rows(labels, part, self.seed, split)
                pool["train"], pool[split] = (table, rows[rest], labels[rest]), (table, rows[cut], labels[cut])
        parts = {}
        for split, (table, rows, labels) in pool.items():
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed))[: self.limit]
            parts[split] = ImageSplit(self._decode(datasets, table, column, rows[order], title), labels[order])
        return ImageDataset(name, parts["train"], parts["validation"], parts["test"], classes=names)

    def _decode(self, datasets: Any, table: Any, column: str, rows: Tensor, title: str) -> Tensor:
        """The images of these rows, uint8, shape (rows, channels, size, size)."""
        from PIL import Image, UnidentifiedImageError

        try:
            encoded = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        except (TypeError, ValueError, NotImplementedError) as error:
            raise DataError(f"{title}: column {column!r} does not hold image files; set image_column.") from error
        output = torch.empty(len(rows), self.channels, self.size, self.size, dtype=torch.uint8)
        batches = encoded.select(rows.tolist()).iter(batch_size=1000)  # much faster than row by row
        for position, item in enumerate(item for batch in batches for item in batch[column]):
            try:
                content = item["bytes"] if item["bytes"] is not None else Path(item["path"]).read_bytes()
                with Image.open(io.BytesIO(content)) as image:
                    pixels = shaped(image, self.size, self.channels, self.resize, self.center_crop)
            except (OSError, TypeError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                where = (item or {}).get("path") or f"row {int(rows[position])}"
                known = isinstance(error, UnidentifiedImageError)  # its text names a buffer in memory
                reason = "damaged, or no image" if known else error
                raise DataError(f"{title}: image {where} cannot be read ({reason}); repair or remove it.") from error
            output[position] = pixels
        return output


def _image_column(datasets: Any, table: Any, wanted: str | None, title: str) -> str:
    columns: dict[str, Any] = table.features
    typed = [column for column, feature in columns.items() if isinstance(feature, datasets.Image)]
    named = [column for column in _IMAGE_NAMES if column in columns]
    found = [wanted] if wanted else typed or named
    if not found or found[0] not in columns:
        what = f"no column {wanted!r}" if wanted else "no column with images"
        raise DataError(f"{title} has {what}; set image_column to one of: {', '.join(columns)}.")
    return found[0]


def _labels(
    datasets: Any, tables: dict[str, Any], wanted: str | None, title: str
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Class names, and the class index of every row of every split."""
    columns: dict[str, Any] = tables["train"].features
    if wanted and wanted not in columns:
        raise DataError(f"{title} has no column {wanted!r}; set label_column to one of: {', '.join(columns)}.")
    typed = [column for column, feature in columns.items() if isinstance(feature, datasets.ClassLabel)]
    found = [wanted] if wanted else typed or [column for column in _LABEL_NAMES if column in columns]
    if not found:
        return ("all",), {split: torch.zeros(len(table), dtype=torch.int64) for split, table in tables.items()}
    feature, values = columns[found[0]], {split: table[found[0]][:] for split, table in tables.items()}
    if isinstance(feature, datasets.ClassLabel):
        names = tuple(feature.names)
        index = {value: value for value in range(-1, len(names))}  # -1 is how hub sets write "not known"
    else:
        kinds = {type(value) for column in values.values() for value in column}
        if not kinds <= {int} and not kinds <= {str} and not kinds <= {bool}:
            described = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise DataError(f"{title}: column {found[0]!r} holds {described} values, not classes; set label_column.")
        distinct = sorted({value for column in values.values() for value in column})
        names, index = tuple(str(value) for value in distinct), {value: i for i, value in enumerate(distinct)}
    try:
        return names, {split: torch.tensor([index[v] for v in column]) for split, column in values.items()}
    except KeyError as error:
        raise DataError(f"{title}: column {found[0]!r} has label {error}, beyond its {len(names)} classes.") from None


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """No progress bars and no chatter on the terminal; the library's settings are put back afterwards."""
    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()

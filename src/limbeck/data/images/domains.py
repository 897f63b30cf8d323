"""One set of images as several domains, told apart by a one-hot input: what continual learning learns in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from limbeck.data.dataset import DataSource, Split
from limbeck.data.images.image_dataset import ImageDataset, ImageSplit, choose_classes
from limbeck.errors import DataError

__all__ = ["DomainDataset", "DomainSplit", "Domains"]


@dataclass(frozen=True, eq=False)
class DomainSplit(ImageSplit):
    """The images, labels and domains of one split.

    Attributes:
        domains: float32, one-hot, shape (rows, domains): the condition of a model and the tasks of a recipe.

    >>> split = DomainSplit(torch.zeros(3, 1, 2, 2), torch.tensor([5, 6, 7]), torch.eye(2)[[0, 1, 0]])
    >>> split.of_domain(0).labels
    tensor([5, 7])
    """

    domains: Tensor

    def of_domain(self, domain: int) -> Self:
        """The rows of one domain, as a copy."""
        return self.take((self.domains[:, domain] == 1).nonzero().flatten())


@dataclass(frozen=True, eq=False)
class DomainDataset(ImageDataset):
    """Labelled images of several domains.

    Attributes:
        domain_names: a short name for each domain, e.g. ``"sunglasses"``.
    """

    train: DomainSplit
    validation: DomainSplit
    test: DomainSplit
    domain_names: tuple[str, ...]

    @override
    def check(self, split: Split, where: str) -> None:
        """See :class:`Dataset`: what images must be, and that each row has one domain and each domain has rows."""
        assert isinstance(split, DomainSplit)
        super().check(split, where)
        domains = split.domains
        if domains.shape != (len(split.labels), len(self.domain_names)) or domains.dtype != torch.float32:
            raise DataError(
                f"{where}: domains are {domains.dtype} of shape {tuple(domains.shape)}; expected float32, one-hot, of "
                f"shape ({len(split.labels)}, {len(self.domain_names)})."
            )
        wrong = int((((domains != 0) & (domains != 1)).any(1) | (domains.sum(1) != 1)).sum())
        if wrong:
            raise DataError(f"{where}: the domains of {wrong} rows are not one-hot; give each row exactly one domain.")
        for name, rows in zip(self.domain_names, domains.sum(0).tolist(), strict=True):
            if not rows:
                raise DataError(f"{where}: no row is of the domain {name!r}; use more rows or other groups.")


class Domains(DataSource):
    """Any source of labelled images, its classes put into groups; each group is a domain.

    Rows whose class is in no group are dropped, and labels number the classes that are left in the order of the groups.

    Args:
        source: where the images come from.
        groups: class indices of each domain, e.g. ``[[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]``, in the order of learning.
        names: a short name for each domain; by default the names of its classes.

    >>> from limbeck.data import Digits
    >>> dataset = Domains(Digits(), [[3, 8], [1, 7]]).load()
    >>> dataset.domain_names, dataset.classes
    (('3 8', '1 7'), ('3', '8', '1', '7'))
    >>> dataset.test.of_domain(1).labels.unique()
    tensor([2, 3])
    """

    def __init__(self, source: DataSource, groups: list[list[int]], names: list[str] | None = None) -> None:
        self.source = source
        self.groups = groups
        self.names = names

    @override
    def load(self) -> DomainDataset:
        """Load the images and group them.

        Raises:
            DataError: the source is not one of labelled images, a class is in two groups or does not exist, a group is
                empty, or there is no name for each.
        """
        if len(self.groups) < 2 or not all(self.groups):
            raise DataError(f"Domains: groups are {self.groups}; give at least two, each with at least one class.")
        if self.names is not None and len(self.names) != len(self.groups):
            raise DataError(f"Domains: {len(self.names)} names for {len(self.groups)} groups; give one for each.")
        found = self.source.load()
        if not isinstance(found, ImageDataset):
            raise DataError(f"Domains: {found.name!r} is a {type(found).__name__}, but domains are groups of images.")
        flat = [label for group in self.groups for label in group]
        kept_names, _, _ = choose_classes(found.classes, found.train.labels, flat, found.name)
        sizes = torch.tensor([len(group) for group in self.groups])
        domain_of = torch.arange(len(self.groups)).repeat_interleave(sizes)
        parts = [self._grouped(split, found, flat, domain_of) for split in (found.train, found.validation, found.test)]
        names = self.names or [" ".join(found.classes[label] for label in group) for group in self.groups]
        return DomainDataset(found.name, parts[0], parts[1], parts[2], classes=kept_names, domain_names=tuple(names))

    def _grouped(self, split: ImageSplit, dataset: ImageDataset, classes: list[int], domain_of: Tensor) -> DomainSplit:
        _, labels, rows = choose_classes(dataset.classes, split.labels, classes, dataset.name)
        images = split.images[rows]
        return DomainSplit(images, labels, F.one_hot(domain_of[labels], len(self.groups)).float())

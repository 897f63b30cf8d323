"""Groups of classes as domains."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from limbeck.data import Dataset, DataSource, Digits, DomainDataset, Domains, DomainSplit, SpelledDigits
from limbeck.errors import DataError

GROUPS = [[0, 7, 2], [9, 4]]


def test_digits_in_two_domains() -> None:
    found, plain = Domains(Digits(), GROUPS).load(), Digits().load()
    assert isinstance(found, DomainDataset)
    assert found.name == "digits"
    assert found.classes == ("0", "7", "2", "9", "4")
    assert found.domain_names == ("0 7 2", "9 4")
    order = torch.tensor([0, 7, 2, 9, 4])
    for title, split in found.splits.items():
        whole = plain.splits[title]
        kept = torch.isin(whole.labels, order)
        assert torch.equal(split.images, whole.images[kept])  # in the order of the source
        assert torch.equal(order[split.labels], whole.labels[kept])
        assert split.domains.dtype == torch.float32
        assert torch.equal(split.domains.argmax(1), (split.labels >= 3).long())
        assert torch.equal(split.domains.sum(1), torch.ones(len(split)))
        assert set(split.parts) == {"images", "labels", "domains"}


def test_rows_of_a_domain() -> None:
    test = Domains(Digits(), GROUPS).load().test
    first, second = test.of_domain(0), test.of_domain(1)
    assert isinstance(first, DomainSplit)
    assert len(first) + len(second) == len(test)
    assert set(first.labels.tolist()) == {0, 1, 2}
    assert set(second.labels.tolist()) == {3, 4}
    assert torch.equal(second.images, test.images[test.labels >= 3])
    assert (second.domains == torch.tensor([0.0, 1.0])).all()


def test_three_domains_with_names_and_the_same_rows_every_time() -> None:
    source = Domains(Digits(), [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]], ["low", "middle", "high"])
    found = source.load()
    assert found.domain_names == ("low", "middle", "high")
    assert found.train.domains.shape == (len(Digits().load().train), 3)
    assert found.fingerprint == source.load().fingerprint
    assert found.fingerprint != Domains(Digits(), [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9]]).load().fingerprint


class Table(DataSource):
    def load(self) -> Dataset:
        return SpelledDigits().load()


@pytest.mark.parametrize(
    ("groups", "names", "message"),
    [
        ([[0, 1]], None, "at least two"),
        ([[0, 1], []], None, "at least one class"),
        ([[0, 1], [1, 2]], None, "different indices"),
        ([[0, 1], [10]], None, r"different indices out of: 0 0, 1 1"),
        ([[0], [1]], ["zero"], "1 names for 2 groups"),
    ],
)
def test_groups_that_make_no_sense(groups: list[list[int]], names: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Domains(Digits(), groups, names).load()


def test_only_images_have_domains() -> None:
    with pytest.raises(DataError, match="groups of images"):
        Domains(Table(), GROUPS).load()


def test_a_domain_without_rows_is_told() -> None:
    with pytest.raises(DataError, match=r"train split: no row is of the domain '\d'"):
        Domains(Digits(limit=3), [[d] for d in range(10)]).load()


@pytest.mark.parametrize("wrong", [0.5 * torch.eye(2), torch.ones(2, 2), torch.zeros(2, 2)])
def test_domains_are_one_hot(wrong: torch.Tensor) -> None:
    found = Domains(Digits(), GROUPS).load()
    domains = found.train.domains.clone()
    domains[:2] = wrong
    with pytest.raises(DataError, match=r"train split: the domains of 2 rows are not one-hot"):
        dataclasses.replace(found, train=dataclasses.replace(found.train, domains=domains))
    with pytest.raises(DataError, match=r"float32, one-hot"):
        dataclasses.replace(found, train=dataclasses.replace(found.train, domains=domains[:, :1]))

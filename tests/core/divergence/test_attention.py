"""Attention, selectivity and the flow of solution procedure against their papers' formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.core.delta import Delta
from limbeck.divergence import (
    attention,
    selectivity,
    solution_flow,
)
from tests.core.divergence.observed_features import CLOSE, pair
from tests.features import layers, normal


@pytest.mark.parametrize("normalize", [True, False])
def test_attention_is_its_formula(normalize: bool) -> None:
    theirs, own = pair((5, 4, 3), (2, 4, 3))
    for row in range(3):
        maps = [torch.stack([a.norm() ** 2 for a in value[row].flatten(1).T]) for value in (theirs, own)]
        first, second = (found / (found**2).sum().sqrt() for found in maps)
        expected = ((first - second) ** 2).sum() / (12 if normalize else 1)
        found = attention(Delta(theirs), Delta(own), normalize=normalize)[row]
        torch.testing.assert_close(found, expected, **CLOSE)


def test_attention_of_unequal_maps_averages_the_larger() -> None:
    theirs, own = pair((5, 4, 4), (2, 2, 2))
    energy = theirs.square().sum(1)
    blocks = torch.stack([energy[:, i : i + 2, j : j + 2].mean((1, 2)) for i in (0, 2) for j in (0, 2)], 1)
    other = own.square().sum(1).flatten(1)
    unit = [value / value.norm(dim=1, keepdim=True) for value in (blocks, other)]
    torch.testing.assert_close(attention(Delta(theirs), Delta(own)), (unit[0] - unit[1]).square().mean(1), **CLOSE)


@pytest.mark.parametrize("shapes", [((5, 4, 3), (2, 4, 3)), ((7, 2, 2), (6, 2, 2)), ((4, 30), (9, 30))])
def test_selectivity_is_its_formula(shapes: tuple[tuple[int, ...], ...]) -> None:
    theirs, own = pair(*shapes)

    def kernels(a: Tensor, b: Tensor) -> Tensor:
        patterns = [[channel.flatten() / channel.norm() for channel in value] for value in (a, b)]
        pairs = [(x @ y) ** 2 for x in patterns[0] for y in patterns[1]]
        return torch.stack(pairs).sum() / len(pairs)

    expected = [kernels(a, a) + kernels(b, b) - 2 * kernels(a, b) for a, b in zip(theirs, own, strict=True)]
    torch.testing.assert_close(selectivity(Delta(theirs), Delta(own)), torch.stack(expected), **CLOSE)


@pytest.mark.parametrize("normalize", [True, False])
def test_solution_flow_is_its_formula(normalize: bool) -> None:
    shapes = ((2, 4, 4), (3, 2, 2))
    theirs, own = normal(shapes, 1, 3), normal(shapes, 2, 3)

    def gram(first: Tensor, second: Tensor) -> Tensor:
        pooled = F.max_pool2d(first, 2)
        return torch.einsum("mhw,nhw->mn", pooled, second) / 4

    expected = torch.stack([
        (gram(theirs[0][row], theirs[1][row]) - gram(own[0][row], own[1][row])).square().sum() for row in range(3)
    ])  # fmt: skip
    found = solution_flow(layers(theirs), layers(own), normalize=normalize)
    torch.testing.assert_close(found, expected / (6 if normalize else 1), **CLOSE)


def test_the_flow_of_solution_of_sequences_is_that_of_maps_of_one_row() -> None:
    sequences = [normal(((2, 8), (3, 4)), seed, 3) for seed in (1, 2)]
    maps = [[value.unsqueeze(2) for value in side] for side in sequences]
    found, wanted = (solution_flow(*map(layers, sides)) for sides in (sequences, maps))
    torch.testing.assert_close(found, wanted, **CLOSE)

"""Nearest neighbours against scikit-learn, and what a copying model looks like."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from limbeck.errors import DataError
from limbeck.metrics import closeness, nearest


def gaussian(rows, seed, spread=1.0):
    return spread * torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))


def test_against_scikit_learn():
    features, among = gaussian(1300, 0), gaussian(300, 1)
    distances, rows = nearest(features, among, 4)
    wanted, places = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(among.numpy()).kneighbors(features.numpy())
    np.testing.assert_allclose(distances.numpy(), wanted, rtol=1e-4, atol=1e-4)
    assert (rows.numpy() == places).mean() > 0.99


def test_a_copy_has_distance_zero():
    among = 1e3 + gaussian(50, 2)
    distances, rows = nearest(among[[7, 3]], among)
    assert distances.flatten().tolist() == [0.0, 0.0]
    assert rows.flatten().tolist() == [7, 3]


def test_copies_are_told_from_new_rows():
    train, test = gaussian(2000, 3), gaussian(1000, 4)
    held_out = nearest(test, train)[0][:, 0]

    def of(generated):
        return closeness(nearest(generated, train)[0][:, 0], held_out)

    honest, copies = of(gaussian(1000, 5)), of(train[:1000] + gaussian(1000, 6, 0.01))
    assert honest.ratio == pytest.approx(1.0, abs=0.05)
    assert honest.closer == pytest.approx(0.01, abs=0.01)
    assert copies.ratio < 0.1
    assert copies.closer == 1.0
    half = of(torch.cat([train[:500], gaussian(500, 7)]))
    assert half.closer == pytest.approx(0.5, abs=0.02)
    assert of(gaussian(1000, 8, 3.0)).ratio > 1.5


def test_without_any_distance_there_is_no_ratio():
    assert math.isnan(closeness(torch.ones(3), torch.zeros(3)).ratio)


def test_refused():
    with pytest.raises(DataError, match="do not fit"):
        nearest(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match="3 neighbours"):
        nearest(torch.zeros(2, 3), torch.zeros(2, 3), 3)
    broken = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
    for pair in ((broken, torch.zeros(3, 2)), (torch.zeros(3, 2), broken)):
        with pytest.raises(DataError, match="1 of 2 rows of features are NaN or infinite"):
            nearest(*pair)
    with pytest.raises(DataError, match="2 of 2 distances of generated images are NaN"):
        closeness(torch.full((2,), math.nan), torch.ones(3))
    with pytest.raises(DataError, match="1 of 3 distances of held-out images are NaN"):
        closeness(torch.ones(2), torch.tensor([0.0, math.inf, 1.0]))
    with pytest.raises(DataError, match="needed"):
        closeness(torch.zeros(0), torch.zeros(3))

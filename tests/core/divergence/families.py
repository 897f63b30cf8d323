"""Pairs of laws of every family, of four rows of three numbers, for tests of divergences."""

from functools import partial

import torch
from torch import distributions as D

SHAPE = (4, 3)


def tensors(seed, count, shape=SHAPE):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=g) for _ in range(count)]


def normal(seed):
    loc, scale = tensors(seed, 2)
    return D.Normal(loc, scale.exp())


def mvn(seed):
    loc, (factor,) = tensors(seed, 1)[0], tensors(seed, 1, (4, 3, 3))
    return D.MultivariateNormal(loc, factor @ factor.mT + 0.1 * torch.eye(3).double())


def low_rank(seed):
    (loc, diagonal), (factor,) = tensors(seed, 2), tensors(seed, 1, (4, 3, 1))
    return D.LowRankMultivariateNormal(loc, factor, diagonal.exp())


def loc_scale(family, seed):
    loc, scale = tensors(seed, 2)
    # Scales of one size: the log-ratio of two Gumbels of very different scale has no variance to estimate an error by.
    return family(loc, (0.2 * scale).exp())


FAMILIES = {
    "Normal": normal,
    "LogNormal": partial(loc_scale, D.LogNormal),
    "Laplace": partial(loc_scale, D.Laplace),
    "Gumbel": partial(loc_scale, D.Gumbel),
    "Exponential": lambda s: D.Exponential(tensors(s, 1)[0].exp()),
    "HalfNormal": lambda s: D.HalfNormal(tensors(s, 1)[0].exp()),
    "Gamma": lambda s: D.Gamma(*(t.exp() for t in tensors(s, 2))),
    "Bernoulli": lambda s: D.Bernoulli(logits=tensors(s, 1)[0]),
    "Binomial": lambda s: D.Binomial(6, logits=tensors(s, 1)[0]),
    "Poisson": lambda s: D.Poisson(tensors(s, 1)[0].exp()),
    "Geometric": lambda s: D.Geometric(logits=tensors(s, 1)[0]),
    "Categorical": lambda s: D.Categorical(logits=tensors(s, 1, (4, 3, 5))[0]),
    "OneHotCategorical": lambda s: D.OneHotCategorical(logits=tensors(s, 1)[0]),
    "MultivariateNormal": mvn,
    "LowRankMultivariateNormal": low_rank,
}


def by_rows(elements):
    return elements.reshape(elements.shape[0], -1).sum(1)

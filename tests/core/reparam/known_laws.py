"""Laws of single numbers with what scipy knows of them, for tests of how they are drawn."""

import math

import scipy.stats
import torch
from torch import distributions as D


def logistic(loc, scale):
    base = D.Uniform(torch.zeros_like(loc), torch.ones_like(loc))
    return D.TransformedDistribution(base, [D.SigmoidTransform().inv, D.AffineTransform(loc, scale)])


def decreasing(loc, scale):
    return D.TransformedDistribution(D.Normal(loc, scale), [D.AffineTransform(0.5, -2.0), D.ExpTransform()])


# name -> (constructor, parameters of one element, frozen scipy law)
CONTINUOUS = {
    "Normal": (D.Normal, (0.3, 1.7), scipy.stats.norm(0.3, 1.7)),
    "LogNormal": (D.LogNormal, (0.3, 0.7), scipy.stats.lognorm(0.7, scale=math.exp(0.3))),
    "Laplace": (D.Laplace, (0.3, 1.7), scipy.stats.laplace(0.3, 1.7)),
    "Logistic": (logistic, (0.3, 1.7), scipy.stats.logistic(0.3, 1.7)),
    "Uniform": (D.Uniform, (-0.5, 2.0), scipy.stats.uniform(-0.5, 2.5)),
    "Gumbel": (D.Gumbel, (0.3, 1.7), scipy.stats.gumbel_r(0.3, 1.7)),
    "Exponential": (D.Exponential, (2.5,), scipy.stats.expon(scale=0.4)),
    "StudentT": (D.StudentT, (3.5, 0.3, 1.7), scipy.stats.t(3.5, 0.3, 1.7)),
    "Cauchy": (D.Cauchy, (0.3, 1.7), scipy.stats.cauchy(0.3, 1.7)),
    "HalfNormal": (D.HalfNormal, (1.7,), scipy.stats.halfnorm(scale=1.7)),
    "HalfCauchy": (D.HalfCauchy, (1.7,), scipy.stats.halfcauchy(scale=1.7)),
    "Weibull": (D.Weibull, (1.7, 2.2), scipy.stats.weibull_min(2.2, scale=1.7)),
    "Pareto": (D.Pareto, (1.7, 2.2), scipy.stats.pareto(2.2, scale=1.7)),
    "Kumaraswamy": (D.Kumaraswamy, (1.7, 1.0), scipy.stats.beta(1.7, 1.0)),
    "ContinuousBernoulli": (D.ContinuousBernoulli, (0.2,), scipy.stats.truncexpon(math.log(4), scale=1 / math.log(4))),
    "LogitRelaxedBernoulli": (
        lambda logits: D.relaxed_bernoulli.LogitRelaxedBernoulli(torch.tensor(0.5).to(logits), logits=logits),
        (0.6,),
        scipy.stats.logistic(1.2, 2.0),
    ),
    "decreasing transform": (decreasing, (0.3, 0.4), scipy.stats.lognorm(0.8, scale=math.exp(-0.1))),
}
DISCRETE = {
    "Bernoulli": (D.Bernoulli, (0.3,), scipy.stats.bernoulli(0.3)),
    "Binomial": (lambda p: D.Binomial(7, p), (0.3,), scipy.stats.binom(7, 0.3)),
    "Poisson": (D.Poisson, (3.3,), scipy.stats.poisson(3.3)),
    "Poisson, rare": (D.Poisson, (0.05,), scipy.stats.poisson(0.05)),
    "Geometric": (D.Geometric, (0.3,), scipy.stats.geom(0.3, loc=-1)),
}
SCALAR = {**CONTINUOUS, **DISCRETE}


def build(name, shape, dtype=torch.float64, requires_grad=False):
    constructor, parameters, reference = SCALAR[name]
    tensors = [torch.full(shape, value, dtype=dtype, requires_grad=requires_grad) for value in parameters]
    return constructor(*tensors), tensors, reference


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(shape):
    weights = torch.tensor([0.2, 0.5, 0.3]).double().expand(*shape, 3)
    loc = torch.tensor([-2.0, 0.0, 4.0]).double().expand(*shape, 3)
    return D.MixtureSameFamily(D.Categorical(weights), D.Normal(loc, torch.tensor([0.5, 1.0, 2.0]).double()))

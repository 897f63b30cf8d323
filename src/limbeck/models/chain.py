"""Chains z[1] -> ... -> z[L] -> y, on which the errors of single layers can be seen to add up ([U] Fig. 2 and 11)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Binomial, Distribution, Normal, Uniform
from torch.nn import functional as F
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from limbeck.errors import ModelError
from limbeck.models.sizes import check_positive

__all__ = ["BinomialChain", "Chain", "GaussianChain", "ResidualBinomialChain", "ResidualGaussianChain"]

# The nearest a probability comes to 0 and 1: closer, and the complement of a float32 is 0 and its logarithm infinite.
_MARGIN = torch.finfo(torch.float32).eps
_LARGEST_LOGIT = math.log1p(-_MARGIN) - math.log(_MARGIN)

Conditional = Callable[[Tensor], Distribution]
"""From the values of one variable, shape (batch, 1), to the law of the next, batch shape (batch, 1)."""

Activation = Literal["relu", "tanh"]

_Function = Callable[[Tensor], Tensor]
_ACTIVATIONS: dict[str, _Function] = {"relu": torch.relu, "tanh": torch.tanh}


class Chain(DGM):
    r"""A Markov chain of scalars with a uniform root: latents z[1] to z[L], and the target ``y`` after them.

    .. math:: p(y, z) = p(z_1) \prod_{i<L} p(z_{i+1} | z_i) \, p(y | z_L)

    Args:
        layers: number of latents L, which is also the number of conditionals.
        low: lower end of the root's law.
        high: upper end of the root's law.

    Raises:
        ModelError: there is no layer.
    """

    count: int | None = None
    """Largest value of the variables after the root where they are counts; ``None`` where they are real numbers."""

    def __init__(self, layers: int, low: float, high: float) -> None:
        super().__init__()
        if layers < 1:
            raise ModelError(f"{type(self).__name__}: layers must be at least 1, not {layers}")
        self.layers = layers
        # Buffers, so that a chain without parameters has a device and a precision, too.
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.tensor([low]))
        self.register_buffer("high", torch.tensor([high]))

    @abstractmethod
    def conditionals(self) -> Sequence[Conditional]:
        """The law of each variable given the one before it: z[2], ..., z[L], y; ``layers`` functions.

        They are asked for once a run, so that work on the parameters of all layers can be done at once.
        """

    def root(self, rows: int) -> Uniform:
        """The law of z[1]; batch shape (rows, 1)."""
        return Uniform(self.low.expand(rows, 1), self.high.expand(rows, 1), validate_args=False)

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Draw z[1], ..., z[L] and ``y``, each of shape (batch, 1)."""
        z = sites.latent("z[1]", self.root(sites.batch_size))
        *inner, last = self.conditionals()
        for layer, conditional in enumerate(inner, start=2):
            z = sites.latent(f"z[{layer}]", conditional(z))
        sites.target("y", last(z))


class GaussianChain(Chain):
    r"""The teacher of [U] Fig. 2: z[1] ~ U[-1, 1], each next one ~ N(sign(z) |z|^exponent, scale^2). No parameters.

    Args:
        layers: number of latents.
        exponent: 1.1 in the paper: slightly more than the identity, so that a residual network is nearly right.
        scale: standard deviation of every conditional; a variance of 0.01 in the paper.

    Example:
        >>> GaussianChain(layers=2).trace(batch_size=3)
        Trace(z[1]: latent, z[2]: latent, y: target)
    """

    def __init__(self, layers: int, exponent: float = 1.1, scale: float = 0.1) -> None:
        super().__init__(layers, -1.0, 1.0)
        check_positive(self, scale=scale)
        self.exponent = exponent
        self.scale = scale

    @override
    def conditionals(self) -> Sequence[Conditional]:
        return [self._conditional] * self.layers

    def _conditional(self, z: Tensor) -> Normal:
        return Normal(z.sign() * z.abs() ** self.exponent, self.scale, validate_args=False)


class BinomialChain(Chain):
    r"""The teacher of [U] Fig. 11 (App. I): z[1] ~ U[0, 1], each next variable binomial with probability p^exponent.

    Here p is z[1] itself or, after it, the share z / count of successes of the layer before. Counts of 0 and ``count``
    are absorbing, up to a probability of 1e-7 a trial that keeps logarithms finite.

    Args:
        layers: number of latents.
        exponent: 1.2 in the paper.
        count: number of trials of every binomial.

    Example:
        >>> y = BinomialChain(layers=2).sample(batch_size=4)["y"]
        >>> bool(((y >= 0) & (y <= 1000) & (y == y.round())).all())
        True
    """

    def __init__(self, layers: int, exponent: float = 1.2, count: int = 1000) -> None:
        super().__init__(layers, 0.0, 1.0)
        check_positive(self, count=count)
        self.exponent = exponent
        self.count: int = count

    @override
    def conditionals(self) -> Sequence[Conditional]:
        return [partial(self._conditional, 1)] + [partial(self._conditional, self.count)] * (self.layers - 1)

    def _conditional(self, trials: int, z: Tensor) -> Binomial:
        probs = ((z / trials) ** self.exponent).clamp(_MARGIN, 1.0 - _MARGIN)
        return Binomial(self.count, logits=torch.logit(probs), validate_args=False)


class ResidualGaussianChain(Chain):
    r"""A student of :class:`GaussianChain`: N(z + v_i a(w_i z + b_i) + c_i, s_i^2), a small network for each layer.

    The scale is one learned number a layer. Fixed at the teacher's it would give away half of each conditional, and
    learned it tells how sure a layer is: the surrogate method widens the target's where its mean misses the teacher's.

    Args:
        layers: number of latents, as the teacher's.
        width: hidden units of each layer's network; 2 in the paper.
        activation: what these units compute.
    """

    def __init__(self, layers: int, width: int = 2, activation: Activation = "relu") -> None:
        super().__init__(layers, -1.0, 1.0)
        check_positive(self, width=width)
        self.residual = Residual(layers, width, activation)
        self.raw_scale = nn.Parameter(torch.zeros(layers))

    @override
    def conditionals(self) -> Sequence[Conditional]:
        scales = (F.softplus(self.raw_scale) * (1.0 / math.log(2.0)) + 1e-6).unbind()
        return [partial(_gaussian, *parts) for parts in zip(self.residual.functions(), scales, strict=True)]


class ResidualBinomialChain(Chain):
    r"""A student of :class:`BinomialChain`: Bin(count, p) with logit p = l + v_i a(w_i l + b_i) + c_i.

    Here l is logit(z / count), for the first layer logit(z). The residual path runs through logits, so that nothing
    needs clamping on the way, and a power of a small probability, which is what the teacher takes, is a straight line.

    Args:
        layers: number of latents, as the teacher's.
        width: hidden units of each layer's network; 2 in the paper.
        activation: what these units compute.
        count: number of trials of every binomial, as the teacher's.
    """

    # A count of 0 is read as a thousandth of a trial in a thousand trials: nearly absorbing without any learning.
    margin = 1e-6

    def __init__(self, layers: int, width: int = 2, activation: Activation = "relu", count: int = 1000) -> None:
        super().__init__(layers, 0.0, 1.0)
        check_positive(self, count=count, width=width)
        self.count: int = count
        self.residual = Residual(layers, width, activation)

    @override
    def conditionals(self) -> Sequence[Conditional]:
        first, *rest = self.residual.functions()
        return [partial(self._conditional, first, 1), *(partial(self._conditional, move, self.count) for move in rest)]

    def _conditional(self, move: _Function, trials: int, z: Tensor) -> Binomial:
        logits = torch.logit(z / trials, eps=self.margin)
        logits = (logits + move(logits)).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
        return Binomial(self.count, logits=logits, validate_args=False)


class Residual(nn.Module):
    """A perceptron with one hidden layer for each conditional, all in four tensors: little work a layer and step.

    Args:
        layers: number of networks.
        width: hidden units of each.
        activation: what these units compute.
    """

    def __init__(self, layers: int, width: int, activation: Activation) -> None:
        super().__init__()
        check_choice(ModelError, "activation", activation, Activation)
        self.activation = _ACTIVATIONS[activation]
        self.inner_weight = nn.Parameter(torch.empty(layers, width).uniform_(-1.0, 1.0))
        self.inner_bias = nn.Parameter(torch.empty(layers, width).uniform_(-1.0, 1.0))
        # A chain of residual networks starts near the identity only if their sum does not grow with its length.
        bound = 1.0 / (layers * math.sqrt(width))
        self.outer_weight = nn.Parameter(torch.empty(layers, width, 1).uniform_(-bound, bound))
        self.outer_bias = nn.Parameter(torch.empty(layers, 1).uniform_(-bound, bound))

    def functions(self) -> list[_Function]:
        """The networks, each from (batch, 1) to (batch, 1)."""
        parts = (self.inner_bias, self.inner_weight, self.outer_bias, self.outer_weight)
        own = zip(*(part.unbind() for part in parts), strict=True)
        return [partial(_perceptron, self.activation, *numbers) for numbers in own]


def _perceptron(unit: _Function, b: Tensor, w: Tensor, c: Tensor, v: Tensor, z: Tensor) -> Tensor:
    return torch.addmm(c, unit(torch.addcmul(b, z, w)), v)


def _gaussian(move: _Function, scale: Tensor, z: Tensor) -> Normal:
    return Normal(z + move(z), scale, validate_args=False)

"""Exact likelihood of a belief network with few binary latents, by elimination of one latent after another."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.func import functional_call
from torch.nn import functional as F

from limbeck.errors import ModelError

if TYPE_CHECKING:
    from limbeck.models.helmholtz.helmholtz import HelmholtzMachine

__all__ = ["log_likelihood"]

_LARGEST_TABLE = 1 << 14  # joint states of latents that one table may range over, a row of data
_ENTRIES = 1 << 22  # numbers in the largest table of one slice of rows: 32 MiB of float64

Factor = tuple[list[str], Tensor]
"""Latents and a table of logarithms, shape (rows or 1, states of the first latent, states of the second, ...)."""


def log_likelihood(model: HelmholtzMachine, y: Tensor) -> Tensor:
    """Log-density of the targets with all latents summed over, in float64 and in the log domain.

    Every conditional becomes a table over the states of its own latents alone; latents are then summed out in the order
    opposite to the graph's. The cost is that of the largest table in between: a chain of any length is cheap, however
    many joint states it has.

    Args:
        model: the machine.
        y: targets, shape (batch, targets).

    Returns:
        Nats, shape (batch,), float64.

    Raises:
        ModelError: a table would range over too many states.
    """
    latents = [name for name in model.graph if name not in model.target_names]
    largest = max(len(scope) for scope in _scopes(model, latents))
    if model.latent_size * largest > math.log2(_LARGEST_TABLE):
        raise ModelError(
            f"the exact likelihood would need tables over {largest} latents of {model.latent_size} bits each, 2 to the "
            f"{model.latent_size * largest} states a row; use a bound (limbeck.core.bounds.importance_weighted_bound), "
            "fewer bits or fewer parents"
        )
    rows = max(1, _ENTRIES >> (model.latent_size * largest))
    return torch.cat([_rows(model, part, latents) for part in torch.split(y.double(), rows)])


def _scopes(model: HelmholtzMachine, latents: list[str]) -> list[set[str]]:
    """The latents of every table that elimination makes, without making it."""
    scopes = [({name, *parents}) & set(latents) for name, parents in model.graph.items()]
    made = list(scopes)
    for latent in reversed(latents):
        merged = set().union(*(scope for scope in scopes if latent in scope))
        made.append(merged)
        scopes = [scope for scope in scopes if latent not in scope] + [merged - {latent}]
    return made


def _rows(model: HelmholtzMachine, y: Tensor, latents: list[str]) -> Tensor:
    bits = itertools.product((0.0, 1.0), repeat=model.latent_size)
    states = torch.tensor(list(bits), dtype=y.dtype, device=y.device)
    factors = [_factor(model, name, y, states, set(latents)) for name in model.graph]
    for latent in reversed(latents):
        scope, table = _product([factor for factor in factors if latent in factor[0]])
        place = scope.index(latent)
        reduced = [*scope[:place], *scope[place + 1 :]], torch.logsumexp(table, dim=place + 1)
        factors = [factor for factor in factors if latent not in factor[0]] + [reduced]
    return _product(factors)[1].expand(len(y))


def _factor(model: HelmholtzMachine, name: str, y: Tensor, states: Tensor, latents: set[str]) -> Factor:
    """The table of one conditional; the variable itself is the last dimension if it is a latent."""
    scope = [parent for parent in model.graph[name] if parent in latents]
    columns = model.columns(y)
    shape = [1 if scope == model.graph[name] else len(y), *(len(states) for _ in scope)]
    inputs = [torch.empty(*shape, 0, dtype=y.dtype, device=y.device)]
    for parent in model.graph[name]:
        if parent in latents:
            place = scope.index(parent)
            spread = states.reshape(*(1 for _ in range(place + 1)), len(states), *(1 for _ in scope[place + 1 :]), -1)
        else:
            spread = columns[parent].reshape(len(y), *(1 for _ in scope), 1)
        inputs.append(spread.expand(*shape, -1))
    output = _in_double(model.generator[name], torch.cat(inputs, dim=-1))
    if name in latents:
        logits = output.unsqueeze(-2)
        return [*scope, name], (states * logits - F.softplus(logits)).sum(-1)
    value = columns[name].reshape(len(y), *(1 for _ in scope))
    log_prob: Tensor = Normal(output.squeeze(-1), model.target_scale).log_prob(value)  # type: ignore[no-untyped-call]
    return scope, log_prob


def _in_double(network: nn.Module, inputs: Tensor) -> Tensor:
    weights = {name: weight.double() for name, weight in network.named_parameters()}
    output: Tensor = functional_call(network, weights, (inputs,))
    return output


def _product(factors: list[Factor]) -> Factor:
    """The sum of the logarithms, over the union of the latents."""
    scope = list(dict.fromkeys(itertools.chain.from_iterable(names for names, _ in factors)))
    total: Tensor | None = None
    for names, table in factors:
        ordered = table.permute(0, *(1 + i for i in sorted(range(len(names)), key=lambda i: scope.index(names[i]))))
        sizes = iter(ordered.shape[1:])
        aligned = ordered.reshape(len(table), *(next(sizes) if name in names else 1 for name in scope))
        total = aligned if total is None else total + aligned
    assert total is not None
    return scope, total

"""The Helmholtz machine: two belief networks with binary latents, one that generates and one that recognises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Normal
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.core.trace import Kind
from limbeck.errors import ModelError
from limbeck.models.helmholtz.exact import log_likelihood
from limbeck.models.helmholtz.graph import Parents, checked, inverse
from limbeck.models.inputs import check_numbers
from limbeck.models.sizes import check_positive

__all__ = ["HelmholtzMachine"]

Activation = Literal["relu", "leaky-relu", "tanh"]
Rule = Literal["wake-sleep", "reweighted-wake-sleep"]

_CHAIN: Parents = {"z4": [], "z3": ["z4"], "y2": ["z3"], "z2": ["y2"], "z1": ["z2"], "y1": ["z1"]}
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "leaky-relu": nn.LeakyReLU, "tanh": nn.Tanh}


class HelmholtzMachine(DGM):
    r"""Sigmoid belief networks whose conditionals are perceptrons of one hidden layer ([U] App. F.4).

    .. math:: p(y, z) = p(z_4) \, p(z_3 | z_4) \, p(y_2 | z_3) \, p(z_2 | y_2) \, p(z_1 | z_2) \, p(y_1 | z_1)

    is the default graph, that of the paper; any other acyclic one can be given. Latents are vectors of bits, targets
    real numbers with a Gaussian of fixed scale. A variable without parents has a bias vector instead of a network. The
    recogniser q(z | y) follows the graph backwards, each latent given the smallest set of targets and of latents
    recognised before it that makes it independent of the others: the dependency structure of the true posterior.
    With 8 and 2 hidden units the default has 354 and 102 parameters, 186 and 54 of them generative, as in the paper.

    Args:
        graph: name of every variable to the names of its parents, parents first; by default the chain above.
        targets: which of them are the targets, in the order of the columns of the data. The others are latents.
        latent_size: bits of each latent.
        hidden: units of each hidden layer.
        activation: their non-linearity. The paper names none; the published experiments have the ReLU, but where a
            layer has only two, both die easily, and no information passes any more.
        target_scale: standard deviation of every target given its parents.
        training: how :meth:`loss` trains on data: wake-sleep (Hinton et al. 1995) or reweighted wake-sleep.
        samples: draws K of the recogniser a row of data; with more than one, reweighted wake-sleep is nearer to
            maximum likelihood. Wake-sleep averages over them.

    Raises:
        ModelError: the graph has no order, a name is unknown, or a size is not positive.

    References:
        Dayan et al., The Helmholtz Machine, Neural Computation 1995.
        Bornschein and Bengio, Reweighted Wake-Sleep, ICLR 2015.

    Example:
        >>> machine = HelmholtzMachine(hidden=2)
        >>> machine.sample(3)["y1"].shape
        torch.Size([3, 1])
        >>> machine.log_likelihood(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        graph: dict[str, list[str]] | None = None,
        targets: list[str] | None = None,
        latent_size: int = 2,
        hidden: int = 8,
        activation: Activation = "tanh",
        target_scale: float = 0.5,
        training: Rule = "wake-sleep",
        samples: int = 1,
    ) -> None:
        super().__init__()
        check_positive(self, latent_size=latent_size, hidden=hidden, target_scale=target_scale, samples=samples)
        for name, chosen, known in (("activation", activation, Activation), ("training", training, Rule)):
            check_choice(ModelError, f"HelmholtzMachine: {name}", chosen, known)
        if graph is None:
            graph, targets = _CHAIN, ["y1", "y2"] if targets is None else targets
        self.graph = checked(graph, targets or [])
        self.target_names = tuple(targets or ())
        self.latent_size = latent_size
        self.target_scale = target_scale
        self.training_rule = training
        self.samples = samples
        self.backward_graph = inverse(self.graph, self.target_names)
        self.generator = self._networks(self.graph, hidden, activation)
        self.recogniser = self._networks(self.backward_graph, hidden, activation)

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Draw every variable of the graph in turn: latents (batch, latent_size), targets (batch, 1)."""
        values: dict[str, Tensor] = {}
        for name, parents in self.graph.items():
            law = self.conditional(name, self.generator[name](_together(sites, parents, values)))
            values[name] = sites.target(name, law) if name in self.target_names else sites.latent(name, law)

    @override
    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        """Draw the latents given targets ``y``, shape (batch, targets), in the order opposite to the graph's."""
        values = self.columns(y)
        for name, parents in self.backward_graph.items():
            law = self.conditional(name, self.recogniser[name](_together(sites, parents, values)))
            values[name] = sites.latent(name, law)

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """One step of wake-sleep, or of reweighted wake-sleep with its wake and sleep updates of the recogniser.

        In the wake phase the generator learns the data with latents drawn by the recogniser; reweighted, every one of
        the K draws counts by its importance weight p(y, z) / q(z | y), and the recogniser learns them with the same
        weights. In the sleep phase the recogniser learns the latents of what the generator dreams. No gradient passes
        a draw.

        Args:
            batch: ``y`` of shape (batch, targets).
            progress: unused.

        Returns:
            Terms in nats a row: ``wake`` (generator), ``sleep`` (recogniser) and, reweighted, ``wake recogniser``.
        """
        y = batch.y.repeat_interleave(self.samples, dim=0)
        recognised = self.trace_inference(y)
        joint = self.trace(len(y), values={**recognised.values, **self.columns(y)}, noise={}).log_prob()
        terms: dict[str, Tensor] = {}
        if self.training_rule == "wake-sleep":
            terms["wake"] = -joint.mean()
        else:
            posterior = recognised.log_prob()
            weights = torch.softmax((joint - posterior).detach().reshape(len(batch), self.samples), dim=1).flatten()
            terms["wake"] = -(weights * joint).sum() / len(batch)
            terms["wake recogniser"] = -(weights * posterior).sum() / len(batch)
        with torch.no_grad():
            dreamed = self.trace(len(batch))
        seen = self.join_targets(dreamed.targets)
        latents = {site.name: site.value for site in dreamed.of_kind(Kind.LATENT) if site.value is not None}
        terms["sleep"] = -self.trace_inference(seen, values=latents).log_prob().mean()
        return Loss.of(terms)

    @override
    def join_targets(self, targets: Mapping[str, Tensor]) -> Tensor:
        """The targets of a run as the columns of one ``y``, shape (batch, targets)."""
        return torch.cat([targets[name] for name in self.target_names], dim=1)

    @override
    def split_targets(self, y: Tensor, x: Tensor | None = None) -> dict[str, Tensor]:
        """Each target is a column of ``y``, shape (batch, targets)."""
        return self.columns(y)

    def log_likelihood(self, y: Tensor) -> Tensor:
        """Exact log p(y), the latents summed over by elimination; differentiable.

        Args:
            y: targets, shape (batch, targets).

        Returns:
            Nats, shape (batch,), float64.

        Raises:
            ModelError: too many latents depend on each other.
        """
        return log_likelihood(self, y)

    @override
    def inference_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the recogniser."""
        return self.recogniser.parameters()

    def conditional(self, name: str, output: Tensor) -> Distribution:
        """The law of a variable, given what its network returns, shape (batch, latent_size) or (batch, 1)."""
        if name in self.target_names:
            return Normal(output, torch.full_like(output, self.target_scale), validate_args=False)
        return Bernoulli(logits=output, validate_args=False)

    def columns(self, y: Tensor) -> dict[str, Tensor]:
        """Name to column of each target, shape (batch, 1).

        Args:
            y: targets, shape (batch, targets).
        """
        if y.ndim != 2 or y.shape[1] != len(self.target_names):
            raise ModelError(
                f"HelmholtzMachine has the targets {', '.join(self.target_names)}, one a column, but got rows of shape "
                f"{tuple(y.shape[1:])}; name a target for every column of the data"
            )
        check_numbers(self, "y", y)
        return {name: y[:, i : i + 1] for i, name in enumerate(self.target_names)}

    def size(self, name: str) -> int:
        """Numbers in one value of a variable."""
        return 1 if name in self.target_names else self.latent_size

    def _networks(self, graph: Mapping[str, list[str]], hidden: int, activation: Activation) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                name: Perceptron(
                    sum(self.size(p) for p in parents), hidden, self.size(name), _ACTIVATIONS[activation]()
                )
                if parents
                else Bias(self.size(name))
                for name, parents in graph.items()
            }
        )


class Perceptron(nn.Sequential):
    """One hidden layer: (..., inputs) to (..., outputs)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, activation: nn.Module) -> None:
        super().__init__(nn.Linear(inputs, hidden), activation, nn.Linear(hidden, outputs))


class Bias(nn.Module):
    """What stands in the place of a network where there are no parents: (..., 0) to (..., outputs)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-1.0, 1.0))  # as a linear layer of one input has it

    @override
    def forward(self, nothing: Tensor) -> Tensor:
        """The same vector for every row."""
        return self.bias.expand(*nothing.shape[:-1], -1)


def _together(sites: Sites, parents: list[str], values: Mapping[str, Tensor]) -> Tensor:
    if len(parents) == 1:
        return values[parents[0]]
    return torch.cat([values[parent] for parent in parents], dim=1) if parents else sites.zeros(0)

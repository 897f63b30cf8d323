"""The variational recurrent network ([U] App. F.3; Chung et al. 2015): a latent and a target at every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.divergence import kl
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.core.trace import KEEP_NOTHING
from limbeck.errors import ModelError
from limbeck.models.gaussians import gaussian, precision_weighted
from limbeck.models.inputs import check_numbers
from limbeck.models.sizes import check_positive, check_warm_up
from limbeck.models.vrnn.particle_filter import Proposal, particle_bound
from limbeck.models.vrnn.parts import (
    Recurrence,
    State,
    alive_steps,
    detached,
    given_steps,
    network,
    steps_of,
)
from limbeck.models.vrnn.stroke_law import StrokeLaw, stroke_parameters

__all__ = ["VRNN"]


_ALIVE = "alive"  # a value that is given to a run beside those of its sites


class VRNN(DGM):
    r"""Recurrent model of drawings: latents ``z[0]``, ``z[1]``, ..., targets ``y[0]``, ``y[1]``, ..., one step each.

    .. math:: p(y, z) = \prod_t p(z_t | h_{t-1}) \, p(y_t | z_t, h_{t-1}), \quad h_t = LSTM(y_t, z_t, h_{t-1})

    A step ``y_t`` is (dx, dy, pen, end) or, for drawings of one fixed length, (dx, dy, pen); see :class:`StrokeLaw`. A
    row that has ended is masked in all later sites, and a run stops where no row is left. The posterior
    q(z_t | y_t, h_{t-1}) is the product of the prior with a Gaussian from the encoder, as in a ladder VAE; Chung et al.
    (Eq. 9) take the encoder's alone.

    Args:
        steps: largest number of steps of a drawing.
        width: of the LSTM's state.
        features: of a step and of a latent as the LSTM sees them, and hidden width of all networks.
        latent_size: numbers in each z.
        components: Gaussians in the mixture of an offset; with 1 every divergence has a closed form.
        ends: whether drawings end by themselves; else all that are drawn have ``steps`` steps.
        floor: see :class:`StrokeLaw`.
        warm_up: fraction of the training over which the KL weight rises linearly from 0 to 1.
        truncate: steps after which the gradient stops flowing backwards; values do not change. ``None``: never.

    Raises:
        ModelError: a size is not positive.

    Example:
        >>> model = VRNN(steps=2, width=4, features=3, latent_size=2, ends=False)
        >>> model.trace(batch_size=5)
        Trace(z[0]: latent, y[0]: target, z[1]: latent, y[1]: target)

    References:
        Chung et al., A Recurrent Latent Variable Model for Sequential Data, NeurIPS 2015, Eq. 5-10.
    """

    shift: Tensor
    scale: Tensor
    adapted: Tensor

    def __init__(
        self,
        steps: int = 60,
        width: int = 256,
        features: int = 128,
        latent_size: int = 16,
        components: int = 1,
        ends: bool = True,
        floor: float = 0.05,
        warm_up: float = 0.25,
        truncate: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(
            self, steps=steps, width=width, features=features, latent_size=latent_size, components=components,
            floor=floor, truncate=1 if truncate is None else truncate,
        )  # fmt: skip
        check_warm_up(self, warm_up)
        self.steps = steps
        self.width = width
        self.latent_size = latent_size
        self.components = components
        self.ends = ends
        self.floor = floor
        self.warm_up = warm_up
        self.truncate = truncate
        self.embed_y = nn.Sequential(nn.Linear(3 + ends, features), nn.ReLU())
        self.embed_z = nn.Sequential(nn.Linear(latent_size, features), nn.ReLU())
        self.prior = network(width, features, 2 * latent_size)
        self.decoder = network(features + width, features, stroke_parameters(components, ends))
        self.encoder = network(features + width, features, 2 * latent_size)
        self.lstm = Recurrence(2 * features, width)
        self.register_buffer("shift", torch.zeros(2))
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("adapted", torch.zeros((), dtype=torch.bool))

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Draw z[0], y[0], z[1], y[1], ...; each y[t] of shape (batch, 3 or 4), in units of the data.

        Where all y are given they are declared after the latents, so that their laws are computed at once. All are
        given where no step can follow, or if they come from :meth:`split_targets`.
        """
        y, told = given_steps(sites, "y", self.steps), sites.given(_ALIVE)
        # Values of other shapes are declared one by one, too: then the site itself says what does not fit.
        if y is None or y.shape[2:] != (3 + self.ends,) or (told is None and not self._complete(y)):
            self._draw(sites)
            return
        alive = alive_steps(y) if told is None else told.T
        masks, seen = [None] * len(y) if alive is None else [*alive], self.embed(y)
        z, priors = given_steps(sites, "z", self.steps), list[Tensor]()
        if z is not None and len(z) == len(y) and z.shape[2:] == (self.latent_size,):
            features = self.embed_z(z)
            states = self.lstm.states(seen, features, self.truncate)
            priors = [*self.prior(states)]
        else:
            states, features, _ = self._follow(sites, seen, masks)
        for step, parameters in enumerate(self.decoder(torch.cat([features, states], dim=2))):
            if priors:
                sites.latent(f"z[{step}]", gaussian(priors[step]), masks[step])
            sites.target(f"y[{step}]", self.law(parameters), masks[step])

    @override
    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        """Draw z[0], z[1], ... from the posterior given drawings ``y`` of shape (batch, length, 3 or 4)."""
        steps, alive = self.steps_of(y)
        self._follow(sites, self.embed(steps), [None] * len(steps) if alive is None else [*alive], infer=True)

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """Negative evidence lower bound in nats per drawing, with the KL weight warmed up.

        Args:
            batch: ``y`` of shape (batch, length, 3 or 4), in units of the data; a drawing's steps after its end count
                for nothing, whatever they hold.
            progress: fraction of the training that is done.

        Returns:
            Terms ``y`` (negative log-likelihood) and ``z`` (weighted KL), summed over steps.
        """
        y, alive = self.steps_of(batch.y)
        sites = self._sites(len(batch), None, None, None, keep=lambda name, kind: KEEP_NOTHING)
        states, features, evidence = self._follow(sites, self.embed(y), [None] * len(y), infer=True)
        miss = -self.law(self.decoder(torch.cat([features, states], dim=2))).log_prob(y)
        prior = gaussian(self.prior(states.flatten(0, 1)))
        gap = kl(precision_weighted(prior, gaussian(torch.cat(evidence))), prior).view_as(miss)
        if alive is not None:
            miss, gap = (torch.where(alive, rows, 0.0) for rows in (miss, gap))
        weight = min(1.0, progress / self.warm_up) if self.warm_up > 0 else 1.0
        return Loss.of({"y": miss.sum(0).mean(), "z": weight * gap.sum(0).mean()})

    @torch.no_grad()
    @override
    def adapt(self, batch: Batch) -> None:
        """Set, once, the normalisation of offsets to their mean and standard deviation over all steps that exist."""
        if self.adapted:
            return
        y, alive = self.steps_of(batch.y)
        offsets = y[..., :2].reshape(-1, 2) if alive is None else y[..., :2][alive]
        self.shift.copy_(offsets.mean(0))
        deviation = offsets.std(0, correction=0)
        self.scale.copy_(torch.where(deviation > 0, deviation, 1.0))  # a constant coordinate keeps its unit
        self.adapted.fill_(True)

    @override
    def join_targets(self, targets: Mapping[str, Tensor]) -> Tensor:
        """Steps of a run as drawings of shape (batch, steps, 3 or 4); zero after a drawing's end.

        Raises:
            ModelError: they are means of laws, whose ends are probabilities and tell no length.
        """
        y = torch.stack([targets[f"y[{step}]"] for step in range(len(targets.keys() - {_ALIVE}))])
        alive = alive_steps(y)
        if alive is not None:
            if bool(((y[..., 3] != 0) & (y[..., 3] != 1)).any()):
                raise ModelError(
                    "VRNN: the mean of a step has a probability in place of the drawing's end, so means are no "
                    "drawing; use draws, as with replay='sample', inferred_from='sample' or output='sample'"
                )
            y = torch.where(alive.unsqueeze(2), y, 0.0)
        return F.pad(y, (0, 0, 0, 0, 0, self.steps - len(y))).transpose(0, 1)

    @override
    def split_targets(self, y: Tensor, x: Tensor | None = None) -> dict[str, Tensor]:
        """Drawings of shape (batch, length, 3 or 4) as steps, up to the end of the longest.

        Where the steps by themselves do not say which of them exist, and that none follows, ``alive``, bool of shape
        (batch, steps), does, so that :meth:`generate` counts what :meth:`infer` and :meth:`loss` count.
        """
        steps, alive = self.steps_of(y)
        targets = {f"y[{step}]": value for step, value in enumerate(steps)}
        if (alive is not None and not self.ends) or not self._complete(steps):
            there = torch.ones(steps.shape[:2], dtype=torch.bool, device=y.device) if alive is None else alive
            targets[_ALIVE] = there.T
        return targets

    @override
    def inference_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the posterior network."""
        return self.encoder.parameters()

    def log_likelihood(
        self, y: Tensor, *, particles: int = 64, proposal: Proposal = "prior", generator: torch.Generator | None = None
    ) -> Tensor:
        """Lower bound on log p(y), shape (batch,); see :func:`~limbeck.models.vrnn.particle_filter.particle_bound`."""
        return particle_bound(self, y, particles=particles, proposal=proposal, generator=generator)

    def embed(self, y: Tensor) -> Tensor:
        """Features of steps in units of the data, (..., 3 or 4) to (..., features)."""
        offset = (y[..., :2] - self.shift) / self.scale
        features: Tensor = self.embed_y(torch.cat([offset, y[..., 2 : 3 + self.ends]], dim=-1))
        return features

    def law(self, parameters: Tensor) -> StrokeLaw:
        """Law of a step from the decoder's output, shape (batch, parameters)."""
        return StrokeLaw(parameters, self.components, self.ends, self.shift, self.scale, self.floor)

    def steps_of(self, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """Drawings as this model's steps; see :func:`~limbeck.models.vrnn.parts.steps_of`."""
        check_numbers(self, "y", y)
        return steps_of(y, self.steps, self.ends)

    def _draw(self, sites: Sites) -> None:
        """One step after the other, whatever is given; stops where every drawing has ended."""
        state = (sites.zeros(self.width), sites.zeros(self.width))
        alive: Tensor | None = None
        for step in range(self.steps):
            state = self._cut(step, state)
            z = sites.latent(f"z[{step}]", gaussian(self.prior(state[0])), alive)
            features = self.embed_z(z)
            law = self.law(self.decoder(torch.cat([features, state[0]], dim=1)))
            y = sites.target(f"y[{step}]", law, alive)
            if self.ends:
                more = y[:, 3] == 0
                alive = more if alive is None else alive & more
                if not bool(alive.any()):
                    return
            state = self.lstm.step(self.embed(y), features, state)

    def _follow(
        self, sites: Sites, seen: Tensor, masks: Sequence[Tensor | None], *, infer: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Draw the latents along given steps; returns states before each step and features of z, time first.

        To infer is to draw them from the posterior; the encoder's outputs come last.
        """
        state = (sites.zeros(self.width), sites.zeros(self.width))
        states, features, evidence = [], [], list[Tensor]()
        for step, known in enumerate(seen):
            state = self._cut(step, state)
            law = gaussian(self.prior(state[0]))
            if infer:
                evidence.append(self.encoder(torch.cat([known, state[0]], dim=1)))
                law = precision_weighted(law, gaussian(evidence[-1]))
            z = sites.latent(f"z[{step}]", law, masks[step])
            states.append(state[0])
            features.append(self.embed_z(z))
            state = self.lstm.step(known, features[-1], state)
        return torch.stack(states), torch.stack(features), evidence

    def _cut(self, step: int, state: State) -> State:
        return detached(state) if self.truncate and step and step % self.truncate == 0 else state

    def _complete(self, y: Tensor) -> bool:
        """Whether no step follows these."""
        return len(y) == self.steps or (self.ends and bool((y[..., 3] != 0).any(0).all()))

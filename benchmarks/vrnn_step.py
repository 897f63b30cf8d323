"""What a step of distilling a recurrent model of hundreds of sites costs next to the loop written by hand.

The yardstick knows this one model: plain torch, teacher without gradients, lists of tensors, every divergence computed
once for all steps. Both sides use the models' own networks and take turns in one process.

    python benchmarks/vrnn_step.py                 T = 200 steps, some minutes
    python benchmarks/vrnn_step.py --quick         few steps and turns: shows that it runs, measures nothing
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from functools import partial

import torch
from timing import Row, Step, add_options, measure, take_turns, training_step
from torch import Tensor
from torch.nn import functional as F

from limbeck.core import methods
from limbeck.models import VRNN

LATENT_WEIGHT = 1e-3
TARGET = 1.2


def adam(model: VRNN) -> torch.optim.Optimizer:
    """The optimiser of both sides."""
    return torch.optim.Adam(model.generative_parameters(), 1e-3, weight_decay=1e-4, fused=True)


def engine_step(teacher: VRNN, student: VRNN, batch: int, method: str) -> Step:
    """One step as a user of the library writes it."""
    objective = methods.local() if method == "local" else methods.surrogate(LATENT_WEIGHT)
    return training_step(lambda: objective(teacher, student, batch_size=batch).total, adam(student))


def split(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of a latent."""
    mean, raw = parameters.chunk(2, -1)
    return mean, F.softplus(raw) * (1.0 / math.log(2.0)) + 1e-6


def heads(model: VRNN, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pen's logit, mean, diagonal and lower entry of the Cholesky factor, in units of the data."""
    pen, mean, raw, lower = parameters[..., :1], parameters[..., 1:3], parameters[..., 3:5], parameters[..., 5]
    diagonal = (F.softplus(raw) * (1.0 / math.log(2.0)) + model.floor) * model.scale
    return pen, torch.addcmul(model.shift, mean, model.scale), diagonal, lower * model.scale[1]


def target_kl(teacher: VRNN, student: VRNN, taught: Tensor, learned: Tensor) -> Tensor:
    """KL of all steps at once, summed over steps and averaged over rows."""
    pen_p, mean_p, diagonal_p, lower_p = heads(teacher, taught)
    pen_q, mean_q, diagonal_q, lower_q = heads(student, learned)
    ratio, away = diagonal_p / diagonal_q, mean_p - mean_q
    first = away[..., 0] / diagonal_q[..., 0]
    second = (away[..., 1] - lower_q * first) / diagonal_q[..., 1]
    cross = (lower_p - lower_q * ratio[..., 0]) / diagonal_q[..., 1]
    offset = 0.5 * (ratio * ratio - 1.0).sum(-1) - ratio.log().sum(-1) + 0.5 * (first**2 + second**2 + cross**2)
    probability = torch.sigmoid(pen_p)
    crossed = F.binary_cross_entropy_with_logits(pen_q, probability, reduction="none")
    own = F.binary_cross_entropy_with_logits(pen_p, probability, reduction="none")
    return (offset + (crossed - own).squeeze(-1)).sum(0).mean()


def hand_step(teacher: VRNN, student: VRNN, batch: int, method: str) -> Step:
    """The same by hand."""
    optimizer = adam(student)

    def start(model: VRNN) -> tuple[Tensor, Tensor]:
        return torch.zeros(batch, model.width), torch.zeros(batch, model.width)

    def step() -> None:
        optimizer.zero_grad()
        noises, latents, steps, priors, outputs = [], [], [], [], []
        with torch.no_grad():
            state = start(teacher)
            for _ in range(teacher.steps):
                mean, scale = split(teacher.prior(state[0]))
                noise = torch.randn_like(mean)
                z = torch.addcmul(mean, scale, noise)
                features = teacher.embed_z(z)
                parameters = teacher.decoder(torch.cat([features, state[0]], 1))
                pen, mean_y, diagonal, lower = heads(teacher, parameters)
                e = torch.randn(batch, 3)
                x = mean_y[:, 0] + diagonal[:, 0] * e[:, 0]
                y = mean_y[:, 1] + lower * e[:, 0] + diagonal[:, 1] * e[:, 1]
                drawn = torch.stack([x, y, (torch.rand(batch) < torch.sigmoid(pen[:, 0])).to(x.dtype)], 1)
                state = teacher.lstm.step(teacher.embed(drawn), features, state)
                noises.append(noise)
                latents.append(z)
                steps.append(drawn)
                priors.append((mean, scale))
                outputs.append(parameters)
        seen = student.embed(torch.stack(steps))
        taught_mean, taught_scale = (torch.stack(part) for part in zip(*priors, strict=True))
        if method == "local":
            features = student.embed_z(torch.stack(latents))
            before = student.lstm(torch.cat([seen, features], 2)[:-1])[0]
            states = torch.cat([torch.zeros_like(before[:1]), before])
            mean, scale = split(student.prior(states))
            ratio = taught_scale / scale
            gap = 0.5 * (ratio**2 - 1.0 + ((taught_mean - mean) / scale) ** 2) - ratio.log()
            latent = gap.sum((0, 2)).mean()
        else:
            state = start(student)
            means, scales, all_states, all_features = [], [], [], []
            for index, known in enumerate(seen.unbind()):
                mean, scale = split(student.prior(state[0]))
                features = student.embed_z(torch.addcmul(mean, scale, noises[index]))
                means.append(mean)
                scales.append(scale)
                all_states.append(state[0])
                all_features.append(features)
                state = student.lstm.step(known, features, state)
            states, features = torch.stack(all_states), torch.stack(all_features)
            away, wider = taught_mean - torch.stack(means), taught_scale - torch.stack(scales)
            latent = LATENT_WEIGHT * (away**2 + wider**2).mean(2).sum(0).mean()
        learned = student.decoder(torch.cat([features, states], 2))
        (target_kl(teacher, student, torch.stack(outputs), learned) + latent).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def vrnn(method: str, quick: bool) -> Iterator[Row]:
    """A student of about a fifth of its teacher."""
    steps, widths, batch, turns = (8, (8, 4), 4, 2) if quick else (200, (256, 112), 64, 6)
    teacher = VRNN(steps, widths[0], widths[0] // 2, ends=False).eval().requires_grad_(False)
    ours, least = (VRNN(steps, widths[1], widths[1] // 2, ends=False) for _ in range(2))
    yield from take_turns(
        {f"VRNN {method}, T = {steps}": (engine_step(teacher, ours, batch, method), TARGET)},
        hand_step(teacher, least, batch, method),
        turns,
    )


def main() -> None:
    """Measure both methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    options = parser.parse_args()
    measure([partial(vrnn, method, options.quick) for method in ("surrogate", "local")], options)


if __name__ == "__main__":
    main()

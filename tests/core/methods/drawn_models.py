"""Models with drawn weights, and their programs written out by hand."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.core.loss import Batch
from limbeck.models import DCGAN, Autoregressive, MLPClassifier
from tests.core.methods.formulas import DOUBLE
from tests.small_models import seeded

EXACT = {"rel": 1e-9, "abs": 1e-12}


def built(*models: tuple) -> list:
    """Models with drawn weights, in float64 and eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [kind(**arguments).double().eval() for kind, arguments in models]
    for model in made:  # fresh weights give almost uniform laws, on which mistakes would be small
        for parameter in model.parameters():
            parameter.data *= 2.0
    return made


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=DOUBLE)


def classifiers() -> tuple[MLPClassifier, MLPClassifier, Batch]:
    teacher, student = built(
        (MLPClassifier, {"inputs": 5, "classes": 4, "widths": [9, 7]}),
        (MLPClassifier, {"inputs": 5, "classes": 4, "widths": [3, 7]}),
    )
    return teacher, student, Batch(torch.arange(12) % 4, normal(12, 5))


def hidden(model: MLPClassifier, x: Tensor) -> list[Tensor]:
    layers = []
    for layer in model.layers:
        x = torch.clamp(x @ layer.weight.T + layer.bias, min=0.0)
        layers.append(x)
    return layers


def scores(model: MLPClassifier, x: Tensor) -> Tensor:
    return hidden(model, x)[-1] @ model.head.weight.T + model.head.bias


def recurrence(model: Autoregressive, token: int, state: Tensor) -> Tensor:
    """One step of a gated recurrent unit on a single row, as Cho et al. (2014) and torch's documentation have it."""
    cell = model.recurrence
    reset_x, update_x, new_x = (cell.weight_ih_l0 @ model.embedding.weight[token] + cell.bias_ih_l0).chunk(3)
    reset_h, update_h, new_h = (cell.weight_hh_l0 @ state + cell.bias_hh_l0).chunk(3)
    reset, update = torch.sigmoid(reset_x + reset_h), torch.sigmoid(update_x + update_h)
    return (1 - update) * torch.tanh(new_x + reset * new_h) + update * state


def conditionals(model: Autoregressive, x: Tensor, tokens: list[int]) -> list[Tensor]:
    """p(y_j | y_<j, x) of one row, for every j, along the given tokens."""
    first, _, second = model.encoder
    state = second.weight @ torch.clamp(first.weight @ x + first.bias, min=0.0) + second.bias
    laws, before = [], model.embedding.num_embeddings - 1
    for token in tokens:
        state = recurrence(model, before, state)
        laws.append(torch.softmax(model.head.weight @ state + model.head.bias, 0))
        before = token
    return laws


def writers(length: int = 3, tokens: int = 4) -> tuple[Autoregressive, Autoregressive]:
    teacher, student = built(
        (Autoregressive, {"length": length, "tokens": tokens, "inputs": 2, "width": 8, "embedding": 3}),
        (Autoregressive, {"length": length, "tokens": tokens, "inputs": 2, "width": 3, "embedding": 2}),
    )
    return teacher, student


def generators() -> tuple[DCGAN, DCGAN]:
    common = {"image_size": 8, "image_channels": 1, "latent_size": 6, "critic_width": 2}
    teacher, student = built((DCGAN, {"width": 4, **common}), (DCGAN, {"width": 4, **common}))
    return teacher, student


def maps(model: DCGAN, z: Tensor) -> tuple[list[Tensor], Tensor]:
    """Feature maps and image, with the running statistics of the batch norms."""
    found = []
    h = (z @ model.first.weight.T).reshape(len(z), -1, 4, 4)
    for level, norm in enumerate(model.norms):
        if level:
            h = F.conv_transpose2d(h, model.blocks[level - 1].weight, stride=2, padding=1)
        mean, variance = norm.running_mean[:, None, None], norm.running_var[:, None, None]
        h = (h - mean) / (variance + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
        h = torch.clamp(h, min=0.0)
        found.append(h)
    return found, torch.sigmoid(F.conv2d(h, model.to_image.weight, model.to_image.bias, padding=1))

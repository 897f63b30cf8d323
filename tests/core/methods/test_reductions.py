"""Each known method, as the engine computes it, against its own formula written out here by hand ([U] Sec. 3.5)."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck import methods
from limbeck.core.coupling import BeamTargets, DataTargets, SharedNoise
from limbeck.core.coupling.beam import beam_search
from limbeck.core.divergence import Regressor
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.errors import MatchError
from limbeck.models import DCGAN, Autoregressive, MLPClassifier

DOUBLE = torch.float64
EXACT = {"rel": 1e-9, "abs": 1e-12}


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


# ----------------------------------------------------------------------------------------------- vanilla distillation


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


@pytest.mark.parametrize(("temperature", "alpha"), [(4.0, 0.9), (1.0, 0.5), (2.5, 1.0), (3.0, 0.0)])
def test_vanilla_is_the_formula_of_hinton(temperature: float, alpha: float) -> None:
    teacher, student, batch = classifiers()
    loss = methods.vanilla(temperature, alpha)(teacher, student, batch=batch)

    taught, learned = scores(teacher, batch.x), scores(student, batch.x)
    p = (taught / temperature).exp() / (taught / temperature).exp().sum(1, keepdim=True)
    q = (learned / temperature).exp() / (learned / temperature).exp().sum(1, keepdim=True)
    soft = temperature**2 * (p * (p / q).log()).sum(1).mean()
    own = learned.exp() / learned.exp().sum(1, keepdim=True)
    hard = -own[torch.arange(12), batch.y].log().mean()
    assert soft.item() > 0.01
    assert loss.total.item() == pytest.approx((alpha * soft + (1 - alpha) * hard).item(), **EXACT)


def test_vanilla_is_surrogate_without_latents() -> None:
    teacher, student, batch = classifiers()
    surrogate = methods.surrogate()(teacher, student, x=batch.x).total
    assert methods.vanilla(1.0, 1.0)(teacher, student, x=batch.x).total.item() == surrogate.item()


def test_vanilla_needs_the_labels_unless_alpha_is_one() -> None:
    assert methods.vanilla(alpha=0.5).needs_data
    assert not methods.vanilla(alpha=1.0).needs_data


# ----------------------------------------------------------------------------------------- sequence-level distillation


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


@torch.no_grad()
def test_sequence_level_is_equation_3() -> None:
    teacher, student = writers()
    x = normal(6, 2)
    loss = methods.sequence_level()(teacher, student, x=x, generator=seeded())

    generator = seeded()
    gumbel = [-torch.empty(6, 4, dtype=DOUBLE).exponential_(generator=generator).log() for _ in range(3)]
    total, drawn = 0.0, set()
    for row in range(6):
        tokens: list[int] = []
        for step in range(3):  # y_<j is a sample of the teacher
            law = conditionals(teacher, x[row], [*tokens, 0])[step]
            tokens.append(int((law.log() + gumbel[step][row]).argmax()))
        drawn.add(tuple(tokens))
        for p, q in zip(conditionals(teacher, x[row], tokens), conditionals(student, x[row], tokens), strict=True):
            total += (p * (p / q).log()).sum().item()
    assert len(drawn) > 2
    assert loss.total.item() == pytest.approx(total / 6, **EXACT)
    assert list(loss.terms) == ["y[*]"]


@torch.no_grad()
def test_sequence_level_estimates_the_kl_of_whole_sequences() -> None:
    teacher, student = writers()
    x = normal(1, 2)
    exact = 0.0
    for tokens in itertools.product(range(4), repeat=3):
        p, q = (
            math.prod(law[token].item() for law, token in zip(conditionals(m, x[0], list(tokens)), tokens))
            for m in (teacher, student)
        )
        exact += p * math.log(p / q)
    generator, objective = seeded(), methods.sequence_level()
    repeated = x.expand(2000, 2)
    losses = torch.stack([objective(teacher, student, x=repeated, generator=generator).total for _ in range(20)])
    error = losses.std().item() / math.sqrt(20)
    assert 0 < error < 0.02 * exact
    assert abs(losses.mean().item() - exact) < 5 * error


@torch.no_grad()
def test_sequence_mode_is_the_likelihood_of_the_most_probable_sequence() -> None:
    teacher, student = writers()
    x = normal(5, 2)
    loss = methods.sequence_mode(beam_size=64)(teacher, student, x=x)  # as many as there are sequences: exact
    total = 0.0
    for row in range(5):
        every = list(itertools.product(range(4), repeat=3))
        probability = [
            math.prod(law[token].item() for law, token in zip(conditionals(teacher, x[row], list(tokens)), tokens))
            for tokens in every
        ]
        mode = list(every[max(range(len(every)), key=probability.__getitem__)])
        laws = conditionals(student, x[row], mode)
        total -= sum(math.log(law[token].item()) for law, token in zip(laws, mode, strict=True))
    assert loss.total.item() == pytest.approx(total / 5, **EXACT)


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (2.0, 1.0)])
def test_word_level_is_the_formula_of_kim_and_rush(temperature: float, alpha: float) -> None:
    teacher, student = writers()
    y, x = torch.tensor([[0, 1, 2], [3, 3, 0], [2, 0, 1]]), normal(3, 2)
    loss = methods.word_level(temperature, alpha)(teacher, student, batch=Batch(y, x))
    soft = hard = 0.0
    for row in range(3):
        taught, learned = (conditionals(model, x[row], y[row].tolist()) for model in (teacher, student))
        for p, q, token in zip(taught, learned, y[row].tolist(), strict=True):
            hard -= q[token].log().item() / 3
            p, q = ((law.log() / temperature).softmax(0) for law in (p, q))
            soft += temperature**2 * (p * (p / q).log()).sum().item() / 3
    assert loss.total.item() == pytest.approx(alpha * soft + (1 - alpha) * hard, **EXACT)


def test_word_level_needs_sequences() -> None:
    teacher, student = writers()
    with pytest.raises(MatchError, match=r"rows of data, but there are none"):
        methods.word_level(alpha=1.0)(teacher, student, x=normal(3, 2))
    with pytest.raises(MatchError, match=r"one column a target.*\(3,\)"):
        methods.word_level(alpha=1.0)(teacher, student, batch=Batch(torch.zeros(3, dtype=torch.int64), normal(3, 2)))


# ------------------------------------------------------------------------------------------------- feature distillation


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
def test_feature_is_equation_8(order: float) -> None:
    teacher, student, batch = classifiers()
    alone = methods.feature("h[1]", order=order, target=None)(teacher, student, x=batch.x)
    both = methods.feature("h[1]", order=order, weight=0.3)(teacher, student, x=batch.x)

    difference = hidden(teacher, batch.x)[1] - hidden(student, batch.x)[1]
    distance = (difference.abs() ** order).sum(1) ** (1 / order)
    p, q = (torch.softmax(scores(model, batch.x), 1) for model in (teacher, student))
    target = (p * (p / q).log()).sum(1).mean()
    assert alone.total.item() == pytest.approx(distance.mean().item(), **EXACT)
    assert list(alone.terms) == ["h[1]"]
    assert both.total.item() == pytest.approx((target + 0.3 * distance.mean()).item(), **EXACT)


def test_feature_with_a_regressor_is_the_hint_loss_of_fitnets() -> None:
    teacher, student, batch = classifiers()
    regressor = Regressor(student=3, teacher=9, order=2.0, root=False).double()
    with torch.no_grad():
        regressor.linear.weight.copy_(normal(9, 3, seed=2))
        regressor.linear.bias.copy_(normal(9, seed=3))
    objective = methods.feature({"h[0]": "h[0]"}, weight=0.5, target=None, regressors={"h[0]": regressor})
    loss = objective(teacher, student, x=batch.x)
    mapped = hidden(student, batch.x)[0] @ regressor.linear.weight.T + regressor.linear.bias
    hint = 0.5 * (hidden(teacher, batch.x)[0] - mapped).square().sum(1).mean()  # Romero et al. (2015), Eq. 3
    assert loss.total.item() == pytest.approx(hint.item(), **EXACT)

    loss.backward()  # the regressor is a part of the objective, and trains
    assert {id(p) for p in objective.parameters()} == {id(p) for p in regressor.parameters()}
    assert all(parameter.grad.abs().max() > 0 for parameter in objective.parameters())


def test_features_of_other_names() -> None:
    teacher, student, batch = classifiers()
    swapped = methods.feature({"h[1]": "h[1]"}, target=None)(teacher, student, x=batch.x)
    assert swapped.total.item() == methods.feature("h[1]", target=None)(teacher, student, x=batch.x).total.item()
    with pytest.raises(MatchError, match=r"h\[7\].*h\[1\]"):
        methods.feature("h[1]", regressors={"h[7]": Regressor(1, 1)})
    with pytest.raises(MatchError, match=r"nothing"):
        methods.feature("nothing", target=None)(teacher, student, x=batch.x)


# ----------------------------------------------------------------------------------------------------- GAN distillation


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


@pytest.mark.parametrize("order", [1.0, 2.0])
@torch.no_grad()
def test_gan_is_equation_9(order: float) -> None:
    teacher, student = generators()
    loss = methods.gan("f[*]", order=order, weight=0.2)(teacher, student, batch_size=5, generator=seeded())
    alone = methods.gan(order=order)(teacher, student, batch_size=5, generator=seeded())

    z = normal(5, 6, seed=5)
    (taught, image), (learned, copied) = maps(teacher, z), maps(student, z)

    def distance(a: Tensor, b: Tensor) -> float:
        return ((a - b).abs() ** order).flatten(1).sum(1).pow(1 / order).mean().item()

    output = distance(image, copied)
    features = [distance(a, b) for a, b in zip(taught, learned, strict=True)]
    assert min(features) > 0.01
    assert alone.total.item() == pytest.approx(output, **EXACT)
    assert loss.total.item() == pytest.approx(output + 0.2 * sum(features), **EXACT)


# ------------------------------------------------------------------------------------------------------ what all share


def every() -> list:
    x = normal(8, 5)
    classifier, _, _ = classifiers()
    writer, _ = writers()
    generator, _ = generators()
    regressors = {"h[0]": Regressor(9, 9).double()}
    return [
        pytest.param(methods.vanilla(3.0, 1.0), classifier, {"x": x}, id="vanilla"),
        pytest.param(methods.sequence_level(), writer, {"x": normal(8, 2)}, id="sequence level"),
        pytest.param(
            methods.word_level(alpha=1.0),
            writer,
            {"batch": Batch(torch.arange(24).view(8, 3) % 4, normal(8, 2))},
            id="word level",
        ),
        pytest.param(methods.feature(), classifier, {"x": x}, id="feature"),
        pytest.param(methods.feature("h[0]", regressors=regressors), classifier, {"x": x}, id="regressor"),
        pytest.param(methods.gan("f[*]"), generator, {"batch_size": 8}, id="gan"),
    ]


@pytest.mark.parametrize(("objective", "teacher", "rows"), every())
def test_an_exact_copy_is_a_stationary_point_with_loss_zero(objective: Objective, teacher: DGM, rows: dict) -> None:
    student = copy.deepcopy(teacher)
    loss = objective(teacher, student, **rows)
    assert loss.total.item() == pytest.approx(0.0, abs=1e-12)
    loss.backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is None or parameter.grad.abs().max() < 1e-10, name


def test_the_mode_of_an_exact_copy_costs_what_the_teacher_gives_it() -> None:
    """The simplification has another minimum: the likelihood of the mode, which is not that of the teacher's law."""
    teacher, _ = writers()
    student, x = copy.deepcopy(teacher), normal(8, 2)
    loss = methods.sequence_mode(3)(teacher, student, x=x)
    assert loss.total.item() == pytest.approx(-beam_search(teacher, 3, x=x)[1].mean().item(), **EXACT)
    loss.backward()
    assert max(parameter.grad.abs().max().item() for parameter in student.parameters()) > 1e-3


def test_every_method_is_a_configuration_of_the_engine() -> None:
    for objective in (methods.vanilla(), methods.sequence_level(), methods.sequence_mode(), methods.word_level(),
                      methods.feature(), methods.gan("f[*]")):  # fmt: skip
        assert type(objective) is Objective
        assert isinstance(objective.coupling, SharedNoise | BeamTargets | DataTargets)

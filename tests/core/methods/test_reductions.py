"""Vanilla, feature and GAN distillation against formulas written by hand, and what all share ([U] Sec. 3.5)."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from limbeck import methods
from limbeck.core.coupling import BeamTargets, DataTargets, SharedNoise
from limbeck.core.coupling.beam import beam_search
from limbeck.core.divergence import Regressor
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.errors import MatchError
from tests.core.methods.drawn_models import EXACT, classifiers, generators, hidden, maps, normal, scores, writers
from tests.small_models import seeded


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


def test_features_are_matched_by_their_names() -> None:
    teacher, student, batch = classifiers()
    swapped = methods.feature({"h[1]": "h[1]"}, target=None)(teacher, student, x=batch.x)
    assert swapped.total.item() == methods.feature("h[1]", target=None)(teacher, student, x=batch.x).total.item()
    with pytest.raises(MatchError, match=r"h\[7\].*h\[1\]"):
        methods.feature("h[1]", regressors={"h[7]": Regressor(1, 1)})
    with pytest.raises(MatchError, match=r"nothing"):
        methods.feature("nothing", target=None)(teacher, student, x=batch.x)


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


def test_gan_takes_regressors() -> None:
    regressor = Regressor(3, 5)
    objective = methods.gan({"f[0]": "g[0]"}, regressors={"f[0]": regressor})
    assert regressor in [match.divergence for match in objective.matches]


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

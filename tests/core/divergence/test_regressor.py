"""The learned divergence between features of unequal width."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal
from torch.nn import functional as F

from limbeck.core import methods
from limbeck.core.delta import Delta
from limbeck.core.divergence import Regressor, lp
from limbeck.core.loss import Batch
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import fit
from limbeck.errors import DivergenceError
from limbeck.methods import feature
from limbeck.models import MLPClassifier
from tests.core.divergence.observed_features import CLOSE, pair
from tests.features import CASES

DOUBLE = torch.float64


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def drawn(student: int, teacher: int, **options) -> Regressor:
    regressor = Regressor(student, teacher, **options).double()
    with torch.no_grad():
        regressor.linear.weight.copy_(normal(teacher, student, seed=1))
        regressor.linear.bias.copy_(normal(teacher, seed=2))
    return regressor


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_a_map_is_regressed_by_a_1x1_convolution(order: float) -> None:
    regressor = drawn(3, 5, order=order)
    a, b = normal(4, 5, 6, 2), normal(4, 3, 6, 2, seed=3)
    mapped = F.conv2d(b, regressor.linear.weight[:, :, None, None], regressor.linear.bias)
    torch.testing.assert_close(regressor(Delta(a), Delta(b)), lp(Delta(a), Delta(mapped), order=order))


def test_it_starts_as_the_distance_itself() -> None:
    a, b = Delta(normal(4, 3)), Delta(normal(4, 3, seed=3))
    assert torch.equal(Regressor(3, 3).double()(a, b), lp(a, b, order=2.0))
    assert torch.equal(Regressor(3, 5).linear.weight, Regressor(3, 5).linear.weight)


def test_reductions() -> None:
    a, b = Delta(normal(4, 5)), Delta(normal(4, 3, seed=3))
    summed = drawn(3, 5, root=False)(a, b)
    torch.testing.assert_close(drawn(3, 5, root=False, normalize=True)(a, b), summed / 5)
    torch.testing.assert_close(drawn(3, 5)(a, b), summed.sqrt())


def test_the_engine_trains_it_with_the_student() -> None:
    torch.manual_seed(0)
    teacher, student = MLPClassifier(4, 3, [8]), MLPClassifier(4, 3, [2])
    regressor = Regressor(2, 8)
    before = regressor.linear.weight.detach().clone()
    rows = Batch(torch.zeros(64, dtype=torch.int64), normal(64, 4).float())
    objective = feature("h[0]", target=None, regressors={"h[0]": regressor})
    history = fit(student, objective, Training(steps=60, batch_size=16, learning_rate=0.02, log_every=10),
                  teacher=teacher, data=rows).history  # fmt: skip
    assert history.rows[-1]["total"] < 0.8 * history.rows[0]["total"]
    assert (regressor.linear.weight - before).abs().max() > 0.01
    assert methods.joint(0.5, objective).divergences[0] is regressor


def test_given_channels_follow_the_student_in_their_precision() -> None:
    torch.manual_seed(0)
    teacher, student = MLPClassifier(4, 3, [8]).double(), MLPClassifier(4, 3, [5]).double()
    regressor = Regressor(5, 8)
    weight = regressor.linear.weight
    objective = feature("h[0]", target=None, regressors={"h[0]": regressor})
    objective.prepare(teacher, student, normal(2, 4))
    assert regressor.linear.weight is weight
    assert objective(teacher, student, x=normal(6, 4)).total.dtype is DOUBLE


def test_refusals() -> None:
    with pytest.raises(DivergenceError, match=r"deterministic"):
        Regressor(2, 2)(Normal(torch.zeros(1, 2), 1.0), Delta(torch.zeros(1, 2)))
    with pytest.raises(DivergenceError, match=r"3 channels.*\(1, 2\)"):
        Regressor(3, 2)(Delta(torch.zeros(1, 2)), Delta(torch.zeros(1, 2)))
    with pytest.raises(DivergenceError, match=r"\(1, 4\).*\(1, 2\)|shape"):
        Regressor(2, 2)(Delta(torch.zeros(1, 4)), Delta(torch.zeros(1, 2)))
    with pytest.raises(DivergenceError, match=r"positive, not 0 and 2"):
        Regressor(0, 2)


def test_fitnet_is_the_mean_squared_error_of_a_1x1_convolution() -> None:
    divergence = CASES["fitnet"].sized()
    assert isinstance(divergence, Regressor)
    theirs, own = pair((5, 4, 4), (3, 4, 4))
    same = torch.cat([own, torch.zeros(3, 2, 4, 4, dtype=torch.float64)], 1)
    torch.testing.assert_close(divergence(Delta(theirs), Delta(own)), (theirs - same).square().mean((1, 2, 3)), **CLOSE)
    layer = divergence.network.pointwise[0]
    with torch.no_grad():
        layer.weight.copy_(normal(5, 3, 1, 1, seed=8))
    mapped = F.conv2d(own, layer.weight, layer.bias)
    expected = (theirs - mapped).square().mean((1, 2, 3))
    torch.testing.assert_close(divergence(Delta(theirs), Delta(own)), expected, **CLOSE)

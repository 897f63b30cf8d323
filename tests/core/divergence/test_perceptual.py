"""The distance in the features of a network: by hand, frozen, and through any network."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from limbeck.core.divergence import FeatureDistance
from limbeck.errors import DivergenceError
from limbeck.metrics import ClassifierFeatures


def laws(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Normal, Normal]:
    torch.manual_seed(seed)
    a, b = torch.rand(3, 1, 8, 8, dtype=dtype), torch.rand(3, 1, 8, 8, dtype=dtype, requires_grad=True)
    return Normal(a, 0.5), Normal(b, 0.5)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(1)
    return ClassifierFeatures(1, 8, 10, "digits-cnn", width=4, num_features=6).double()


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.square().sum(1, keepdim=True).sqrt()


def test_is_the_formula_written_by_hand(network):
    p, q = laws()
    found = FeatureDistance(network, layers=["blocks.0", "neck"])(p, q)
    network.eval()
    maps = [unit(network.blocks[0](law.mean * 2 - 1)) for law in (p, q)]
    assert maps[0].shape == (3, 4, 4, 4)
    expected = (maps[0] - maps[1]).square().sum((1, 2, 3)) / 16
    vectors = [unit(network(law.mean)) for law in (p, q)]
    torch.testing.assert_close(found, expected + (vectors[0] - vectors[1]).square().sum(1))


def test_by_default_the_output_alone(network):
    p, q = laws()
    vectors = [unit(network.eval()(law.mean)) for law in (p, q)]
    torch.testing.assert_close(FeatureDistance(network)(p, q), (vectors[0] - vectors[1]).square().sum(1))


def test_gradients_reach_the_student_alone(network):
    p, q = laws()
    distance = FeatureDistance(network, layers=["blocks.0"])
    assert torch.autograd.gradcheck(lambda mean: distance(p, Normal(mean, 0.5)), (q.mean,))
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_the_network_stays_in_eval_mode_and_without_hooks(network):
    distance = FeatureDistance(network, layers=["blocks.0"]).train()
    before = copy.deepcopy(network.state_dict())
    distance(*laws())
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_reads_a_torchscript_file(network, tmp_path):
    path = tmp_path / "features.pt"
    torch.jit.trace(network.eval(), torch.rand(2, 1, 8, 8, dtype=torch.float64)).save(str(path))
    p, q = laws()
    torch.testing.assert_close(FeatureDistance(path)(p, q), FeatureDistance(network)(p, q))


def test_errors_name_the_mend(network, tmp_path):
    with pytest.raises(DivergenceError, match=r"'blocks.7'.*blocks.0"):
        FeatureDistance(network, layers=["blocks.7"])
    with pytest.raises(DivergenceError, match="no network"):
        FeatureDistance()(*laws())
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(DivergenceError, match=r"text.pt"):
        FeatureDistance(tmp_path / "text.pt")

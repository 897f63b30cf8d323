"""What every plain network does, how its weights begin, and what cannot work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.errors import ModelError
from limbeck.models import networks
from limbeck.models.networks import MLP, VGG9, ConvNet, LeNet, ResNet, WideResNet
from limbeck.models.networks.base import ImageNetwork
from tests.models.networks.network_features import build, features, images

EVERY: dict[str, tuple[Callable[[], ImageNetwork], tuple[int, int, int]]] = {
    "WideResNet": (lambda: WideResNet(10, 2, 4, 1, dropout=0.3), (1, 8, 8)),
    "ResNet": (lambda: ResNet(8, 4, 1), (1, 8, 8)),
    "bottlenecks": (lambda: ResNet(164, 4, 1), (1, 4, 4)),
    "large ResNet": (lambda: ResNet(18, 4, 1), (1, 32, 32)),
    "VGG9": (lambda: VGG9(4, 1), (1, 32, 32)),
    "MLP": (lambda: MLP(8, 4, 6, 1), (1, 6, 6)),
    "LeNet": (lambda: LeNet(4), (1, 28, 28)),
    "ConvNet": (lambda: ConvNet([4, 6, 8], 4, 1), (1, 8, 8)),
}


@pytest.fixture(params=EVERY)
def case(request: pytest.FixtureRequest) -> tuple[Callable[[], ImageNetwork], Tensor]:
    make, shape = EVERY[request.param]
    return make, images(4, *shape, dtype=torch.float64)


def test_every_family_is_exported() -> None:
    families = {type(build(make)).__name__ for make, _ in EVERY.values()}
    assert families == set(networks.__all__)


def test_one_seed_fixes_weights_and_eval_mode_the_output(case: tuple) -> None:
    make, x = case
    one, two, other = (build(make, seed).double() for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    one(x)  # in train mode: dropout, statistics of batch norms
    one.eval(), two.load_state_dict(one.state_dict())
    logits = one(x)
    assert logits.dtype == torch.float64
    assert logits.shape == (4, 4)
    assert torch.equal(logits, two.eval()(x))
    assert not torch.equal(logits, other.eval()(x))
    rows = torch.cat([one(x[i : i + 1]) for i in range(4)])  # a row does not depend on the others
    torch.testing.assert_close(rows, logits)


def test_every_weight_has_a_gradient_and_every_feature_a_path(case: tuple) -> None:
    make, x = case
    network = build(make).double()
    found = features(network, x)
    assert len(found) == len(network.feature_paths)
    F.cross_entropy(network(x), torch.arange(4)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_last_layer_is_linear(case: tuple) -> None:
    make, x = case
    network, called = build(make).double().eval(), []
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, given, output: called.append((module, output)))
    logits = network(x)
    last, output = called[-1]
    assert isinstance(last, nn.Linear)
    assert output is logits


def test_features_are_not_changed_in_place(case: tuple) -> None:
    make, x = case
    assert [h._version for h in features(build(make).double(), x)] == [0] * len(build(make).feature_paths)


def test_logits_do_not_explode_with_depth() -> None:
    """He's initialisation: a fresh plain network neither loses nor blows up its signal."""
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for make in (lambda: ConvNet([32] * 8, 32, halved=[4]), lambda: MLP(256, 32, 8)):
        network = build(make).train()
        assert 0.1 < network(x).std() < 10
    weights = build(lambda: ConvNet([32, 64], 10)).blocks[1].conv.weight
    assert weights.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)  # fan-out
    hidden = build(lambda: MLP(256, 10, 8)).layers
    assert hidden[0].linear.weight.std().item() == pytest.approx((2 / 192) ** 0.5, rel=0.02)
    assert hidden[1].linear[0].weight.std().item() == pytest.approx((1 / 256) ** 0.5, rel=0.02)  # no ReLU after it
    assert hidden[1].linear[1].weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.02)


def test_dropout_is_drawn_in_training() -> None:
    network = build(lambda: MLP(64, 4, 4, 1, dropout=0.5))
    x = images(8, 1, 4, 4)
    assert not torch.equal(network(x), network(x))
    still = build(lambda: MLP(64, 4, 4, 1, dropout=0.0))
    assert torch.equal(still(x), still(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WideResNet(15, 1), "depth is 6 n \\+ 4 .* not 15"),
        (lambda: WideResNet(4, 1), "not 4"),
        (lambda: WideResNet(16, 0), "WideResNet: width must be positive, not 0"),
        (lambda: WideResNet(16, 1, classes=0), "classes must be positive"),
        (lambda: WideResNet(16, 1, channels=0), "channels must be positive"),
        (lambda: WideResNet(16, 1, dropout=1.0), "dropout is a share"),
        (lambda: ResNet(21), "not 21; near it are 20, 26"),
        (lambda: ResNet(2), "near it are 8"),
        (lambda: ResNet(170), "not 170; near it are 164, 173"),
        (lambda: MLP(10), "multiple of 4, not 10"),
        (lambda: MLP(0), "hidden must be at least 4"),
        (lambda: MLP(8, dropout=-0.1), "dropout is a share"),
        (lambda: MLP(8, image_size=0), "image_size must be positive"),
        (lambda: LeNet(image_size=16), "28 or 32, not 16"),
        (lambda: LeNet(width=0), "width must be positive"),
        (lambda: ConvNet([]), "at least one block"),
        (lambda: ConvNet([4, 0]), r"widths\[1\] must be positive"),
        (lambda: ConvNet([4, 4], halved=[2]), r"blocks from 0 to 1, but is \[2\]"),
        (lambda: ConvNet([4, 4], halved=[1, 1]), "different blocks"),
        (lambda: VGG9()(images(1, 3, 28, 28)), "28x28 pixels; it needs at least 32 a side"),
        (lambda: ConvNet([4] * 4)(images(1, 3, 8, 4)), "8x4 pixels; it needs at least 8"),
        (lambda: WideResNet(10, 1)(images(1, 1, 8, 8)), r"\(batch, 3, height, width\), but got \(1, 1, 8, 8\)"),
        (lambda: WideResNet(10, 1)(images(3, 8, 8)), r"but got \(3, 8, 8\)"),
        (lambda: MLP(8, image_size=8)(images(1, 3, 8, 9)), "8x8 pixels, but got 8x9"),
        (lambda: LeNet()(images(1, 1, 32, 32)), "28x28 pixels, but got 32x32"),
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        make()

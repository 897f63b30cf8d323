"""Plain networks: sizes against those counted by hand from the papers, shapes of features, initialisation."""

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


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def build(make: Callable[[], ImageNetwork], seed: int = 0) -> ImageNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def features(network: ImageNetwork, x: Tensor) -> list[Tensor]:
    found = []
    for path in network.feature_paths:
        network.get_submodule(path).register_forward_hook(lambda module, given, output: found.append(output))
    network(x)
    return found


# ----------------------------------------------------------------------------------------------------------- by hand


def norm(channels: int) -> int:
    return 2 * channels


def wide_resnet(depth: int, k: int, classes: int = 10, channels: int = 3) -> int:
    """Weights of every layer of Zagoruyko & Komodakis's Table 1, added up."""
    total, before = 9 * channels * 16, 16
    for after in (16 * k, 32 * k, 64 * k):
        total += norm(before) + 9 * before * after + norm(after) + 9 * after * after
        total += before * after if before != after else 0
        total += ((depth - 4) // 6 - 1) * 2 * (norm(after) + 9 * after * after)
        before = after
    return total + norm(before) + before * classes + classes


def plain_resnet(depth: int, classes: int = 10) -> int:
    total, before = 9 * 3 * 16 + norm(16), 16
    for after in (16, 32, 64):
        total += 9 * before * after + ((depth - 2) // 3 - 1) * 9 * after * after + (depth - 2) // 3 * norm(after)
        before = after
    return total + 64 * classes + classes


def bottleneck_resnet(depth: int, classes: int = 10) -> int:
    total, before = 9 * 3 * 16, 16
    for inner in (16, 32, 64):
        after = 4 * inner
        same = norm(inner) + 9 * inner * inner + norm(inner) + inner * after
        total += norm(before) + before * inner + same + before * after
        total += ((depth - 2) // 9 - 1) * (norm(after) + after * inner + same)
        before = after
    return total + norm(before) + before * classes + classes


@pytest.mark.parametrize(
    ("make", "by_hand", "published"),
    [
        (lambda: WideResNet(40, 2), wide_resnet(40, 2), 2_243_546),
        (lambda: WideResNet(16, 1), wide_resnet(16, 1), 175_066),
        (lambda: WideResNet(16, 2, classes=100), wide_resnet(16, 2, 100), 703_284),
        (lambda: WideResNet(40, 1, channels=1), wide_resnet(40, 1, channels=1), None),
        (lambda: WideResNet(28, 10), wide_resnet(28, 10), 36_479_194),
        (lambda: ResNet(20), plain_resnet(20), 269_722),
        (lambda: ResNet(56), plain_resnet(56), 853_018),
        (lambda: ResNet(110), plain_resnet(110), 1_727_962),
        (lambda: ResNet(164), bottleneck_resnet(164), 1_703_258),
        (lambda: ResNet(18, classes=1000), None, 11_689_512),
        (lambda: ResNet(34, classes=1000), None, 21_797_672),
        # A 3x3 convolution in place of the 7x7 one.
        (lambda: ResNet(34, 1000, small_images=True), 21_797_672 - (49 - 9) * 3 * 64, None),
        (
            VGG9,
            9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 3 * 512 * 512)
            + norm(64 + 128 + 2 * 256 + 4 * 512) + 512 * 10 + 10,
            None,
        ),
        (
            lambda: MLP(4096),
            3 * 32 * 32 * 4096 + 3 * 2 * 4096 * 1024 + 4 * norm(4096) + 4096 * 10 + 10,
            None,
        ),
        (lambda: LeNet(), None, 61_706),
        (
            lambda: LeNet(width=2, image_size=32, channels=3),
            25 * 3 * 12 + 12 + 25 * 12 * 32 + 32 + 25 * 32 * 240 + 240 + 240 * 168 + 168 + 1680 + 10,
            None,
        ),
        (lambda: ConvNet([4, 6], 5, 1), 9 * 4 + norm(4) + 9 * 4 * 6 + norm(6) + 30 + 5, None),
    ],
)  # fmt: skip
def test_sizes(make: Callable[[], ImageNetwork], by_hand: int | None, published: int | None) -> None:
    with torch.device("meta"):
        found = count(make())
    assert found in (by_hand, published)
    assert by_hand is None or published is None or by_hand == published


def test_names_of_large_residual_networks_are_the_usual_ones() -> None:
    with torch.device("meta"):
        names = ResNet(18).state_dict().keys()
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv2.weight", "layer4.1.bn2.bias", "fc.bias"} <= names
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_var"} <= names
    assert not any(name.startswith("layer1.0.downsample") for name in names)
    assert len(names) == 122


# ------------------------------------------------------------------------------------------------------------ shapes

SMALL = [
    pytest.param(lambda channels: WideResNet(10, 2, 7, channels), [(16, 1), (32, 1), (64, 2), (128, 4)], id="wrn"),
    pytest.param(lambda channels: ResNet(8, 7, channels), [(16, 1), (16, 1), (32, 2), (64, 4)], id="resnet"),
    pytest.param(lambda channels: ConvNet([4, 5, 6], 7, channels), [(4, 1), (5, 2), (6, 4)], id="conv net"),
]


@pytest.mark.parametrize(("pixels", "channels"), [(8, 1), (28, 1), (32, 3), (64, 3)])
@pytest.mark.parametrize(("make", "expected"), SMALL)
def test_any_size(make: Callable, expected: list[tuple[int, int]], pixels: int, channels: int) -> None:
    network, x = make(channels), images(2, channels, pixels, pixels)
    found = features(network, x)
    assert [tuple(h.shape) for h in found] == [(2, c, pixels // d, pixels // d) for c, d in expected]
    assert network(x).shape == (2, 7)


def test_deep_bottlenecks() -> None:
    shapes = [tuple(h.shape[1:]) for h in features(ResNet(164, channels=1), images(1, 1, 8, 8))]
    assert shapes == [(16, 8, 8), (64, 8, 8), (128, 4, 4), (256, 2, 2)]


def test_large_and_small_images() -> None:
    large, small = ResNet(18, 5), ResNet(18, 5, small_images=True)
    assert [h.shape[2] for h in features(large, images(1, 3, 64, 64))] == [16, 8, 4, 2]
    assert [tuple(h.shape[1:]) for h in features(small, images(1, 3, 16, 16))] == [
        (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2),
    ]  # fmt: skip


def test_vgg_matches_the_last_groups_of_a_residual_network() -> None:
    x = images(1, 3, 64, 64)
    poolings = [tuple(h.shape[1:]) for h in features(VGG9(5), x)]
    assert poolings == [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]
    assert [size[1:] for size in poolings[2:]] == [tuple(h.shape[2:]) for h in features(ResNet(34, 5), x)[2:]]


def test_hidden_layers_of_vectors() -> None:
    assert [tuple(h.shape) for h in features(MLP(8, 5, 4, 1), images(3, 1, 4, 4))] == [(3, 8)] * 4
    assert [tuple(h.shape[1:]) for h in features(LeNet(), images(3, 1, 28, 28))] == [
        (6, 14, 14), (16, 5, 5), (120,), (84,),
    ]  # fmt: skip
    assert features(LeNet(image_size=32), images(3, 1, 32, 32))[1].shape[1:] == (16, 5, 5)


def test_odd_sizes_round_up_on_both_ways_through_a_block() -> None:
    x = images(2, 1, 7, 5)
    for network in (WideResNet(10, 1, channels=1), ResNet(8, channels=1)):
        assert [tuple(h.shape[2:]) for h in features(network, x)] == [(7, 5), (7, 5), (4, 3), (2, 2)]
    large = ResNet(18, channels=1, small_images=True)
    assert [tuple(h.shape[2:]) for h in features(large, x)] == [(7, 5), (4, 3), (2, 2), (1, 1)]


# ------------------------------------------------------------------------------------------------------ what they do

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


def test_dropout_only_in_training() -> None:
    network = build(lambda: MLP(64, 4, 4, 1, dropout=0.5))
    x = images(8, 1, 4, 4)
    assert not torch.equal(network(x), network(x))
    still = build(lambda: MLP(64, 4, 4, 1, dropout=0.0))
    assert torch.equal(still(x), still(x))


# ---------------------------------------------------------------------------------------------------------- bad input


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
def test_what_cannot_work(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        make()

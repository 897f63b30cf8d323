"""Plain networks have as many weights as was counted by hand from the papers, and features of the right shapes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from limbeck.models.networks import MLP, VGG9, ConvNet, LeNet, ResNet, WideResNet
from limbeck.models.networks.base import ImageNetwork
from tests.models.networks.network_features import features, images


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


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
def test_sizes_are_those_counted_and_published(
    make: Callable[[], ImageNetwork], by_hand: int | None, published: int | None
) -> None:
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


SMALL = [
    pytest.param(lambda channels: WideResNet(10, 2, 7, channels), [(16, 1), (32, 1), (64, 2), (128, 4)], id="wrn"),
    pytest.param(lambda channels: ResNet(8, 7, channels), [(16, 1), (16, 1), (32, 2), (64, 4)], id="resnet"),
    pytest.param(lambda channels: ConvNet([4, 5, 6], 7, channels), [(4, 1), (5, 2), (6, 4)], id="conv net"),
]


@pytest.mark.parametrize(("pixels", "channels"), [(8, 1), (28, 1), (32, 3), (64, 3)])
@pytest.mark.parametrize(("make", "expected"), SMALL)
def test_features_have_their_sizes_for_any_image(
    make: Callable, expected: list[tuple[int, int]], pixels: int, channels: int
) -> None:
    network, x = make(channels), images(2, channels, pixels, pixels)
    found = features(network, x)
    assert [tuple(h.shape) for h in found] == [(2, c, pixels // d, pixels // d) for c, d in expected]
    assert network(x).shape == (2, 7)


def test_deep_bottlenecks_have_four_times_the_channels() -> None:
    shapes = [tuple(h.shape[1:]) for h in features(ResNet(164, channels=1), images(1, 1, 8, 8))]
    assert shapes == [(16, 8, 8), (64, 8, 8), (128, 4, 4), (256, 2, 2)]


def test_small_images_are_not_halved_at_the_start() -> None:
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


def test_hidden_layers_of_vectors_are_features() -> None:
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

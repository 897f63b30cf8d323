"""The networks that VID predicts a teacher's features with: sizes, widths, and which positions they look at."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from limbeck.core.delta import Delta
from limbeck.core.divergence import vid as vid_module
from limbeck.core.divergence.mean_network import Grid, MeanNetwork, Resize
from limbeck.divergence import VID
from tests.core.divergence.observed_features import CLOSE, made
from tests.features import normal

SIZES = [
    ((3, 8, 8), (5, 8, 8)), ((3, 16, 16), (5, 8, 8)), ((3, 4, 4), (5, 8, 8)), ((3, 9, 6), (5, 3, 3)),
    ((3, 2, 3), (5, 6, 9)), ((3, 8, 4), (5, 4, 8)), ((3, 7, 7), (5, 5, 5)), ((3, 5, 5), (5, 7, 7)),
    ((3,), (5, 1, 1)), ((3,), (5, 2, 2)), ((3,), (5, 4, 4)), ((3,), (5, 7, 7)), ((3,), (5, 8, 8)), ((3,), (5, 28, 28)),
    ((3,), (5, 32, 32)), ((3,), (5, 12, 6)), ((3,), (5, 11, 11)), ((3,), (5, 17, 3)), ((3, 2, 2), (5,)), ((3,), (5,)),
    ((3, 12), (5, 12)), ((3, 12), (5, 4)), ((3, 5), (5, 12)), ((3,), (5, 16)),
]  # fmt: skip


@pytest.mark.parametrize(("student", "teacher"), SIZES)
@pytest.mark.parametrize("layers", [1, 3])
def test_sizes_are_met(student: tuple[int, ...], teacher: tuple[int, ...], layers: int) -> None:
    network = MeanNetwork(student, teacher, outputs=2, layers=layers)
    assert network(torch.randn(2, *student)).shape == (2, math.prod(teacher[1:]), 10)


def kernels(network: MeanNetwork) -> list[tuple[int, int, int]]:
    """Kernel, stride and padding of each transposed convolution."""
    return [
        (layer.kernel_size[0], layer.stride[0], layer.padding[0])
        for layer in network.modules()
        if isinstance(layer, torch.nn.ConvTranspose2d)
    ]


def test_a_vector_grows_into_a_map_as_in_the_paper() -> None:
    network = MeanNetwork((6,), (5, 16, 16), layers=3)
    assert kernels(network) == [(4, 1, 0), (4, 2, 1), (4, 2, 1)]
    assert not any(isinstance(module, torch.nn.ReLU | torch.nn.BatchNorm2d) for module in network.modules())
    (own,) = normal(((6,),), 0, 3)
    network.double()
    x = own[:, :, None, None]
    for layer, (_, stride, padding) in zip(network.spatial[1:], kernels(network), strict=True):
        x = F.conv_transpose2d(x, layer.weight, layer.bias, stride=stride, padding=padding)
    torch.testing.assert_close(network(own), x.flatten(2).mT, **CLOSE)
    assert kernels(MeanNetwork((6,), (5, 28, 28))) == [(7, 1, 0), (4, 2, 1), (4, 2, 1)]
    assert kernels(MeanNetwork((6,), (5, 2, 2))) == [(2, 1, 0)]
    assert kernels(MeanNetwork((6,), (5, 11, 11))) == [(4, 1, 0), (4, 2, 1), (4, 2, 1)]


@pytest.mark.parametrize(
    ("size", "target", "layer"),
    [
        ((8, 6), (4, 2), nn.Conv2d),
        ((4, 2), (8, 6), nn.ConvTranspose2d),
        ((8, 2), (4, 4), Resize),
        ((6, 6), (4, 4), Resize),
        ((4, 4), (6, 8), Resize),
        ((9,), (3,), nn.Conv1d),
        ((4, 4), (4, 4), nn.Identity),
    ],
)
def test_a_stride_is_learned_where_one_size_divides_the_other(
    size: tuple[int, ...], target: tuple[int, ...], layer: type[nn.Module]
) -> None:
    assert type(MeanNetwork((3, *size), (5, *target)).spatial) is layer


@pytest.mark.parametrize("bias", [True, False])
def test_only_the_last_layer_of_a_growing_map_may_lack_a_bias(bias: bool) -> None:
    first, last = (MeanNetwork((3,), (5, 8, 8), bias=bias).spatial[place] for place in (1, 2))
    assert first.bias is not None
    assert (last.bias is not None) is bias


def test_hidden_widths_are_multiples_of_the_teachers() -> None:
    def widths(**settings) -> list[int]:
        network = MeanNetwork((3, 4, 4), (8, 4, 4), **settings)
        return [layer.out_channels for layer in network.pointwise if isinstance(layer, torch.nn.Conv2d)]

    assert widths(layers=3, hidden=2.0) == [16, 16, 8]
    assert widths(layers=2, hidden=0.5) == [4, 8]
    assert widths(layers=1) == [8]


@pytest.mark.parametrize(("size", "positions"), [((8, 8), 64), ((8, 8), 16), ((9, 5), 7), ((12,), 5), ((3, 3), 1)])
def test_every_position_belongs_to_one_grid(size: tuple[int, ...], positions: int) -> None:
    torch.manual_seed(0)
    feature = torch.arange(math.prod(size), dtype=torch.float64).view(1, 1, *size)
    grids = {}
    for _ in range(2000):
        grid = Grid.drawn(size, positions)
        grids[tuple(place.start for place in grid.places)] = grid.of(feature).flatten().tolist()
    assert len(grids) == grid.share >= math.prod(size) / positions
    assert grid.share == 1 or math.prod(size) / grid.share > positions / 2
    assert sorted(itertools.chain(*grids.values())) == feature.flatten().tolist()


def test_looking_at_some_positions_is_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over all places of the grid is what all positions give, gradient included."""
    divergence, theirs, own = made(VID(layers=1, positions=None), (5, 7, 6), (2, 7, 6))
    own.requires_grad_()
    whole = divergence(Delta(theirs), Delta(own))
    expected = torch.autograd.grad(whole.sum(), own)[0]
    rows, gradients = [], []
    for first in range(3):
        for second in range(2):
            grid = Grid((3, 2), (first, second))
            monkeypatch.setattr(vid_module.Grid, "drawn", lambda *_, grid=grid: grid)
            rows.append(divergence(Delta(theirs), Delta(own)))
            gradients.append(torch.autograd.grad(rows[-1].sum(), own)[0])
    torch.testing.assert_close(torch.stack(rows).mean(0), whole, **CLOSE)
    torch.testing.assert_close(torch.stack(gradients).mean(0), expected, **CLOSE)


def test_the_layout_makes_no_difference() -> None:
    divergence, theirs, own = made(VID(layers=1, positions=None), (5, 8, 6), (2, 8, 6))
    grid = Grid((2, 3), (1, 0))
    for feature in (theirs, own):
        other = feature.contiguous(memory_format=torch.channels_last)
        assert torch.equal(grid.of(other), grid.of(feature))
        other.requires_grad_()
        (gradient,) = torch.autograd.grad(grid.of(other).square().sum(), other)
        assert gradient.is_contiguous(memory_format=torch.channels_last)
    last = [Delta(x.contiguous(memory_format=torch.channels_last)) for x in (theirs, own)]
    torch.testing.assert_close(divergence(*last), divergence(Delta(theirs), Delta(own)), **CLOSE)


def test_evaluation_looks_at_all_positions() -> None:
    divergence, theirs, own = made(VID(layers=1, positions=4), (5, 8, 8), (2, 8, 8))
    whole = made(VID(layers=1, positions=None), (5, 8, 8), (2, 8, 8))[0]
    assert not torch.equal(divergence(Delta(theirs), Delta(own)), whole(Delta(theirs), Delta(own)))
    torch.testing.assert_close(divergence.eval()(Delta(theirs), Delta(own)), whole(Delta(theirs), Delta(own)), **CLOSE)


def test_maps_predicted_from_vectors_use_all_positions() -> None:
    """Fewer would not be less work: transposed convolutions yield all at once."""
    few, theirs, own = made(VID(positions=4), (5, 8, 8), (3,))
    whole = made(VID(positions=None), (5, 8, 8), (3,))[0]
    assert torch.equal(few(Delta(theirs), Delta(own)), whole(Delta(theirs), Delta(own)))

"""A smaller U-Net takes over a part of a larger one: which, how much, and that it helps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.errors import ModelError
from limbeck.models import DDIM
from limbeck.models.diffusion.unet_inheritance import inherit
from limbeck.models.diffusion.unet_layout import FIXED, FREQUENCIES, unet_layout
from limbeck.models.diffusion.unet_network import build_unet
from tests.zoo import TINY_UNET

pytest.importorskip("diffusers")

WIDE = TINY_UNET | {"block_out_channels": [8, 16], "layers_per_block": 2, "num_class_embeds": 3}
NETWORKS: dict[str, dict[str, Any]] = {
    "tiny": TINY_UNET,
    "wide": WIDE,
    "one width": WIDE | {"block_out_channels": [8, 8]},
    "three levels": WIDE | {
        "block_out_channels": [4, 8, 8],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    },
    "scale and shift": WIDE | {"resnet_time_scale_shift": "scale_shift"},
    "one head": WIDE | {"attention_head_dim": None},
    "no attention in the middle": WIDE | {"add_attention": False},
    "fourier": WIDE | {"time_embedding_type": "fourier"},
}  # fmt: skip


def network(seed: int = 0, **changes: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = build_unet(WIDE | changes)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return built.eval()


@torch.no_grad()
def told(unet: Any) -> Tensor:
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    found: Tensor = unet(x, torch.tensor([3, 500, 999]), class_labels=torch.tensor([0, 1, 2])).sample
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layout_covers_every_weight_in_its_shape(name: str) -> None:
    unet = build_unet(NETWORKS[name])
    found = unet_layout(unet)
    known = {key: tuple(tensor.shape) for key, tensor in unet.state_dict().items()}
    assert set(known) - set(found) <= {"time_proj.weight"}
    assert {key: tuple(sum(part.size for part in axis) for axis in axes) for key, axes in found.items()} == {
        key: known[key] for key in found
    }


def test_spaces_are_tied_where_the_network_adds() -> None:
    found = unet_layout(build_unet(WIDE))
    stream = found["conv_in.weight"][0]
    assert found["down_blocks.0.resnets.0.conv1.weight"][1] == stream  # nothing changes the width in between
    assert found["down_blocks.0.resnets.1.conv2.weight"][0] == stream
    first = found["up_blocks.1.resnets.2.conv1.weight"][1]
    assert first[1:] == stream  # the first state comes last, concatenated
    assert found["down_blocks.1.resnets.0.conv_shortcut.weight"][0] != stream
    assert found["time_embedding.linear_1.weight"][1][0].space == FREQUENCIES
    assert found["conv_out.weight"][0][0].space == FIXED


def test_equal_networks_become_one_function() -> None:
    teacher, student = network(), network(1)
    assert (told(teacher) - told(student)).abs().max() > 1e-3
    found = inherit(student, teacher)
    assert torch.equal(told(teacher), told(student))
    assert (found.part, found.fresh, found.share) == (0, 0, 1.0)
    assert str(found).startswith("all ")


SMALLER: dict[str, tuple[dict[str, Any], float]] = {
    "channels": ({"block_out_channels": [4, 8]}, 1.0),
    "an odd share of them": ({"block_out_channels": [6, 10], "attention_head_dim": None}, 1.0),
    "layers": ({"layers_per_block": 1}, 1.0),
    "both": ({"block_out_channels": [4, 8], "layers_per_block": 1}, 1.0),
    "groups": ({"block_out_channels": [4, 8], "norm_num_groups": 1}, 1.0),
    "heads": ({"block_out_channels": [4, 8], "attention_head_dim": 2}, 1.0),
    "no classes": ({"num_class_embeds": None}, 1.0),
    "other classes": ({"num_class_embeds": 5}, 0.95),
    "blocks": (
        {"block_out_channels": [8], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}, 0.9,
    ),
    "attention that the teacher lacks": (
        {"down_block_types": ["AttnDownBlock2D"] * 2, "up_block_types": ["AttnUpBlock2D"] * 2}, 0.8,
    ),
    "wider": ({"block_out_channels": [12, 24]}, 0.3),
    "more layers": ({"layers_per_block": 3}, 0.9),
    "more levels": (
        {"block_out_channels": [8, 16, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
         "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]}, 0.5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALLER)
def test_every_number_is_counted_once(name: str) -> None:
    changes, least = SMALLER[name]
    teacher, student = network(), network(1, **changes)
    before = {key: tensor.clone() for key, tensor in student.state_dict().items()}
    found = inherit(student, teacher)
    assert found.whole + found.part + found.fresh == sum(tensor.numel() for tensor in before.values())
    assert least <= found.share <= 1.0
    changed = sum(int((tensor != before[key]).sum()) for key, tensor in student.state_dict().items())
    assert changed == pytest.approx(found.whole + found.part, rel=0.02)  # zeros may be equal by chance
    assert torch.isfinite(student.conv_out.weight).all()


def test_the_channels_that_count_are_found_wherever_they_are() -> None:
    """A small network hidden in a larger one, whose other channels do nothing, comes back as the same function."""
    small = network(block_out_channels=[4, 8], layers_per_block=1, norm_num_groups=4, attention_head_dim=4)
    large = network(1, layers_per_block=1, norm_num_groups=4, attention_head_dim=4)
    sizes = {len(axis): None for axes in unet_layout(large).values() for axis in axes}
    assert sizes
    with torch.no_grad():
        for key, tensor in large.state_dict().items():
            tensor.mul_(1e-6)
            hidden = small.state_dict()[key]
            places = [_spread(key, axis, n, m) for axis, (n, m) in enumerate(zip(hidden.shape, tensor.shape))]
            tensor[torch.meshgrid(*places, indexing="ij")] = hidden
    student = network(2, block_out_channels=[4, 8], layers_per_block=1, norm_num_groups=4, attention_head_dim=4)
    inherit(student, large)
    for key, tensor in student.state_dict().items():
        if not key.startswith("time_embedding.linear_1"):
            torch.testing.assert_close(tensor, small.state_dict()[key], rtol=0, atol=1e-4, msg=key)


def _spread(key: str, axis: int, few: int, many: int) -> Tensor:
    """Where the small network's channels are put: the second of every two, and of an attention's the second head."""
    if few == many:
        return torch.arange(few)
    if (
        "attentions" in key
        and (("to_out" in key) == (axis == 1))
        and "norm" not in key
        and not ("to_out" in key and "bias" in key)
    ):
        return torch.arange(few) + few
    if "time_embedding.linear_1.weight" in key and axis == 1:
        return torch.arange(few) * 2
    return torch.arange(few) * 2 + 1


def test_frequencies_go_to_the_nearest() -> None:
    teacher, student = network(), network(1, block_out_channels=[4, 8])
    inherit(student, teacher)
    wide, narrow = (unet.time_embedding.linear_1.weight for unet in (teacher, student))
    assert (wide.shape[1], narrow.shape[1]) == (8, 4)  # four frequencies 10^0, 10^-1, 10^-2, 10^-3, and 10^0, 10^-2
    sums = [wide[:, [0]].sum(1), wide[:, [1, 2, 3]].sum(1), wide[:, [4]].sum(1), wide[:, [5, 6, 7]].sum(1)]
    either = [wide[:, [0, 1]].sum(1), wide[:, [2, 3]].sum(1), wide[:, [4, 5]].sum(1), wide[:, [6, 7]].sum(1)]
    rows = [any(torch.allclose(torch.stack(way, 1)[row], kept) for way in (sums, either) for row in range(len(wide)))
            for kept in narrow]  # fmt: skip
    assert all(rows)


def test_nothing_in_common() -> None:
    teacher = network(in_channels=3, out_channels=3, add_attention=False)
    assert inherit(network(1), teacher).share > 0.9
    student = DDIM(TINY_UNET)
    with pytest.raises(ModelError, match="it has no U-Net"):
        student.inherit(_Without(TINY_UNET))


class _Without(DDIM):
    def __init__(self, unet: dict[str, Any]) -> None:
        super().__init__(unet)
        self.unet = torch.nn.Identity()


def test_a_good_start() -> None:
    """At the start and after the same few steps, the weights of largest norm beat random ones."""
    torch.manual_seed(0)
    y = torch.zeros(64, 1, 4, 4)
    y[::2, :, :2] = y[1::2, :, :, 2:] = 1.0  # white above, or white on the right
    teacher = DDIM(TINY_UNET | {"block_out_channels": [8, 16]}, scheduler={"prediction_type": "v_prediction"})
    train(teacher, y, 150)
    losses = {"teacher": [], "random": []}
    for start in losses:
        torch.manual_seed(1)
        student = DDIM(TINY_UNET, scheduler={"prediction_type": "v_prediction"})
        if start == "teacher":
            student.start_from(teacher)
        losses[start] = train(student, y, 40)
    assert sum(losses["teacher"]) < 0.9 * sum(losses["random"])


def train(ddim: DDIM, y: Tensor, steps: int) -> list[float]:
    from limbeck.core.loss import Batch

    optimizer = torch.optim.Adam(ddim.parameters(), 3e-3)
    losses = []
    torch.manual_seed(2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ddim.loss(Batch(y)).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses

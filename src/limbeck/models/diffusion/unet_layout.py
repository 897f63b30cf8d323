"""Which channels every weight of a U-Net reads and writes, so that a smaller one can keep the same ones everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["FIXED", "FREQUENCIES", "Axis", "Segment", "unet_layout"]

FIXED = "fixed"
"""Space of an axis that a smaller network has in the same size: pixels of a kernel, channels of the images, classes."""

FREQUENCIES = "frequencies"
"""Space of the sines and cosines of the time, whose frequencies depend on how many there are."""


@dataclass(frozen=True)
class Segment:
    """A part of an axis of a tensor.

    Attributes:
        space: name of the set of channels; two segments of one name hold the same channels.
        size: how many.
        unit: channels that stay together: the size of an attention's heads, else 1.
    """

    space: str
    size: int
    unit: int = 1


Axis = tuple[Segment, ...]
"""The segments of one axis; more than one where channels are concatenated."""


def unet_layout(unet: Any) -> dict[str, tuple[Axis, ...]]:
    """The axes of every parameter of a ``UNet2DModel``, as far as its blocks are known.

    A residual connection that changes no width ties what goes in to what comes out; one that does, with its own
    convolution, starts a new space.

    Args:
        unet: the network.

    Returns:
        Name to axes. Parameters of other kinds of blocks are left out.
    """
    return dict(_Walk(unet).run())


class _Walk:
    """The network's forward pass, followed by names of spaces instead of activations."""

    def __init__(self, unet: Any) -> None:
        self.unet = unet
        self.now: Axis = (Segment("conv_in", unet.conv_in.out_channels),)
        self.skips: list[Axis] = [self.now]
        self.time: Axis = (Segment("time", unet.time_embedding.linear_2.out_features),)

    def run(self) -> Iterator[tuple[str, tuple[Axis, ...]]]:
        yield from self.weights("conv_in", self.unet.conv_in, self.now, _fixed(self.unet.conv_in.in_channels))
        yield from self.embeddings()
        for i, block in enumerate(self.unet.down_blocks):
            yield from self.layers(f"down_blocks.{i}", block, up=False)
            yield from self.resampling(f"down_blocks.{i}.downsamplers", getattr(block, "downsamplers", None))
            if getattr(block, "downsamplers", None):
                self.skips.append(self.now)
        if self.unet.mid_block is not None:
            yield from self.middle()
        for i, block in enumerate(self.unet.up_blocks):
            yield from self.layers(f"up_blocks.{i}", block, up=True)
            yield from self.resampling(f"up_blocks.{i}.upsamplers", getattr(block, "upsamplers", None))
        yield from self.norm("conv_norm_out", self.now)
        yield from self.weights("conv_out", self.unet.conv_out, _fixed(self.unet.conv_out.out_channels), self.now)

    def embeddings(self) -> Iterator[tuple[str, tuple[Axis, ...]]]:
        first = self.unet.time_embedding.linear_1
        waves: Axis = (Segment("times", first.in_features),)
        if self.unet.config.time_embedding_type == "positional":
            waves = (Segment(FREQUENCIES, first.in_features // 2),) * 2
        hidden: Axis = (Segment("time hidden", first.out_features),)
        yield from self.weights("time_embedding.linear_1", first, hidden, waves)
        yield from self.weights("time_embedding.linear_2", self.unet.time_embedding.linear_2, self.time, hidden)
        classes = self.unet.class_embedding
        if isinstance(classes, nn.Embedding):
            yield "class_embedding.weight", (_fixed(classes.num_embeddings), self.time)

    def layers(self, name: str, block: Any, *, up: bool) -> Iterator[tuple[str, tuple[Axis, ...]]]:
        attentions = getattr(block, "attentions", None)
        for j, resnet in enumerate(block.resnets):
            taken = self.now + self.skips.pop() if up else self.now
            yield from self.resnet(f"{name}.resnets.{j}", resnet, taken)
            if attentions is not None:
                yield from self.attention(f"{name}.attentions.{j}", attentions[j])
            if not up:
                self.skips.append(self.now)

    def middle(self) -> Iterator[tuple[str, tuple[Axis, ...]]]:
        block = self.unet.mid_block
        for j, resnet in enumerate(block.resnets):
            if j and block.attentions[j - 1] is not None:
                yield from self.attention(f"mid_block.attentions.{j - 1}", block.attentions[j - 1])
            yield from self.resnet(f"mid_block.resnets.{j}", resnet, self.now)

    def resnet(self, name: str, block: Any, taken: Axis) -> Iterator[tuple[str, tuple[Axis, ...]]]:
        if block.conv_shortcut is not None:
            self.now = (Segment(name, block.out_channels),)
            yield from self.weights(f"{name}.conv_shortcut", block.conv_shortcut, self.now, taken)
        else:
            self.now = taken
        inner: Axis = (Segment(f"{name} inner", block.conv1.out_channels),)
        yield from self.norm(f"{name}.norm1", taken)
        yield from self.weights(f"{name}.conv1", block.conv1, inner, taken)
        if block.time_emb_proj is not None:
            told = inner * (block.time_emb_proj.out_features // block.conv1.out_channels)
            yield from self.weights(f"{name}.time_emb_proj", block.time_emb_proj, told, self.time)
        yield from self.norm(f"{name}.norm2", inner)
        yield from self.weights(f"{name}.conv2", block.conv2, self.now, inner)

    def attention(self, name: str, block: Any) -> Iterator[tuple[str, tuple[Axis, ...]]]:
        inner: Axis = (Segment(f"{name} heads", block.inner_dim, block.inner_dim // block.heads),)
        if block.group_norm is not None:
            yield from self.norm(f"{name}.group_norm", self.now)
        for part in ("to_q", "to_k", "to_v"):
            yield from self.weights(f"{name}.{part}", getattr(block, part), inner, self.now)
        yield from self.weights(f"{name}.to_out.0", block.to_out[0], self.now, inner)

    def resampling(self, name: str, layers: Any) -> Iterator[tuple[str, tuple[Axis, ...]]]:
        for j, layer in enumerate(layers or ()):
            conv = getattr(layer, "conv", None)
            if isinstance(conv, nn.Conv2d):
                taken, self.now = self.now, (Segment(f"{name}.{j}", conv.out_channels),)
                yield from self.weights(f"{name}.{j}.conv", conv, self.now, taken)

    def weights(self, name: str, layer: Any, out: Axis, taken: Axis) -> Iterator[tuple[str, tuple[Axis, ...]]]:
        kernel = tuple(_fixed(side) for side in layer.weight.shape[2:])
        yield f"{name}.weight", (out, taken, *kernel)
        if layer.bias is not None:
            yield f"{name}.bias", (out,)

    def norm(self, name: str, channels: Axis) -> Iterator[tuple[str, tuple[Axis, ...]]]:
        yield f"{name}.weight", (channels,)
        yield f"{name}.bias", (channels,)


def _fixed(size: int) -> Axis:
    return (Segment(FIXED, size),)

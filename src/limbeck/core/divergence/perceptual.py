"""Distance of images in the features of a network, which is closer to how people compare images than pixels are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from typing_extensions import override

from limbeck.core.expectation import mean
from limbeck.errors import DivergenceError

__all__ = ["FeatureDistance"]


class FeatureDistance(nn.Module):
    r"""Squared distance between the features of two images, each position's features scaled to length 1.

    .. math:: d(a, b) = \sum_l \frac{1}{|P_l|} \sum_{p \in P_l}
              \left\| \frac{f_{lp}(a)}{\|f_{lp}(a)\|} - \frac{f_{lp}(b)}{\|f_{lp}(b)\|} \right\|^2

    over the layers l of a network and their positions p: the distance of Zhang et al. (2018) without its learned
    weights. It ignores what the network ignores, so use it beside a distance of pixels. The network is frozen,
    and stays in eval mode; a measure such as the FID should not look through the same one.

    Args:
        network: takes images in [0, 1], shape (batch, channels, height, width), and returns features of shape
            (batch, features) or (batch, features, height, width); or a TorchScript file of such a network. A file is a
            program: load only files that you trust. ``None``: in a recipe, a classifier of the data's own labels, which
            is trained for this purpose, from another seed than the classifier that measures.
        layers: names of modules of the network whose outputs are compared; by default its own output alone.

    Raises:
        DivergenceError: the file is no network, or has no such layer.

    References:
        Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018 (Eq. 1).
    """

    def __init__(self, network: nn.Module | str | Path | None = None, layers: Sequence[str] = ()) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.network: nn.Module | None = None
        if network is not None:
            self.use(network if isinstance(network, nn.Module) else _script(Path(network)))

    @override
    def extra_repr(self) -> str:
        """Which layers are compared: the fingerprint of a training is made of it."""
        return f"layers={list(self.layers)}"

    def use(self, network: nn.Module) -> None:
        """Compare in the features of this network.

        Raises:
            DivergenceError: it lacks one of the layers.
        """
        names = dict(network.named_modules())
        for layer in self.layers:
            if layer not in names:
                raise DivergenceError(f"the network has no module {layer!r}; it has: {', '.join(filter(None, names))}")
        for parameter in network.parameters():  # not requires_grad_(), which a TorchScript module lacks
            parameter.requires_grad = False
        self.network = network.eval()

    @override
    def train(self, mode: bool = True) -> Self:
        """The network stays as it is."""
        super().train(mode)
        if self.network is not None:
            self.network.eval()
        return self

    @override
    def forward(self, p: Distribution, q: Distribution) -> Tensor:
        """Compare the means of two laws of images.

        Args:
            p: teacher's law, mean of shape (batch, channels, height, width), in [0, 1].
            q: student's law, of the same shape.

        Returns:
            Shape (batch,).

        Raises:
            DivergenceError: there is no network yet.
        """
        if self.network is None:
            raise DivergenceError(
                "FeatureDistance has no network to look through; give network=FILE or a module (in a recipe with "
                "labelled images the classifier of its data is used)"
            )
        with torch.no_grad():
            theirs = self._features(mean(p))
        own = self._features(mean(q))
        return torch.stack([_distance(a, b) for a, b in zip(theirs, own, strict=True)]).sum(0)

    def _features(self, images: Tensor) -> list[Tensor]:
        """Of each layer, shape (batch, features, ...)."""
        assert self.network is not None
        if not self.layers:
            return [self.network(images)]
        with _recorded(self.network, self.layers) as found:
            self.network(images)
        return [found[layer] for layer in self.layers]


def _distance(a: Tensor, b: Tensor) -> Tensor:
    difference = nn.functional.normalize(a, dim=1) - nn.functional.normalize(b, dim=1)
    return difference.square().sum(1).flatten(1).mean(1) if a.ndim > 2 else difference.square().sum(1)


@contextmanager
def _recorded(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Outputs of layers of a network while it runs; the hooks are removed afterwards."""
    found: dict[str, Tensor] = {}

    def recorder(name: str) -> Any:
        def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found[name] = output

        return record

    handles = [network.get_submodule(layer).register_forward_hook(recorder(layer)) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _script(path: Path) -> nn.Module:
    try:
        return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call, no-any-return]
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DivergenceError(f"{path} is no TorchScript network ({reason}); write it with torch.jit.save") from None

"""Networks for tests of their wrapper, and what is read off its graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.core.loss import Batch
from limbeck.models import NetworkClassifier

WRN = {"depth": 10, "width": 2, "channels": 1, "classes": 4}


class Small(nn.Module):
    """A network of a user's: an activation that is used twice, a list of blocks, a head that is not the last module."""

    def __init__(self, width: int = 3, inplace: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 4)
        self.first = nn.Conv2d(1, width, 3)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.relu = nn.ReLU(inplace=inplace)
        self.projection = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = self.relu(block(h))
        return self.fc(h.mean((2, 3)))


class Pair(Small):
    """One that returns, and has inside, what is not one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(3, 3, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h, _ = self.memory(self.first(x).flatten(2).transpose(1, 2))
        return {"logits": self.fc(h.mean(1))}


def images(rows: int = 5, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)


def wide(seed: int = 0, **settings: int) -> NetworkClassifier:
    """A network whose batch norms have seen something."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = NetworkClassifier("WideResNet", {**WRN, **settings})
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2.0)
    return model.eval()


def narrow() -> NetworkClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NetworkClassifier("ConvNet", {"widths": [3, 4, 5], "channels": 1, "classes": 4}).eval()


def small(features: object = ("first",), **settings: object) -> NetworkClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NetworkClassifier.wrap(Small(**settings), features).eval()


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def numbers(model: NetworkClassifier, x: Tensor) -> dict[str, Tensor]:
    laws = {name: site.distribution for name, site in model.trace(x=x).items()}
    return {name: law.logits if name == "y" else law.value for name, law in laws.items()}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5, msg=name)


def rows(count: int = 24) -> Batch:
    x = images(count)
    return Batch((4 * x[:, 0, 0, 0]).long(), x)

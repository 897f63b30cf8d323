"""The plain network and its hidden layers as sites."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.core.loss import Batch
from limbeck.core.trace import Kind
from limbeck.errors import ModelError
from limbeck.models import MLPClassifier


def built(*widths: int) -> MLPClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLPClassifier(inputs=6, classes=3, widths=list(widths)).double()


def rows(count: int) -> Batch:
    x = torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(torch.arange(count) % 3, x)


@pytest.mark.parametrize("widths", [(), (5,), (5, 4, 7)])
def test_it_is_a_network(widths: tuple[int, ...]) -> None:
    model, batch = built(*widths), rows(9)
    layers: list[nn.Module] = [nn.Flatten()]
    for layer in model.layers:
        layers += [layer, nn.ReLU()]
    network = nn.Sequential(*layers, model.head)
    logits = network(batch.x)
    trace = model.trace(x=batch.x)
    torch.testing.assert_close(trace["y"].distribution.probs, logits.softmax(1))
    expected = nn.functional.cross_entropy(logits, batch.y)
    assert model.loss(batch).total.item() == pytest.approx(expected.item(), rel=1e-12)
    assert [site.value.shape[1] for site in trace.of_kind(Kind.DETERMINISTIC)] == list(widths)


def test_a_feature_can_be_replaced() -> None:
    model, batch = built(5, 4), rows(4)
    changed = torch.ones(4, 5, dtype=torch.float64)
    trace = model.trace(x=batch.x, values={"h[0]": changed})
    torch.testing.assert_close(trace["h[1]"].value, torch.relu(model.layers[1](changed)))


def test_refusals() -> None:
    model = built(5)
    with pytest.raises(ModelError, match=r"needs something"):
        model.trace(2)
    with pytest.raises(ModelError, match=r"4 values, not inputs=6"):
        model.loss(Batch(torch.zeros(1, dtype=torch.int64), torch.zeros(1, 4)))
    with pytest.raises(ModelError, match=r"positive"):
        MLPClassifier(6, 3, [4, 0])

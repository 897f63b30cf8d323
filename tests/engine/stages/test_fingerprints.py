"""Fingerprints of plain values and of weights: what counts, and what does not."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from limbeck.engine.settings.options import Training
from limbeck.engine.stages.fingerprints import describe_tensor, fingerprint, weights_fingerprint
from tests.tiny import built


def test_order_does_not_matter_but_content_does() -> None:
    assert fingerprint(a=1, b={"c": 2, "d": 3}) == fingerprint(b={"d": 3, "c": 2}, a=1)
    parts = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": None}, {"a": [1]}, {"a": Training()}]
    assert len({fingerprint(**part) for part in parts}) == len(parts)


def test_dataclasses_by_their_fields() -> None:
    assert fingerprint(a=Training(steps=5)) == fingerprint(a=dataclasses.asdict(Training(steps=5)))


def test_of_something_without_a_stable_form() -> None:
    with pytest.raises(TypeError, match="cannot be part of a fingerprint"):
        fingerprint(a=object())


def test_weights_bit_for_bit() -> None:
    model = built(norm=True)
    before = weights_fingerprint(model)
    assert before == weights_fingerprint(built(norm=True))
    with torch.no_grad():
        model.body[0].bias[1].copy_(torch.nextafter(model.body[0].bias[1], torch.tensor(9.0)))
    assert weights_fingerprint(model) != before


def test_tensors_bit_for_bit() -> None:
    tensors = [
        torch.zeros(4),
        torch.zeros(2, 2),
        torch.zeros(0),
        torch.zeros(4).byte(),
        torch.tensor(0.0),
        -torch.zeros(4),
    ]
    assert len({str(describe_tensor(tensor)) for tensor in tensors}) == len(tensors)
    square = torch.arange(4.0).view(2, 2)
    assert describe_tensor(square.T) == describe_tensor(square.T.contiguous()) != describe_tensor(square)


def test_buffers_and_precision_count() -> None:
    model = built(norm=True)
    before = weights_fingerprint(model)
    model.body[1].running_mean += 1
    assert weights_fingerprint(model) != before
    half, single = nn.Linear(1, 1).half(), nn.Linear(1, 1)
    for model in (half, single):
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
    assert weights_fingerprint(half) != weights_fingerprint(single)


class WithState(nn.Linear):
    """A layer that keeps more than tensors: what quantised layers do, and modules with a state of their own."""

    def __init__(self, **state: object) -> None:
        super().__init__(2, 2)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.state = state

    def get_extra_state(self) -> object:
        return self.state

    def set_extra_state(self, state: object) -> None:
        self.state = dict(state)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": (1, None)}, {"a": (1, 0)}),
        ({"type": torch.qint8}, {"type": torch.quint8}),
        ({"a": torch.zeros(2)}, {"a": torch.ones(2)}),
        ({"a": range(2)}, {"a": range(3)}),
    ],
    ids=str,
)
def test_a_state_that_is_not_of_tensors(one: dict[str, object], other: dict[str, object]) -> None:
    assert weights_fingerprint(WithState(**one)) == weights_fingerprint(WithState(**one))
    assert weights_fingerprint(WithState(**one)) != weights_fingerprint(WithState(**other))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_weights_count_with_their_scale() -> None:
    one, other = (
        WithState(packed=(torch.quantize_per_tensor(scale * torch.ones(2), scale, 0, torch.qint8), None))
        for scale in (0.1, 0.2)
    )
    assert weights_fingerprint(one) != weights_fingerprint(other)

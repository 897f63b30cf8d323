"""Laws of a teacher's sites taken apart into arrays, and made again bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Gamma, Normal, OneHotCategorical

from limbeck.core.delta import Delta
from limbeck.engine.caching.cached_laws import dismantle, laid_out, rebuild, stored_order
from limbeck.errors import ModelError

LAWS: list[Callable[[Tensor], Distribution]] = [
    lambda p: Delta(p),
    lambda p: Delta(p, 1),
    lambda p: Categorical(logits=p),
    lambda p: Categorical(probs=p.softmax(1)),
    lambda p: OneHotCategorical(logits=p),
    lambda p: Bernoulli(logits=p),
    lambda p: Bernoulli(probs=p.sigmoid()),
    lambda p: Normal(p, 2.0),
]


class TestLaws:
    @pytest.mark.parametrize("law", LAWS)
    def test_laws_are_taken_apart_and_rebuilt_bit_for_bit(self, law: Callable[[Tensor], Distribution]) -> None:
        made = law(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)))
        if hasattr(made, "probs"):
            assert made.probs is not None  # torch computes and keeps the other way to write it
            assert made.logits is not None
        parameters, details = dismantle(made, "y")
        found = rebuild({name: value[2:4].clone() for name, value in parameters.items()}, details)
        assert type(found) is type(made)
        assert (found.batch_shape, found.event_shape) == (torch.Size([2, *made.batch_shape[1:]]), made.event_shape)
        for name in ("value", "loc", "scale", "logits", "probs"):
            if hasattr(made, name):
                assert torch.equal(getattr(found, name), getattr(made, name)[2:4])

    def test_other_laws_are_named(self) -> None:
        with pytest.raises(ModelError, match=r"'y' has the law Gamma"):
            dismantle(Gamma(torch.ones(3), 1.0), "y")

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_the_layout_of_memory_is_kept(self, layout: torch.memory_format) -> None:
        value = torch.rand(2, 3, 4, 5).to(memory_format=layout)
        order = stored_order(value)
        stored = (value if order is None else value.permute(order)).contiguous()
        assert torch.equal(laid_out(stored, order), value)
        assert laid_out(stored, order).stride() == value.stride()

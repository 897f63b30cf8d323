"""Arithmetic in no less precision than a result needs."""

from __future__ import annotations

import torch

from limbeck.core.precision import precise, product


def test_half_precision_is_raised_and_the_rest_stays_as_it_is() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        assert precise(torch.ones(2, dtype=dtype)).dtype is torch.float32
    for dtype in (torch.float32, torch.float64):
        feature = torch.ones(2, dtype=dtype)
        assert precise(feature) is feature


def test_a_product_is_not_rounded_under_autocast() -> None:
    a, b = torch.randn(4, 8), torch.randn(8, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ b).dtype is torch.bfloat16
        found = product(a, b)
    assert torch.equal(found, a @ b)

"""Small flows of zuko's, and rows for them."""

from __future__ import annotations

import torch

from limbeck.models import ZukoFlow

SMALL = {"hidden_features": [8]}


def rows(count: int = 16, features: int = 3) -> torch.Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(0)).clamp(-3.0, 3.0)


def maf(**changes) -> ZukoFlow:
    return ZukoFlow("MAF", **{"features": 5, "transforms": 4, **SMALL, **changes})

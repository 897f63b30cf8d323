"""Seeds for every purpose, derived from one integer so that no two purposes share noise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["derive_seed", "seeded"]


def derive_seed(seed: int, *labels: str | int) -> int:
    """A seed for one purpose.

    Args:
        seed: the user's seed.
        labels: the purpose, e.g. ``("student", "surrogate", 12)``.

    Returns:
        A 63-bit integer; different labels or seeds give unrelated ones.

    Example:
        >>> derive_seed(0, "noise", 1) == derive_seed(0, "noise", 1)
        True
        >>> derive_seed(0, "noise", 1) == derive_seed(1, "noise", 0)
        False
    """
    text = "/".join([str(seed), *map(str, labels)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under torch's global generators seeded with ``seed``; the caller's random state is restored."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield

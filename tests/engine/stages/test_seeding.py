"""Seeds: one for each purpose, the same for ever."""

from __future__ import annotations

import torch

from limbeck.engine.stages.seeding import derive_seed, seeded


class TestSeeds:
    def test_every_purpose_has_its_own(self) -> None:
        seeds = [derive_seed(seed, purpose, step) for seed in range(3) for purpose in ("a", "b") for step in range(9)]
        assert len(set(seeds)) == len(seeds)
        assert all(0 <= seed < 2**63 for seed in seeds)

    def test_never_changes(self) -> None:
        assert derive_seed(0, "student", "surrogate", 12) == 8827488701447316852

    def test_seeded_leaves_the_callers_numbers_alone(self) -> None:
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        with seeded(7):
            first = torch.rand(1)
        assert torch.equal(torch.rand(2), expected)
        with seeded(7):
            assert torch.equal(torch.rand(1), first)

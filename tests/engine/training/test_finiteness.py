"""What became NaN or infinite is named, and nothing broken is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limbeck import methods
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training.checkpoints import (
    LAST,
    read_checkpoint,
)
from limbeck.engine.training.fit import fit
from limbeck.errors import NonFiniteLossError
from tests.engine.training.short_trainings import Stumbling, distilled, options
from tests.tiny import NotANumber, built, rows


class TestNonFinite:
    def test_step_and_site_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(NonFiniteLossError) as caught:
            fit(Stumbling(good=7), methods.scratch(), options(), data=rows(), directory=tmp_path)
        text = str(caught.value)
        assert "at step 7:" in text
        assert "z1 = nan" in text
        assert "learning rate" in text
        assert "\n" not in text
        assert "last good checkpoint" not in text  # at the first steps there is none
        assert read_checkpoint(tmp_path / LAST)["global_step"] == 5

    def test_the_teachers_site_is_named(self) -> None:
        with pytest.raises(
            NonFiniteLossError, match=r"The teacher's site 'y' has 512 of 512 non-finite values in its loc"
        ):
            distilled(teacher=built(NotANumber, width=8))

    def test_the_weight_is_named(self) -> None:
        student = built(seed=1, width=3)
        with torch.no_grad():
            student.prior.bias[2] = float("nan")
        with pytest.raises(NonFiniteLossError, match=r"weight student\.prior\.bias has 1 non-finite values of 4"):
            distilled(student=student)

    def test_impossible_parameters_of_a_law_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # As torch has it; libraries that other tests import turn it off for all.
        monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
        student = built(seed=1, width=3)
        with torch.no_grad():
            student.prior.weight.fill_(3e38)
        with pytest.raises(NonFiniteLossError, match=r"the \w+ of a Normal became non-finite .* at step 0") as caught:
            distilled(student=student)
        assert "\n" not in str(caught.value)

    def test_finite_loss_with_a_broken_gradient_is_not_kept(self, tmp_path: Path) -> None:
        """The loss of the step is still finite, so only the weights tell; they must not be saved."""
        with pytest.raises(NonFiniteLossError, match="weights became non-finite at step 10"):
            fit(Stumbling(good=9, gradient=True), methods.scratch(), options(), data=rows(), directory=tmp_path)
        kept = read_checkpoint(tmp_path / LAST)
        assert kept["global_step"] == 5
        assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())

    def test_a_last_step_that_breaks_is_noticed(self) -> None:
        with pytest.raises(NonFiniteLossError, match="weights became non-finite at step 4"):
            fit(Stumbling(good=3, gradient=True), methods.scratch(), options(steps=4), data=rows())

    def test_goes_on_from_the_good_checkpoint(self, tmp_path: Path) -> None:
        with pytest.raises(NonFiniteLossError):
            fit(built(Stumbling, good=7), methods.scratch(), options(), data=rows(), directory=tmp_path)
        mended = built(Stumbling, good=100)
        assert fit(mended, methods.scratch(), options(), data=rows(), directory=tmp_path).resumed_at == 5
        expected = built(Stumbling, good=100)
        fit(expected, methods.scratch(), options(), data=rows())
        assert weights_fingerprint(mended) == weights_fingerprint(expected)

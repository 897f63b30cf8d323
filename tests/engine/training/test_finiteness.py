"""What became NaN or infinite is named, and nothing broken is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training.checkpoints import (
    LAST,
    read_checkpoint,
)
from limbeck.engine.training.fit import fit
from limbeck.errors import NonFiniteLossError
from limbeck.models import MLPClassifier, ZukoFlow
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

    def test_a_point_mass_is_named(self) -> None:
        """The inverse of a flow can leave the number format: the rows are points, whose laws have no parameters."""
        teacher = ZukoFlow("MAF", features=3, transforms=2, hidden_features=[4])
        with torch.no_grad():
            for parameter in teacher.parameters():
                parameter.fill_(3e37)
        student = ZukoFlow("MAF", features=3, transforms=1, hidden_features=[4])
        with pytest.raises(
            NonFiniteLossError, match=r"The teacher's site 'h\[0\]\[1\]' has \d+ of 24 non-finite values"
        ):
            fit(student, methods.density(align=False), options(), teacher=teacher, data=None)

    @pytest.mark.parametrize("given", ["data", "teacher_inputs"])
    def test_rows_of_the_data_are_named(self, given: str) -> None:
        x, labels = torch.rand(8, 3), torch.randint(2, (8,))
        x[5, 1] = float("nan")
        teacher, student = (MLPClassifier(3, 2, [width]) for width in (5, 4))
        told: dict[str, Any] = {"teacher_inputs": x} if given == "teacher_inputs" else {"data": Batch(labels, x)}
        objective = methods.surrogate() if given == "teacher_inputs" else methods.scratch()
        with pytest.raises(NonFiniteLossError, match=r"NaN or infinite values in \d of the 8 rows of x of this step"):
            fit(student, objective, options(), teacher=teacher, **told)

    def test_a_site_is_found_with_the_teachers_own_inputs(self) -> None:
        teacher, student = (MLPClassifier(3, 2, [width]) for width in (5, 4))
        with torch.no_grad():
            next(teacher.parameters()).fill_(float("nan"))
        with pytest.raises(NonFiniteLossError, match=r"The teacher's site .* non-finite values"):
            fit(student, methods.surrogate(), options(), teacher=teacher, teacher_inputs=torch.rand(8, 3))

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

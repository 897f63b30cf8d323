"""A student's own loss on its teacher's samples."""

from __future__ import annotations

import pytest
import torch

from limbeck.core.loss import Batch
from limbeck.core.methods import mapped, own_bound
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import fit
from limbeck.errors import MatchError
from limbeck.models import LadderVAE


def test_own_bound_trains_any_latents_encoder_included_and_needs_no_data() -> None:
    torch.manual_seed(0)
    teacher = LadderVAE(8, 1, levels=3, width=4, latent_channels=2).eval()
    student = LadderVAE(8, 1, levels=1, width=3, latent_channels=3)
    objective = own_bound()
    assert objective.needs_teacher
    assert not objective.needs_data
    before = [parameter.detach().clone() for parameter in student.inference_parameters()]
    fit(student, objective, Training(steps=2, batch_size=4), teacher=teacher)
    assert any((a - b).abs().max() > 0 for a, b in zip(before, student.inference_parameters(), strict=True))


def test_own_bound_is_the_students_loss_on_the_teachers_samples() -> None:
    torch.manual_seed(0)
    teacher = LadderVAE(8, 1, levels=3, width=4, latent_channels=2).eval()
    student = LadderVAE(8, 1, levels=2, width=3, latent_channels=2).eval()
    for replay, temperature in (("sample", 1.0), ("mean", 1.0), ("sample", 1.6)):
        torch.manual_seed(3)
        alone = own_bound(replay=replay, temperature=temperature)(teacher, student, batch_size=6)
        torch.manual_seed(3)
        trace = teacher.trace(6, temperature=temperature)
        y = trace["y"].value if replay == "sample" else trace["y"].distribution.mean
        expected = student.loss(Batch(y.detach())).total
        torch.testing.assert_close(alone.total, expected)
    torch.manual_seed(4)
    both = mapped(own_bound_weight=0.5)(teacher, student, batch_size=6)
    assert {name.split("/")[0] for name in both.terms} == {"y", "replay"}
    assert both.total.item() == pytest.approx(sum(term.item() for term in both.terms.values()))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_samples_have_a_positive_temperature(temperature: float) -> None:
    with pytest.raises(MatchError, match="temperature of a teacher's samples must be positive"):
        own_bound(temperature=temperature)

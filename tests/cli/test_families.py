"""What the commands do differently for a family of models."""

from __future__ import annotations

import pytest

from limbeck.cli.families import Classifiers, Diffusion, Family, Flows, family_of
from limbeck.core.graph import DGM
from limbeck.models import VIB, LadderVAE, TableGlow

LADDER = LadderVAE(image_size=8, image_channels=1, levels=2, width=4, latent_channels=2)


@pytest.mark.parametrize(
    ("model", "family", "objective", "evaluation"),
    [
        (LADDER, Family, "surrogate", "ImageEvaluation"),
        (TableGlow(features=4), Flows, "density", "FlowTableEvaluation"),
        (VIB(image_size=8, hidden=4, latent_size=2, classes=3), Classifiers, "surrogate", "ClassifierEvaluation"),
    ],
    ids=["any", "flow", "classifier"],
)
def test_families(model: DGM, family: type[Family], objective: str, evaluation: str) -> None:
    found = family_of(model)
    assert type(found) is family
    assert found.objective([])["class_path"] == f"limbeck.methods.{objective}"
    assert found.evaluation(compare=False)["class_path"] == f"limbeck.engine.{evaluation}"


def test_diffusion_depends_on_the_steps() -> None:
    pytest.importorskip("diffusers")
    from limbeck.models import DDIM
    from tests.zoo import TINY_UNET

    found = family_of(DDIM(TINY_UNET, steps=4))
    assert isinstance(found, Diffusion)
    assert [found.objective(words)["class_path"] for words in ([], ["--steps=2"])] == [
        "limbeck.methods.denoising_student",
        "limbeck.methods.few_step",
    ]
    assert found.student_settings(["--steps=2"])["steps"] == 2
    assert found.starts_from(found.model)
    assert not found.starts_from(LADDER)

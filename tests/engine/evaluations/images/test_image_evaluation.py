"""Pictures of a run of :class:`limbeck.engine.ImageEvaluation`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal, Uniform

from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from limbeck.data import Digits
from limbeck.engine import ImageEvaluation
from limbeck.engine.evaluations.images.image_evaluation import ImageJudge
from limbeck.engine.stages.progress import Progress


class Grey(DGM):
    """A picture of one grey, which is a uniform number: drawn as it is, or as a normal one's place in its law."""

    def __init__(self, family: str) -> None:
        super().__init__()
        self.family = family
        self.scale = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.scale.weight)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """One latent, one picture."""
        zeros = sites.zeros(1)
        if self.family == "uniform":
            grey = sites.latent("z", Uniform(zeros, torch.ones_like(zeros), validate_args=False))
        elif self.family == "mixture":
            two = zeros[..., None].expand(-1, 1, 2)
            grey = sites.latent("z", MixtureSameFamily(Categorical(logits=two), Normal(two, 1.0)))
        else:
            grey = torch.special.ndtr(sites.latent("z", sites.standard_normal(1)))
        picture = self.scale(grey)[:, :, None, None].expand(-1, 1, 8, 8)
        sites.target("y", Normal(picture, torch.full_like(picture, 0.1), validate_args=False))


def judged(teacher: DGM, cache: Path) -> ImageJudge:
    settings = ImageEvaluation(samples=8, extractor_steps=1, bound_samples=1, bound_images=2, grid=4)
    made = settings.judge(Digits().load(), teacher, cache, 0, Progress())
    assert isinstance(made, ImageJudge)
    return made


@pytest.fixture
def judge(tmp_path: Path) -> ImageJudge:
    return judged(Grey("normal"), tmp_path)


def test_pictures_of_a_student_of_another_family_are_the_same_draw(judge: ImageJudge) -> None:
    torch.testing.assert_close(judge._grid(Grey("uniform")), judge._grid(Grey("normal")), rtol=0.0, atol=1e-5)


def test_a_student_that_cannot_take_the_teachers_noise_is_drawn_from_its_own(judge: ImageJudge) -> None:
    assert judge._grid(Grey("mixture")).shape == judge._grid(Grey("normal")).shape


def test_a_teacher_of_another_precision_draws_the_noise(tmp_path: Path) -> None:
    judge = judged(Grey("normal").double(), tmp_path)
    drawn = judge._grid(Grey("normal"))
    torch.testing.assert_close(drawn, judge._grid(Grey("normal").double()).float(), rtol=0.0, atol=1e-5)

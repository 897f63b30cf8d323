"""Measuring diffusion samplers: the same noise for all, the teacher with fewer steps, pictures, what stays empty."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.data import Digits, ImageDataset
from limbeck.engine import DiffusionEvaluation, Subject
from limbeck.engine.evaluations.diffusion.diffusion_draws import between, class_conditions, drawn, from_noise, larger
from limbeck.engine.evaluations.diffusion.diffusion_judge import DiffusionJudge
from limbeck.engine.stages.progress import Progress
from limbeck.errors import RecipeError
from limbeck.metrics import TorchScriptFeatures, frechet_distance, structural_similarity
from limbeck.models import DDIM
from tests.tiny import Tiny, built

UNET = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": [4, 8], "layers_per_block": 1,
        "norm_num_groups": 2, "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"]}  # fmt: skip
SETTINGS = DiffusionEvaluation(
    samples=60, steps_shown=[1, 2, 4], pairs=20, extractor_steps=30, second_extractor=True, grid=16, larger=12, batch=25
)
OWN = {"mse_teacher", "ssim_teacher"}


def ddim(seed: int, **arguments: object) -> DDIM:
    settings = {"unet": UNET, "steps": 4, "spacing": "trailing", "first": "residual", **arguments}
    model = built(DDIM, seed, **settings)
    assert isinstance(model, DDIM)
    return model.eval()


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    return Digits(limit=120).load()


@pytest.fixture(scope="module")
def teacher() -> DDIM:
    return ddim(0)


@pytest.fixture(scope="module")
def judge(teacher: DDIM, digits: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> DiffusionJudge:
    return SETTINGS.judge(digits, teacher, tmp_path_factory.mktemp("cache"), 0, Progress())


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def keys(dataset: ImageDataset) -> set[str]:
    return {measure.key for measure in SETTINGS.measures(dataset)} - {"train_seconds"}


def test_a_student(judge: DiffusionJudge, digits: ImageDataset, tmp_path: Path) -> None:
    student = ddim(1, timesteps=[999])
    values = judge.measure(Subject(student, tmp_path, infers=False))
    assert set(values) == keys(digits)
    assert all(math.isfinite(value) for value in values.values())
    assert values["network_evaluations"] == 1
    assert values["parameters_generative"] == sum(parameter.numel() for parameter in student.parameters())
    again = judge.measure(Subject(student, tmp_path, infers=False))
    assert again | {"samples_per_second": 0} == values | {"samples_per_second": 0}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"samples.png", "beside_teacher.png", "between_noises.png", "larger.png", "neighbours.png"}
    assert names == {"samples.png", *(kind.file for kind in SETTINGS.pictures)}


def test_the_teacher(judge: DiffusionJudge, teacher: DDIM, digits: ImageDataset, tmp_path: Path) -> None:
    values = judge.measure(Subject(teacher, tmp_path, infers=False))
    # Beside itself it would be 0: that says nothing.
    assert set(values) == keys(digits) - OWN - {"fid_teacher"}
    assert values["network_evaluations"] == 4
    assert values["fid_data"] == pytest.approx(frechet_distance(judge.teacher_features, judge.test_features))
    assert not (tmp_path / "beside_teacher.png").exists()


def test_a_copy_of_the_teacher_is_like_it_image_by_image(judge: DiffusionJudge, teacher: DDIM, tmp_path: Path) -> None:
    twin = teacher.resampled()
    values = judge.measure(Subject(twin, tmp_path, infers=False))
    assert values["mse_teacher"] == pytest.approx(0.0, abs=1e-10)
    assert values["ssim_teacher"] == pytest.approx(1.0, abs=1e-6)
    assert values["fid_teacher"] > 0  # other noise
    shown = picture(tmp_path / "beside_teacher.png")
    half = (len(shown) + 1) // 2  # lines between images are four pixels wide: the row below begins 68 further down
    assert np.array_equal(shown[4:half], shown[72 : 68 + half])  # the teacher's row, and below it the same again
    assert shown[4:half].std() > 5


def test_likeness_by_hand(judge: DiffusionJudge, teacher: DDIM, tmp_path: Path) -> None:
    student = ddim(2, steps=2)
    values = judge.measure(Subject(student, tmp_path, infers=False))
    noise = judge.reference.noise
    assert noise["x_T"].shape == (20, 1, 8, 8)
    own, theirs = (model.sample(noise=noise, output="mean")["x_0"].clamp(0, 1) for model in (student, teacher))
    assert values["mse_teacher"] == pytest.approx((own - theirs).square().mean().item(), rel=1e-4)
    assert values["ssim_teacher"] == pytest.approx(structural_similarity(own, theirs).mean().item(), rel=1e-4)


def test_variants_are_the_teacher_with_fewer_steps(judge: DiffusionJudge, teacher: DDIM, tmp_path: Path) -> None:
    variants = judge.variants()
    assert list(variants) == ["teacher, 1 step", "teacher, 2 steps"]  # 4 is its own number
    model = variants["teacher, 2 steps"]
    assert isinstance(model, DDIM)
    assert model.timesteps == (999, 499)
    for name, value in teacher.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    values = judge.measure(Subject(model, tmp_path, infers=False, variant=True))
    assert values["network_evaluations"] == 2
    assert values["mse_teacher"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"samples.png"}


def test_no_sampler(judge: DiffusionJudge, digits: ImageDataset, tmp_path: Path) -> None:
    values = judge.measure(Subject(built(Tiny).eval(), tmp_path, infers=True))
    assert set(values) == keys(digits) - OWN - {"network_evaluations"}
    assert {path.name for path in tmp_path.iterdir()} == {"samples.png", "neighbours.png"}
    assert [m.key for m in SETTINGS.dry().measures(digits)] == [m.key for m in SETTINGS.measures(digits)]


def test_nothing_is_drawn_before_it_is_needed(digits: ImageDataset, judge: DiffusionJudge, tmp_path: Path) -> None:
    class Counted(DDIM):
        draws = 0

        def network(self, state: Tensor, t: int | Tensor, x: Tensor | None = None) -> Tensor:
            Counted.draws += len(state)
            return super().network(state, t, x)

    model = Counted(unet=UNET, steps=3).eval()
    fresh = DiffusionJudge(SETTINGS, digits, model, judge.extractors, 0)
    assert Counted.draws == 0  # a run that is finished draws nothing
    fresh.measure(Subject(ddim(1, timesteps=[999]), tmp_path, infers=False))
    first = Counted.draws
    # Its samples, its grid, its row of images between noises; the larger ones come from a copy.
    assert first == 3 * (60 + 16 + 8 + 8)
    fresh.measure(Subject(ddim(2, timesteps=[999]), tmp_path, infers=False))
    assert Counted.draws == first
    assert fresh.reference_key != judge.reference_key


def test_two_teachers_that_differ_in_steps_are_told_apart(digits: ImageDataset, judge: DiffusionJudge) -> None:
    few, many = (DiffusionJudge(SETTINGS, digits, ddim(0, steps=n), judge.extractors, 0) for n in (2, 3))
    assert few.reference_key != many.reference_key


def test_the_second_extractor_is_another_one(judge: DiffusionJudge) -> None:
    first, second = judge.extractors
    assert (first.name, second.name) == ("digits-cnn", "digits-cnn-2")
    images = torch.rand(5, 1, 8, 8)
    assert not torch.allclose(first(images), second(images), atol=1e-2)
    assert any("digits-cnn-2" in note for note in judge.notes)


def test_a_file_has_no_classes(digits: ImageDataset, teacher: DDIM, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6))
    path = tmp_path / "mine.pt"
    torch.jit.script(network).save(str(path))
    settings = DiffusionEvaluation(40, pairs=10, extractor=str(path), grid=8, batch=40)
    extractor = TorchScriptFeatures(str(path), size=8, channels=1)
    judge = DiffusionJudge(settings, digits, teacher, [extractor], 0)
    values = judge.measure(Subject(ddim(1, timesteps=[999]), tmp_path, infers=False))
    assert "inception_score" not in values
    assert "inception_score" not in {measure.key for measure in settings.measures(digits)}
    assert any("No Inception score" in note for note in judge.notes)
    assert "fid_data" in values
    assert not (tmp_path / "larger.png").exists()  # not asked for


def test_classes_are_drawn_as_often_as_in_the_test_data(digits: ImageDataset) -> None:
    model = ddim(0, unet={**UNET, "num_class_embeds": 10})
    x = class_conditions(model, digits, 2000, 0)
    assert x is not None
    assert x.sum(1).eq(1).all()
    real = digits.test.labels.bincount(minlength=10) / len(digits.test.labels)
    torch.testing.assert_close(x.mean(0), real, atol=0.03, rtol=0)
    assert class_conditions(ddim(0), digits, 5, 0) is None
    with pytest.raises(RecipeError, match="images of 7 classes, but digits has 10"):
        class_conditions(ddim(0, unet={**UNET, "num_class_embeds": 7}), digits, 5, 0)


def test_a_conditional_student(digits: ImageDataset, judge: DiffusionJudge, tmp_path: Path) -> None:
    teacher = ddim(0, unet={**UNET, "num_class_embeds": 10})
    own = DiffusionJudge(SETTINGS, digits, teacher, judge.extractors, 0)
    values = own.measure(Subject(teacher.resampled(), tmp_path, infers=False))
    assert values["mse_teacher"] == pytest.approx(0.0, abs=1e-10)  # the same classes, too
    assert set(values) == keys(digits)


def test_between_two_noises() -> None:
    ends = [torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    ends = [8 * end / end.flatten(1).norm(dim=1).view(3, 1, 1, 1) for end in ends]
    found = between({"x_T": ends[0]}, {"x_T": ends[1]}, 5)["x_T"].view(3, 5, 1, 8, 8)
    torch.testing.assert_close(found[:, 0], ends[0])
    torch.testing.assert_close(found[:, -1], ends[1])
    flat = found.flatten(2).double()
    angles = torch.cosine_similarity(flat[:, :-1], flat[:, 1:], dim=2).acos()
    whole = torch.cosine_similarity(flat[:, 0], flat[:, -1], dim=1).acos()
    torch.testing.assert_close(angles, whole[:, None].expand(-1, 4) / 4, rtol=1e-4, atol=0)  # an arc at constant speed
    torch.testing.assert_close(flat.norm(dim=2), torch.full((3, 5), 8.0, dtype=torch.float64), rtol=1e-4, atol=0)


def test_the_same_noise_in_any_batches(teacher: DDIM) -> None:
    parts = [torch.cat([noise["x_T"] for noise, _ in drawn(teacher, 12, 3, batch)]) for batch in (12, 5)]
    assert parts[0].shape == parts[1].shape == (12, 1, 8, 8)
    whole = next(images for _, images in drawn(teacher, 12, 3, 12))
    again = from_noise(teacher, {"x_T": parts[0]}, 5)
    assert again is not None
    torch.testing.assert_close(again, whole, atol=1e-5, rtol=1e-4)
    assert from_noise(built(Tiny), {"x_T": parts[0]}, 5) is None


def test_another_size(teacher: DDIM) -> None:
    model, noise = larger(teacher, [8, 12], 3, 0)
    assert isinstance(model, DGM)
    images = from_noise(model, noise, 3)
    assert images is not None
    assert images.shape == (3, 1, 8, 12)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps_shown": [0]}, "from 1 on"),
        ({"steps_shown": [2, 2]}, "different"),
        ({"pairs": 1}, "at least 2"),
        ({"device": "gpux"}, "device must be auto, cpu, cuda, .*not 'gpux'"),
        ({"teacher_samples": 1}, "at least 2"),
        ({"extractor": __file__, "second_extractor": True}, "labels"),
    ],
)
def test_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        DiffusionEvaluation(**changes)  # type: ignore[arg-type]


def test_a_dry_run_is_short() -> None:
    dry = DiffusionEvaluation(larger=12, second_extractor=True).dry()
    assert dry.samples <= 4
    assert dry.teacher_samples <= 4
    assert len(dry.steps_shown) == 1
    assert (dry.larger, dry.second_extractor) == (12, True)

"""Diffusion on the command line: a pipeline that diffusers saved, distilled, sampled, measured; and damaged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from limbeck.core.graph import DGM
from limbeck.engine.training.history import History
from limbeck.models import DDIM
from tests.tiny import call, hashes
from tests.zoo import TINY_UNET

diffusers = pytest.importorskip("diffusers")

STEPS = ["--training.steps=3", "--training.batch_size=4", "--training.log_every=1"]
DISTILL = ["distill", "--teacher=pipe", "--teacher.steps=4", *STEPS]


def save(pipeline: Any = diffusers.DDPMPipeline, scheduler: Any = None, **unet: Any) -> None:
    """A pipeline as diffusers saves it, without a line of this library."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**TINY_UNET | unet)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    pipeline(unet=network, scheduler=scheduler or diffusers.DDPMScheduler()).save_pretrained("pipe")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_pipeline_is_distilled_from_its_directory_alone(capsys: pytest.CaptureFixture[str]) -> None:
    save()
    before = hashes(Path("pipe"))
    assert call("distill", "--teacher=pipe", "--steps=1", *STEPS, "--out=small") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Start: all" in out
    assert "As a pipeline of diffusers: small/pipeline" in out
    assert hashes(Path("pipe")) == before
    student = DGM.from_pretrained("small")
    assert isinstance(student, DDIM)
    assert (student.timesteps, student.first) == ((999,), "residual")
    assert History.read("small/history.csv").columns[:3].count("x_0") == 1
    teacher = DDIM.from_pipeline("pipe").unet.state_dict()
    moved = [(tensor - teacher[name]).abs().max() for name, tensor in student.unet.state_dict().items()]
    assert 0 < max(moved) < 0.01  # a few steps of Adam away from where it started

    # Its own code draws the same images as this library, and so does the command.
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        "small/pipeline", custom_pipeline="small/pipeline", trust_remote_code=True
    )
    x_T = torch.randn(5, 1, 4, 4)
    images = pipeline(latents=x_T, output_type="pt").images
    torch.testing.assert_close(images, student.sample(noise={"x_T": x_T}, output="mean")["x_0"].clamp(0, 1))
    drawn = pipeline(batch_size=2, generator=torch.Generator().manual_seed(0))
    assert np.asarray(drawn.images[0]).shape == (4, 4)
    for directory in ("small", "small/pipeline"):
        assert call("sample", directory, "--n=3", f"--out={directory}.safetensors") == 0
    first, second = (load_file(f"{name}.safetensors")["x_0"] for name in ("small", "small/pipeline"))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def test_a_smaller_network_and_its_first_weights(capsys: pytest.CaptureFixture[str]) -> None:
    save(block_out_channels=(8, 16))
    words = [*DISTILL, "--student.unet.block_out_channels=[4,8]"]
    assert call(*words, "--out=small") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Start: 100 % of the network's" in out
    assert "chosen from larger layers" in out
    student = DGM.from_pretrained("small")
    assert student.config["unet"]["block_out_channels"] == [4, 8]
    assert student.config["unet"]["norm_num_groups"] == 2  # the teacher's, since nothing else was said
    assert call(*words, "--start=random", "--out=fresh") == 0
    assert "Start:" not in capsys.readouterr().out


def test_several_steps_learn_the_states_in_between_from_recorded_pairs() -> None:
    save()
    assert call(*DISTILL, "--steps=2", "--pairs.count=32", "--pairs.page_rows=8", "--pairs.shard_rows=16") == 0
    student = DGM.from_pretrained("student")
    assert student.timesteps == (999, 499)
    assert {"x_0", "x[499]"} <= set(History.read("student/history.csv").columns)
    assert any(path.suffix == ".safetensors" or "shard" in path.name for path in Path("student/pairs").rglob("*"))


def test_recorded_pairs_keep_only_the_states_that_both_models_have() -> None:
    save()
    recorded = ["--pairs.count=8", "--pairs.page_rows=8", "--pairs.shard_rows=8"]
    assert call(*DISTILL, "--teacher.steps=6", "--steps=4", *recorded) == 0  # 999, 749, ... beside 999, 832, ...
    assert "x[499]" in History.read("student/history.csv").columns
    assert "x[749]" not in History.read("student/history.csv").columns


def test_a_model_of_this_library_as_the_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    DDIM(TINY_UNET, steps=3, scheduler={"prediction_type": "v_prediction"}).save_pretrained("mine")
    assert call("distill", "--teacher=mine", "--teacher.steps=4", "--steps=4", *STEPS) == 0
    student = DGM.from_pretrained("student")
    assert (student.timesteps, student.first) == ((999, 749, 499, 249), "network")
    assert "DDIMPipeline.from_pretrained(DIR)(num_inference_steps=4)" in " ".join(capsys.readouterr().out.split())
    images = diffusers.DDIMPipeline.from_pretrained("student/pipeline")(
        batch_size=2, generator=torch.Generator().manual_seed(5), num_inference_steps=4, output_type="pt"
    ).images
    x_T = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    wanted = student.sample(noise={"x_T": x_T}, output="mean")["x_0"].clamp(0, 1)
    torch.testing.assert_close(images, wanted, rtol=0, atol=1e-5)


def test_classes() -> None:
    save(num_class_embeds=3)
    assert call(*DISTILL) == 0
    student = DGM.from_pretrained("student")
    assert student.classes == 3
    for words in (
        ["--class=2", "--out=two.safetensors"],
        ["--class=1", "--out=one.safetensors"],
        ["--out=each.safetensors"],
    ):
        assert call("sample", "student/pipeline", "--n=4", *words) == 0
    two, one, each = (load_file(f"{name}.safetensors")["x_0"] for name in ("two", "one", "each"))
    assert (two - one).abs().max() > 1e-4
    torch.testing.assert_close(each[2], two[2])
    torch.testing.assert_close(each[1], one[1])
    assert call("sample", "student", "--class=3") == 2


def test_samples_at_other_steps() -> None:
    save(scheduler=diffusers.DDPMScheduler(prediction_type="v_prediction"))
    assert call("sample", "pipe", "--n=4", "--steps=4", "--out=grid.png") == 0
    assert Image.open("grid.png").size[0] > 0
    for steps in (4, 50):
        assert call("sample", "pipe", "--n=2", f"--steps={steps}", f"--out={steps}.safetensors") == 0
    few, many = (load_file(f"{steps}.safetensors")["x_0"] for steps in (4, 50))
    assert (few - many).abs().max() > 1e-3


def test_measured(capsys: pytest.CaptureFixture[str]) -> None:
    save(sample_size=8)
    small = ["--evaluation.samples=20", "--evaluation.extractor_steps=2", "--evaluation.pairs=4", "--evaluation.grid=4"]
    words = ["--data=limbeck.data.Digits", "--data.limit=40", "--steps=2"]
    assert call("evaluate", "pipe", *words, *small) == 0
    assert "FID" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------- what is wrong


def rewrite(path: str, **changes: Any) -> None:
    found = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps({key: value for key, value in (found | changes).items() if value is not None}))


def damage_weights() -> None:
    path = Path("pipe/unet/diffusion_pytorch_model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])


def pickle_weights() -> None:
    Path("pipe/unet/diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, "pipe/unet/diffusion_pytorch_model.bin")


def latent() -> None:
    rewrite("pipe/model_index.json", _class_name="LDMPipeline", vqvae=["diffusers", "VQModel"])


def guided() -> None:
    rewrite("pipe/model_index.json", unet=["diffusers", "UNet2DConditionModel"])


WEIGHTS = "pipe/unet/diffusion_pytorch_model.safetensors"
SCHEDULER = "pipe/scheduler/scheduler_config.json"
UNET = "pipe/unet/config.json"
DAMAGED: dict[str, tuple[Any, list[str]]] = {
    "no weights": (lambda: Path(WEIGHTS).unlink(), ["pipe/unet", "no diffusion_pytorch_model.safetensors"]),
    "pickled weights": (pickle_weights, ["diffusion_pytorch_model.bin, a pickle", "convert it where you trust it"]),
    "cut weights": (damage_weights, ["pipe/unet", "cannot be read"]),
    "no weights but text": (lambda: Path(WEIGHTS).write_text("weights"), ["pipe/unet", "cannot be read"]),
    "weights of another network": (
        lambda: rewrite(UNET, layers_per_block=2),
        ["not those of the network", "size mismatch"],
    ),
    "weights with no place": (lambda: rewrite(UNET, add_attention=False), ["have no place", "mid_block.attentions"]),
    "weights of another width": (lambda: rewrite(UNET, block_out_channels=[4, 4]), ["pipe/unet"]),
    "no network": (lambda: Path(UNET).unlink(), ["pipe/unet/config.json is missing"]),
    "no scheduler": (lambda: Path(SCHEDULER).unlink(), ["scheduler_config.json is missing"]),
    "no json": (lambda: Path("pipe/model_index.json").write_text("{"), ["model_index.json is not readable JSON"]),
    "latent": (latent, ["LDMPipeline", "vqvae", "latent and guided diffusion are not supported"]),
    "guided": (guided, ["UNet2DConditionModel", "UNet2DModel"]),
    "flow": (lambda: rewrite(SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler"), ["FlowMatchEuler", "by DDIM"]),
    "unknown scheduler": (lambda: rewrite(SCHEDULER, _class_name="MyScheduler"), ["MyScheduler", "by DDIM"]),
    "thresholding": (lambda: rewrite(SCHEDULER, thresholding=True), ["leave thresholding out"]),
    "no size": (lambda: rewrite(UNET, sample_size=None), ["sample_size is needed"]),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_said(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    save()
    damage, told = DAMAGED[name]
    damage()
    for command in (["sample", "pipe", "--n=2"], DISTILL):
        assert call(*command) == 1
        refused(capsys, told)


def refused(capsys: pytest.CaptureFixture[str], told: list[str]) -> None:
    _, *found = capsys.readouterr().err.split("limbeck: error:")
    assert len(found) == 1
    message = found[0]
    assert "\n" not in message.strip()
    for text in told:
        assert text in message, message


WRONG: dict[str, tuple[list[str], list[str]]] = {
    "no pipeline": (["distill", "--teacher=nowhere"], ["nowhere is not a directory"]),
    "empty": (["distill", "--teacher=empty"], ["config.json is missing"]),
    "steps": ([*DISTILL, "--steps=0"], ["--steps=0", "at least 1"]),
    "no number": ([*DISTILL, "--steps=one"], ["--steps=one", "whole number"]),
    "teacher's steps": (["distill", "--teacher=pipe", "--teacher.steps=2000"], ["2000 steps", "1000 times"]),
    "teacher's key": ([*DISTILL, "--teacher.spacin=leading"], ["did you mean --teacher.spacing?"]),
    "student's network": ([*DISTILL, "--student.unet.norm_num_groups=3"], ["unet:", "divisible"]),
    "size": ([*DISTILL, "--student.unet.sample_size=8"], ["x_T", "1, 4, 4)", "1, 8, 8)", "must agree on the shape"]),
    "data": (
        [*DISTILL, "--objective=limbeck.methods.scratch", "--data=limbeck.data.Digits", "--data.limit=20"],
        ["images of shape (1, 4, 4), but those of the data have (1, 8, 8)"],
    ),
    "class": (["sample", "pipe", "--class=1"], ["--class", "no classes"]),
    "sampling steps": (["sample", "pipe", "--steps=0"], ["--steps must be a whole number of at least 1"]),
    "evaluated without data": (["evaluate", "pipe"], ["which data?"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    save()
    Path("empty").mkdir()
    words, told = WRONG[name]
    assert call(*words) in (1, 2)
    refused(capsys, told)


def test_a_name_on_the_hub_without_a_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub

    def fail(name: str, **_: Any) -> None:
        raise OSError(f"no route to {name}\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert call("distill", "--teacher=google/ddpm-cifar10-32") == 1
    refused(capsys, ["no directory google/ddpm-cifar10-32", "no route to google/ddpm-cifar10-32)", "give a directory"])


def test_a_name_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    save()
    asked = []

    def fetch(name: str, allow_patterns: list[str], **_: Any) -> str:
        asked.append((name, allow_patterns))
        return "pipe"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert call("distill", "--teacher=google/ddpm-cifar10-32", "--teacher.steps=2", *STEPS) == 0
    assert asked[0] == ("google/ddpm-cifar10-32", ["*.json"])
    assert all(set(patterns) <= {"*.json", "*.safetensors"} for _, patterns in asked)


def test_without_diffusers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    save()
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert call(*DISTILL) == 1
    refused(capsys, ["limbeck[diffusion]"])

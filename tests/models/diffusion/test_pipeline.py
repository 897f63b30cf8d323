"""Pipelines: what diffusers saved is read, what is written is run by diffusers, and the images are the same."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.errors import ModelError, StorageError
from limbeck.layouts import FOREIGN
from limbeck.models import DDIM, LadderVAE
from limbeck.models.diffusion.pipeline import INDEX
from tests.zoo import TINY_UNET, diffusion

diffusers = pytest.importorskip("diffusers")

V = {"prediction_type": "v_prediction"}


def saved(directory: Path, scheduler: Any = None, kind: Any = diffusers.DDPMPipeline, **unet: Any) -> Path:
    """A pipeline that diffusers alone has saved."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**TINY_UNET | unet)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    kind(unet=network, scheduler=scheduler or diffusers.DDPMScheduler(**V)).save_pretrained(directory)
    return directory


def drawn(model: DDIM, seed: int = 5, rows: int = 3) -> Tensor:
    """Images from the noise that a pipeline draws with the same seed."""
    x_T = torch.randn(rows, *model.image_shape, generator=torch.Generator().manual_seed(seed))
    return model.sample(noise={"x_T": x_T}, output="mean")["x_0"].clamp(0, 1)


def theirs(pipeline: Any, **options: Any) -> Tensor:
    pipeline.set_progress_bar_config(disable=True)
    images: Tensor = pipeline(
        batch_size=3, generator=torch.Generator().manual_seed(5), output_type="pt", **options
    ).images
    return images


def close(found: Tensor, wanted: Tensor) -> None:
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 10, 50])
@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.DDPMScheduler(**V),
        diffusers.DDIMScheduler(**V, beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False),
        diffusers.DDPMScheduler(prediction_type="sample", beta_schedule="squaredcos_cap_v2", clip_sample=False),
        diffusers.DDPMScheduler(**V, trained_betas=[0.01 * k for k in range(1, 51)], num_train_timesteps=50),
        diffusers.PNDMScheduler(**V),
    ],
    ids=["ddpm", "ddim", "cosine", "betas", "pndm"],
)
def test_images_of_a_pipeline_are_those_of_diffusers(tmp_path: Path, scheduler: Any, steps: int) -> None:
    saved(tmp_path, scheduler)
    model = DDIM.from_pipeline(tmp_path, steps=steps)
    assert not model.training
    pipeline = diffusers.DDIMPipeline.from_pretrained(tmp_path)
    if "clip_sample" not in scheduler.config:  # diffusers then clips, which that scheduler does not
        assert model.schedule.clip is None
        pipeline.scheduler.register_to_config(clip_sample=False)
    assert [*model.timesteps] == [*_times(pipeline.scheduler, steps)]
    close(drawn(model), theirs(pipeline, num_inference_steps=steps))


def test_betas_of_a_law_that_only_its_own_scheduler_knows(tmp_path: Path) -> None:
    scheduler = diffusers.DDPMScheduler(beta_schedule="sigmoid", **V)
    found = DDIM.from_pipeline(saved(tmp_path, scheduler)).schedule
    signal, _ = found.at(torch.arange(1000), torch.zeros(1000, 1, dtype=torch.float64))
    torch.testing.assert_close(signal.flatten() ** 2, scheduler.alphas_cumprod.double(), rtol=1e-12, atol=0)


def _times(scheduler: Any, steps: int) -> list[int]:
    scheduler.set_timesteps(steps)
    found: list[int] = scheduler.timesteps.tolist()
    return found


def test_what_may_be_chosen(tmp_path: Path) -> None:
    saved(tmp_path)
    assert DDIM.from_pipeline(tmp_path).timesteps == tuple(range(980, -1, -20))
    assert DDIM.from_pipeline(tmp_path, steps=4, spacing="trailing").timesteps == (999, 749, 499, 249)
    assert DDIM.from_pipeline(tmp_path, steps=100, spacing="quadratic").timesteps[0] == 800
    assert DDIM.from_pipeline(tmp_path, timesteps=[7, 3]).timesteps == (7, 3)
    assert DDIM.from_pipeline(tmp_path).schedule.clip == 1.0
    free = DDIM.from_pipeline(tmp_path, scheduler={"clip_sample": False}, unet={"sample_size": 8}, tolerance=0.5)
    assert (free.schedule.clip, free.image_shape, free.tolerance) == (None, (1, 8, 8), 0.5)


def test_every_way_to_load_one(tmp_path: Path) -> None:
    model = DDIM.from_pipeline(saved(tmp_path))
    for loaded in (DGM.from_pretrained(tmp_path), DDIM.from_pretrained(str(tmp_path))):
        assert isinstance(loaded, DDIM)
        assert loaded.config == model.config
        assert torch.equal(drawn(loaded), drawn(model))
    with pytest.raises(ModelError, match="not the expected LadderVAE"):
        LadderVAE.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(drawn(DDIM.from_pretrained(tmp_path / "again")), drawn(model))


def test_one_is_loaded_before_any_model_is_imported(tmp_path: Path) -> None:
    """As in a fresh session."""
    code = (
        "import sys, limbeck; DGM = limbeck.DGM; assert 'limbeck.models' not in sys.modules; "
        f"print(type(DGM.from_pretrained({str(saved(tmp_path))!r}, map_location='meta')).__name__)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["DDIM"]
    assert callable(getattr(DDIM, FOREIGN[INDEX].method))


def test_a_recipes_sampler_keeps_its_own_times(tmp_path: Path) -> None:
    template = DDIM(TINY_UNET, timesteps=[800, 3], tolerance=0.5)
    found = template.reloaded(saved(tmp_path / "theirs"))
    assert (found.timesteps, found.tolerance, found.schedule.clip) == ((800, 3), 0.5, None)
    assert found.schedule.prediction == "v_prediction"
    DDIM(TINY_UNET, steps=3).save_pretrained(tmp_path / "ours")
    assert len(template.reloaded(tmp_path / "ours").timesteps) == 3


def test_the_oldest_pipelines_have_all_files_at_the_top_and_other_names(tmp_path: Path) -> None:
    model = DDIM.from_pipeline(saved(tmp_path / "new"))
    old = tmp_path / "old"
    old.mkdir()
    for path in tmp_path.glob("new/*/*"):
        shutil.copy(path, old / path.name)
    shutil.copy(tmp_path / "new/model_index.json", old)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(old / "diffusion_pytorch_model.safetensors")
    for new, former in names.items():
        weights = {name.replace(new, former): tensor for name, tensor in weights.items()}
    save_file(weights, old / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    assert torch.equal(drawn(DDIM.from_pipeline(old)), drawn(model))


# ------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize(("steps", "spacing"), [(50, "trailing"), (50, "leading"), (4, "trailing"), (1, "trailing")])
def test_where_diffusers_can_do_it_the_directory_is_plain(tmp_path: Path, steps: int, spacing: Any) -> None:
    model = DDIM.from_pipeline(saved(tmp_path / "a"), steps=steps, spacing=spacing)
    model.save_pipeline(tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["model_index.json", "scheduler", "unet"]
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "b")
    assert type(pipeline) is diffusers.DDIMPipeline
    close(theirs(pipeline, num_inference_steps=steps), drawn(model))
    assert DDIM.from_pipeline(tmp_path / "b").timesteps == model.timesteps


@pytest.mark.parametrize(
    "changes",
    [
        {"timesteps": [999], "first": "residual"},
        {"timesteps": [999, 499], "first": "residual"},
        {"timesteps": [900, 30, 2]},
        {"steps": 3, "spacing": "trailing"},
        {"steps": 10, "spacing": "linspace"},
    ],
    ids=str,
)
@pytest.mark.parametrize("settings", [V, {}, {"prediction_type": "sample", "clip_sample": True}], ids=str)
def test_where_it_cannot_the_code_lies_beside(
    tmp_path: Path, changes: dict[str, Any], settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = DDIM(TINY_UNET, scheduler=settings, **changes).eval()
    model.save_pipeline(tmp_path)
    assert "limbeck" not in (tmp_path / "pipeline.py").read_text().replace("_limbeck", "")
    for options in ({"custom_pipeline": str(tmp_path)}, {}):
        pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path, trust_remote_code=True, **options)
        close(theirs(pipeline), drawn(model))
    again = DDIM.from_pipeline(tmp_path)
    assert (again.timesteps, again.first) == (model.timesteps, model.first)
    assert torch.equal(drawn(again), drawn(model))
    assert DDIM.from_pipeline(tmp_path, steps=2, spacing="trailing", first="network").timesteps == (999, 499)
    if model.first == "residual":
        with pytest.raises(ModelError, match=f"at the time {model.timesteps[0]}, not at 20"):
            DDIM.from_pipeline(tmp_path, timesteps=[20])
        assert DDIM.from_pipeline(tmp_path, timesteps=[model.timesteps[0]]).first == "residual"


def test_a_pipeline_of_its_own_answers_in_every_form(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DDIM(TINY_UNET | {"num_class_embeds": 3}, timesteps=[999], first="residual").eval()
    model.save_pipeline(tmp_path)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path, trust_remote_code=True)
    x_T = torch.randn(2, 1, 4, 4)
    images = pipeline(latents=x_T, class_labels=[2, 0], output_type="pt", return_dict=False)[0]
    wanted = model.sample(noise={"x_T": x_T}, x=torch.eye(3)[[2, 0]], output="mean")["x_0"].clamp(0, 1)
    torch.testing.assert_close(images, wanted)
    assert pipeline(latents=x_T, class_labels=1, output_type="np").images.shape == (2, 4, 4, 1)
    assert pipeline(class_labels=1, num_inference_steps=7).images[0].size == (4, 4)


def test_nothing_is_pickled_or_overwritten_by_another_kind(tmp_path: Path) -> None:
    model = diffusion(1, "residual").eval()
    model.save_pipeline(tmp_path / "p")
    for path in (tmp_path / "p").rglob("*.*"):
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, MemoryError)):
            pickle.loads(path.read_bytes())
    model.save_pipeline(tmp_path / "p")  # again, over itself
    assert torch.equal(drawn(DDIM.from_pipeline(tmp_path / "p")), drawn(model))
    model.save_pretrained(tmp_path / "m")
    with pytest.raises(ModelError, match="holds a saved model already"):
        model.save_pipeline(tmp_path / "m")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        model.save_pipeline(tmp_path / "file")


def test_the_index_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed while it writes leaves no directory that looks complete."""
    from limbeck.models.diffusion import writing

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "atomic_write_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        diffusion(2).save_pipeline(tmp_path)
    assert not (tmp_path / "model_index.json").exists()


def test_what_was_kept_in_half_precision_is_read_in_single(tmp_path: Path) -> None:
    model = DDIM.from_pipeline(saved(tmp_path)).to(torch.bfloat16)
    model.save_pipeline(tmp_path / "half")
    again = DDIM.from_pipeline(tmp_path / "half")
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    assert (drawn(again) - drawn(model.float())).abs().max() < 1e-5
    index = json.loads((tmp_path / "half" / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DModel"]


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "/nowhere/at/all", ""])
def test_what_can_be_no_name_on_the_hub_is_not_looked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(ModelError):
        DDIM.from_pipeline(name)

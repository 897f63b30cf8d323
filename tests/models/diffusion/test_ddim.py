"""The sampler is diffusers' and the paper's, and so are the losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.core.loss import Batch
from limbeck.core.methods import surrogate
from limbeck.errors import ModelError
from limbeck.models import DDIM, LadderVAE
from limbeck.models.diffusion.schedule import NoiseSchedule
from tests.models.diffusion.ddims import diffusers, image, model, noise, theirs
from tests.zoo import TINY_UNET

SETTINGS: dict[str, dict[str, Any]] = {
    "noise": {},
    "v": {"prediction_type": "v_prediction"},
    "image": {"prediction_type": "sample"},
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    "clipped": {"clip_sample": True, "clip_sample_range": 0.5, "prediction_type": "v_prediction"},
    "offset": {"set_alpha_to_one": False, "steps_offset": 1},
    "betas": {"trained_betas": [0.0001, 0.001, 0.004, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4], "num_train_timesteps": 10},
    "short": {"num_train_timesteps": 200},
    "no image left": {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
}


@pytest.mark.parametrize(
    ("name", "steps"),
    [(name, steps) for name in SETTINGS for steps in ((1, 3, 7, 10, 50, 100) if name in ("noise", "v") else (1, 10))],
)
def test_samples_are_those_of_diffusers(name: str, steps: int) -> None:
    settings = SETTINGS[name]
    ddim = model(steps=steps, scheduler=settings)
    wanted = theirs(ddim, noise(), steps, **settings)
    assert len(ddim.timesteps) == steps
    torch.testing.assert_close(image(ddim, noise()), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 50])
def test_samples_of_single_precision_are_near(steps: int) -> None:
    ddim = model(dtype=torch.float32, steps=steps, scheduler={"prediction_type": "v_prediction"})
    x_T = noise(dtype=torch.float32)
    wanted = theirs(ddim, x_T, steps, prediction_type="v_prediction").float()
    torch.testing.assert_close(image(ddim, x_T), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("spacing", "steps"), [("linspace", 10), ("trailing", 7)])
def test_each_step_leads_to_the_next_time_of_the_list(spacing: Any, steps: int) -> None:
    """Where diffusers takes T // steps off the time, although the next one it visits is another."""
    ddim = model(steps=steps, spacing=spacing, scheduler={"prediction_type": "v_prediction"})
    wanted = theirs(ddim, noise(), steps, spacing, prediction_type="v_prediction")
    assert (image(ddim, noise()) - wanted).abs().max() > 1e-3
    torch.testing.assert_close(image(ddim, noise()), by_hand(ddim, noise(), ddim.timesteps), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def by_hand(ddim: DDIM, x: Tensor, times: tuple[int, ...]) -> Tensor:
    """[D] Eq. 8, and for other predictions the noise that they stand for."""
    betas = torch.linspace(0.0001, 0.02, 1000)
    alphas = [*(1 - betas).cumprod(0).double().tolist(), 1.0]
    for t, after in zip(times, [*times[1:], 1000]):
        alpha, later = alphas[t], alphas[after]
        eps = ddim.unet(x, t).sample
        if ddim.schedule.prediction == "v_prediction":
            eps = math.sqrt(alpha) * eps + math.sqrt(1 - alpha) * x
        x = math.sqrt(later / alpha) * (x - math.sqrt(1 - alpha) * eps) + math.sqrt(1 - later) * eps
    return x


@pytest.mark.parametrize("times", [[999, 500, 3], [800, 0], [17]])
def test_equation_8_and_7_at_any_times(times: list[int]) -> None:
    ddim = model(timesteps=times)
    torch.testing.assert_close(image(ddim, noise()), by_hand(ddim, noise(), ddim.timesteps), rtol=1e-9, atol=1e-9)
    # Eq. 7 is the same step in other variables.
    trace = ddim.trace(noise={"x_T": noise()})
    alphas = [*(1 - torch.linspace(0.0001, 0.02, 1000)).cumprod(0).double().tolist(), 1.0]
    states = [noise(), *(trace[f"x[{t}]"].value for t in times[1:]), image(ddim, noise())]
    for t, after, x, moved in zip(times, [*times[1:], 1000], states, states[1:]):
        a, b = alphas[t], alphas[after]
        with torch.no_grad():
            eps = ddim.unet(x, t).sample
        right = math.sqrt(1 / a) * x - (math.sqrt((1 - a) / a) - math.sqrt((1 - b) / b)) * eps
        torch.testing.assert_close(math.sqrt(1 / b) * moved, right, rtol=1e-9, atol=1e-9)


def test_sites_are_noise_then_states_then_the_image() -> None:
    trace = model(timesteps=[900, 400, 20]).trace(3)
    assert {name: site.kind.value for name, site in trace.items()} == {
        "x_T": "latent", "x[400]": "deterministic", "x[20]": "deterministic", "x_0": "target",
    }  # fmt: skip
    assert all(value.shape == (3, 1, 4, 4) for value in trace.values.values())
    assert (trace["x_0"].distribution.scale == 0.5).all()


@pytest.mark.parametrize("first", ["residual", "network"])
def test_the_surrogate_loss_is_equation_11(first: Any) -> None:
    teacher, student = model(steps=10), model(1, timesteps=[999], first=first)
    loss = surrogate(latent_weight=0)(teacher, student, batch_size=5, generator=torch.Generator().manual_seed(3))
    x_T = teacher.trace(5, generator=torch.Generator().manual_seed(3))["x_T"].value
    told = student.unet(x_T, 999).sample
    alpha = (1 - torch.linspace(0.0001, 0.02, 1000)).cumprod(0)[999].item()
    made = x_T - told if first == "residual" else (x_T - math.sqrt(1 - alpha) * told) / math.sqrt(alpha)
    wanted = 0.5 * (made - image(teacher, x_T)).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(loss.total, wanted, rtol=1e-6, atol=0)


def test_the_residual_first_step_goes_on_as_any_other() -> None:
    student = model(timesteps=[999, 300], first="residual")
    x_T = noise()
    with torch.no_grad():
        shown = x_T - student.unet(x_T, 999).sample
        alphas = (1 - torch.linspace(0.0001, 0.02, 1000)).cumprod(0).double()
        eps = (x_T - alphas[999].sqrt() * shown) / (1 - alphas[999]).sqrt()
        state = alphas[300].sqrt() * shown + (1 - alphas[300]).sqrt() * eps
        eps = student.unet(state, 300).sample
        wanted = (state - (1 - alphas[300]).sqrt() * eps) / alphas[300].sqrt()
    torch.testing.assert_close(image(student, x_T), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_training_loss_is_equation_9(prediction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ddim = model(scheduler={"prediction_type": prediction})
    y, eps, t = torch.rand(6, 1, 4, 4, dtype=torch.float64), noise(6), torch.tensor([0, 5, 100, 500, 900, 999])
    monkeypatch.setattr(torch, "randint", lambda *_, **__: t)
    monkeypatch.setattr(torch, "randn_like", lambda *_, **__: eps)
    alpha = (1 - torch.linspace(0.0001, 0.02, 1000)).cumprod(0).double()[t].view(-1, 1, 1, 1)
    x_0 = 2 * y - 1
    aim = {"epsilon": eps, "sample": x_0, "v_prediction": alpha.sqrt() * eps - (1 - alpha).sqrt() * x_0}[prediction]
    told = ddim.unet(alpha.sqrt() * x_0 + (1 - alpha).sqrt() * eps, t).sample
    torch.testing.assert_close(ddim.loss(Batch(y)).total, (told - aim).square().mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["noise", "v", "image"])
def test_a_perfect_prediction_gives_back_image_and_noise(name: str) -> None:
    schedule = NoiseSchedule(SETTINGS[name])
    x_0, eps = torch.randn(2, 4, 1, 3, 3, dtype=torch.float64)
    t = torch.tensor([1, 20, 500, 999])
    seen = schedule.image_and_noise(schedule.aim(x_0, eps, t), schedule.noised(x_0, eps, t), t)
    torch.testing.assert_close(seen[0], x_0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(seen[1], eps, rtol=1e-9, atol=1e-9)


def test_classes_reach_the_network_and_others_are_refused() -> None:
    ddim = model(unet={"num_class_embeds": 3}, steps=2)
    assert ddim.classes == 3
    x = torch.eye(3, dtype=torch.float64)[[2, 0]]
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(2)
    state = noise()
    with torch.no_grad():
        for t in scheduler.timesteps:
            told = ddim.unet(state, t, class_labels=torch.tensor([2, 0])).sample
            state = scheduler.step(told, t, state).prev_sample
    torch.testing.assert_close(image(ddim, noise(), x), state, rtol=1e-4, atol=1e-4)
    assert (image(ddim, noise(), x.flip(0)) - state).abs().max() > 1e-3
    for wrong, told in ((None, "3 classes"), (x[:, :2], r"one-hot rows \(batch, 3\)"), (torch.zeros(2), "one-hot")):
        with pytest.raises(ModelError, match=told):
            ddim.trace(2, wrong)


def test_another_number_of_steps_samples_the_same_network() -> None:
    ddim = model(steps=10, spacing="trailing")
    few = ddim.resampled(steps=2)
    assert few.timesteps == (999, 499)
    assert few.unet is not ddim.unet
    assert not few.training
    torch.testing.assert_close(image(few, noise()), by_hand(ddim, noise(), (999, 499)), rtol=1e-9, atol=1e-9)
    assert ddim.resampled(timesteps=[700, 1]).timesteps == (700, 1)
    assert ddim.resampled(timesteps=[700, 1]).resampled(steps=1).timesteps == (999,)
    wide = ddim.resampled(image_size=[8, 12])
    assert wide.sample(2)["x_0"].shape == (2, 1, 8, 12)
    assert ddim.resampled(image_size=8).timesteps == ddim.timesteps


def test_a_residual_belongs_to_its_time() -> None:
    student = model(timesteps=[999, 400], first="residual")
    for changes in ({"steps": 1}, {"timesteps": [400]}, {"steps": 4, "spacing": "leading"}):
        with pytest.raises(ModelError, match=r"x_T - F\(x_T\) at the time 999, not at"):
            student.resampled(**changes)
        assert student.resampled(first="network", **changes).first == "network"
    assert student.resampled(steps=1, spacing="trailing").timesteps == (999,)
    assert student.resampled(image_size=8).first == "residual"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "key of the network": ({"unet": TINY_UNET | {"block_out_chanels": [4, 8]}}, "did you mean 'block_out_channels'"),
    "no size": ({"unet": {**TINY_UNET, "sample_size": None}}, "sample_size is needed"),
    "channels": ({"unet": TINY_UNET | {"out_channels": 2}}, "make them equal"),
    "blocks": ({"unet": TINY_UNET | {"block_out_channels": [4]}}, "block_out_channels"),
    "kind of block": ({"unet": TINY_UNET | {"down_block_types": ["DownBlock2D", "Down"]}}, "Down"),
    "groups": ({"unet": TINY_UNET | {"norm_num_groups": 3}}, "unet: .*divisible"),
    "no groups": ({"unet": TINY_UNET | {"norm_num_groups": 0}}, "norm_num_groups must be positive, not 0"),
    "no layers": ({"unet": TINY_UNET | {"layers_per_block": 0}}, "layers_per_block must be positive, not 0"),
    "no blocks": ({"unet": TINY_UNET | {"block_out_channels": []}}, r"block_out_channels must be positive, not \[\]"),
    "size": ({"unet": TINY_UNET | {"sample_size": 7}}, "size 7 cannot be halved .* multiple of 2"),
    "conditions": ({"unet": TINY_UNET | {"class_embed_type": "timestep"}}, "num_class_embeds"),
    "key of the scheduler": ({"scheduler": {"beta_stat": 0.1}}, "did you mean 'beta_start'"),
    "schedule": ({"scheduler": {"beta_schedule": "cosine"}}, "squaredcos_cap_v2 .*not 'cosine'"),
    "prediction": ({"scheduler": {"prediction_type": "eps"}}, "epsilon, v_prediction or sample, not 'eps'"),
    "thresholding": ({"scheduler": {"thresholding": True}}, "leave thresholding out"),
    "nothing to tell": ({"scheduler": {"rescale_betas_zero_snr": True}}, "v_prediction or sample"),
    "first": ({"first": "last"}, "first must be network or residual, not 'last'"),
    "tolerance": ({"tolerance": 0.0}, "tolerance must be positive, not 0.0"),
    "rising": ({"timesteps": [1, 2]}, r"must fall, .*\[1, 2\]"),
    "none": ({"timesteps": []}, "must fall"),
    "outside": ({"timesteps": [1000, 2]}, "0 to 999"),
    "steps": ({"steps": 1001}, "1001 steps does not fit"),
    "no steps": ({"steps": 0}, "0 steps does not fit"),
    "start": ({"start": 800}, "start is for the spacing 'quadratic'"),
    "start outside": ({"start": 1000, "spacing": "quadratic"}, "0 to 999"),
    "spacing": ({"spacing": "cubic"}, "cubic"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str) -> None:
    settings, told = WRONG[name]
    with pytest.raises(ModelError, match=told):
        DDIM(**{"unet": TINY_UNET, **settings})


def test_images_of_another_size_and_models_without_a_network() -> None:
    ddim = model()
    with pytest.raises(ModelError, match=r"shape \(1, 4, 4\), but those of the data have \(1, 8, 8\); set sample_size"):
        ddim.loss(Batch(torch.zeros(2, 1, 8, 8)))
    ladder = LadderVAE(image_size=8, image_channels=1, levels=1, width=2, latent_channels=1)
    with pytest.raises(ModelError, match="DDIM cannot start from the weights of LadderVAE"):
        ddim.start_from(ladder)

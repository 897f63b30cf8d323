"""A small teacher of several steps, students of fewer, and their paths from the same noise."""

import torch

from limbeck.models import DDIM

TINY = {
    "sample_size": 4, "in_channels": 1, "out_channels": 1, "block_out_channels": [4], "layers_per_block": 1,
    "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "norm_num_groups": 2, "attention_head_dim": 4,
}  # fmt: skip


def ddim(seed: int = 0, **settings) -> DDIM:
    torch.manual_seed(seed)
    return DDIM(TINY, scheduler={"prediction_type": "v_prediction"}, **settings).double().eval()


TEACHER = ddim(steps=10, spacing="trailing")


def student(times: list[int], **settings) -> DDIM:
    return ddim(1, timesteps=times, **settings)


def path(model: DDIM, noise: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every state and the image, in the diffusion's units, by a loop of this test's own."""
    states, state = {}, noise
    for t, after in zip(model.timesteps, (*model.timesteps[1:], model.schedule.times), strict=True):
        states[f"x[{t}]"] = state
        told = model.unet(state, t).sample
        signal, scale = model.schedule.at(t, state)
        image = state - told if model.first == "residual" and state is noise else signal * state - scale * told
        signal_after, scale_after = model.schedule.at(after, state)
        state = signal_after * image + scale_after * (state - signal * image) / scale
    return {**states, "x_0": state}


def shared(objective, teacher, learner):
    """The loss, and the noise that the models shared."""
    torch.manual_seed(3)
    loss = objective(teacher, learner, batch_size=5)
    torch.manual_seed(3)
    return loss, torch.randn(5, 1, 4, 4, dtype=torch.float64)


def squared(a, b):
    return (a - b).square().flatten(1).sum(1).mean()

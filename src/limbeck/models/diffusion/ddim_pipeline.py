"""A pipeline of diffusers that asks a network at any list of times, once if need be.

This file is copied as ``pipeline.py`` beside the weights of a distilled model, where it works without any other code::

    DiffusionPipeline.from_pretrained(directory, custom_pipeline=directory, trust_remote_code=True)()
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

__all__ = ["DistilledDDIMPipeline"]


class DistilledDDIMPipeline(DiffusionPipeline):  # type: ignore[misc]
    r"""Deterministic sampling at given times.

    At every time t the network's output is turned into an image :math:`x_0` and noise :math:`\epsilon`, and

    .. math:: x_{t'} = \sqrt{\bar\alpha_{t'}} \, x_0 + \sqrt{1 - \bar\alpha_{t'}} \, \epsilon

    is the state at the next one; after the last comes the image.

    Args:
        unet: a ``UNet2DModel``.
        scheduler: a ``DDIMScheduler``; only its constants are used.
        timesteps: times at which the network is asked, falling.
        first: ``"residual"`` reads the image at the first time as the noise less the network's output.
    """

    def __init__(self, unet: Any, scheduler: Any, timesteps: list[int] | None = None, first: str = "network") -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        times = [scheduler.config.num_train_timesteps - 1] if timesteps is None else [int(t) for t in timesteps]
        self.register_to_config(timesteps=times, first=first)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        class_labels: torch.Tensor | list[int] | int | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        **unused: Any,
    ) -> Any:
        """Draw images.

        Args:
            batch_size: how many.
            generator: source of the noise.
            class_labels: class of each image or of all, for a network that was trained with classes.
            latents: the noise itself, shape (batch, channels, height, width).
            output_type: ``"pil"``, ``"np"`` or ``"pt"`` (in [0, 1]).
            return_dict: whether to return an ``ImagePipelineOutput`` rather than a tuple.
            unused: arguments of other pipelines, such as ``num_inference_steps``; the times are fixed.

        Returns:
            The images.
        """
        if latents is None:
            size = self.unet.config.sample_size
            height, width = (size, size) if isinstance(size, int) else size
            shape = (batch_size, self.unet.config.in_channels, height, width)
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype)
        state = latents.to(self._execution_device, self.unet.dtype)
        labels = None
        if class_labels is not None:
            labels = torch.as_tensor(class_labels, device=state.device).expand(len(state))
        times = list(self.config.timesteps)
        for t, after in zip(self.progress_bar(times), [*times[1:], None], strict=True):
            told = self.unet(state, t, class_labels=labels, return_dict=False)[0]
            image, noise = self._read(told, state, t)
            signal, scale = self._constants(after)
            state = signal * image + scale * noise
        images: Any = (state / 2 + 0.5).clamp(0, 1)
        if output_type != "pt":
            images = images.cpu().permute(0, 2, 3, 1).float().numpy()
            if output_type == "pil":
                images = self.numpy_to_pil(images)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _constants(self, t: int | None) -> tuple[float, float]:
        """What is left of the image and how much noise there is at a time; ``None`` stands for the image itself."""
        alpha = self.scheduler.final_alpha_cumprod if t is None else self.scheduler.alphas_cumprod[t]
        return float(alpha) ** 0.5, (1 - float(alpha)) ** 0.5

    def _read(self, told: torch.Tensor, state: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The image and the noise that the network's output stands for."""
        signal, scale = self._constants(t)
        config = self.scheduler.config
        if self.config.first == "residual" and t == self.config.timesteps[0]:
            image = state - told
            return image, (state - signal * image) / scale
        if config.prediction_type == "epsilon":
            image, noise = (state - scale * told) / signal, told
        elif config.prediction_type == "v_prediction":
            image, noise = signal * state - scale * told, signal * told + scale * state
        else:
            image, noise = told, (state - signal * told) / scale
        if config.clip_sample:
            image = image.clamp(-config.clip_sample_range, config.clip_sample_range)
        return image, noise

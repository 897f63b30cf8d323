"""A diffusion model's deterministic sampler as a graph ([D]; Song et al. 2020), and its one-step student."""

from __future__ import annotations

import copy
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor
from torch.distributions import Normal
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.errors import ModelError
from limbeck.models.diffusion.files import Pipelined
from limbeck.models.diffusion.schedule import NoiseSchedule, Spacing, check_first, check_times, sampling_times
from limbeck.models.diffusion.unet_inheritance import Inherited, inherit
from limbeck.models.diffusion.unet_network import build_unet
from limbeck.models.inputs import check_numbers
from limbeck.models.sizes import check_positive

__all__ = ["DDIM", "First"]

First = Literal["network", "residual"]
"""How the image is read off the network at the first time: as at the others, or :math:`x_T - F(x_T)` ([D] 3.2)."""


class DDIM(Pipelined):
    r"""A denoising diffusion implicit model: a network that is asked at falling times, from noise to an image.

    The latent ``x_T`` is standard normal; the state before each later evaluation is a deterministic site ``x[t]``; the
    target ``x_0`` is the image in pixel units, in [0, 1]. With as many evaluations as ``timesteps`` has entries,

    .. math:: x_{t'} = \sqrt{\alpha_{t'} / \alpha_t} (x_t - \sqrt{1 - \alpha_t} \epsilon_\theta(x_t, t))
              + \sqrt{1 - \alpha_{t'}} \epsilon_\theta(x_t, t)

    ([D] Eq. 8.) The target's law is a Gaussian of fixed scale around it: 1 in the units of the diffusion, where images
    lie in [-1, 1], so half of that in pixels. KL does not depend on the unit: between two of them it is half the
    squared distance in the diffusion's units, [D] Eq. 11, and :func:`limbeck.methods.surrogate` of this graph is the
    Denoising Student. For pictures take the means, ``sample(output="mean")``.

    Args:
        unet: arguments of ``diffusers.UNet2DModel``; ``sample_size``, ``in_channels`` and ``out_channels`` are the
            images'. With ``num_class_embeds`` it is a model of images given a class: x is one-hot, shape
            (batch, classes).
        steps: evaluations of the network.
        spacing: at which times; see :func:`~limbeck.models.diffusion.schedule.sampling_times`.
        start: of the quadratic spacing, the first time.
        timesteps: the times themselves, falling; replaces the three before.
        scheduler: arguments of ``diffusers.DDIMScheduler``: the diffusion's constants and what the network predicts.
        first: ``"residual"`` reads the image at the first time as :math:`x_T - F(x_T)` ([D] Sec. 3.2). There the noise
            is nearly all there is, and dividing by what is left of the image, 0.006 of it, would blow up the network's
            error; a student of one step that starts from a network for the noise needs it.
        tolerance: standard deviation of the target in the diffusion's units.

    Raises:
        ModelError: diffusers is missing, or an argument is impossible.

    References:
        Song, Meng & Ermon, Denoising Diffusion Implicit Models, ICLR 2021; [D] Luhman & Luhman 2021.
    """

    def __init__(
        self,
        unet: dict[str, Any],
        steps: int = 50,
        spacing: Spacing = "leading",
        start: int | None = None,
        timesteps: list[int] | None = None,
        scheduler: dict[str, Any] | None = None,
        first: First = "network",
        tolerance: float = 1.0,
    ) -> None:
        super().__init__()
        check_positive(self, tolerance=tolerance)
        check_choice(ModelError, "DDIM: first", first, First)
        self.schedule = NoiseSchedule(scheduler)
        self.timesteps = (
            sampling_times(scheduler, steps, spacing, start)
            if timesteps is None
            else check_times(timesteps, self.schedule.times)
        )
        self.unet = build_unet(unet)
        self.first = first
        self.tolerance = tolerance
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        self.image_shape = (int(self.unet.config.in_channels), int(height), int(width))
        self.classes = int(self.unet.config.num_class_embeds or 0)

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Draw ``x_T`` and follow it through the states ``x[t]`` to the image ``x_0``.

        All have shape (batch, channels, height, width).
        """
        state = sites.latent("x_T", sites.standard_normal(*self.image_shape))
        following = (*self.timesteps[1:], self.schedule.times)
        for t, after in zip(self.timesteps, following, strict=True):
            if t != self.timesteps[0]:
                state = sites.deterministic(f"x[{t}]", state)
            image, noise = self.denoise(state, t, x)
            state = self.schedule.noised(image, noise, after)
        mean = (state + 1) / 2
        sites.target("x_0", Normal(mean, torch.full_like(mean, self.tolerance / 2), validate_args=False))

    def denoise(self, state: Tensor, t: int | Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The image and the noise that the network sees in a state.

        Args:
            state: shape (batch, channels, height, width), in the diffusion's units.
            t: its time, or one for each row, shape (batch,).
            x: one-hot classes, shape (batch, classes), if the model has any.

        Returns:
            Image in the diffusion's units, and noise; shapes as ``state``.
        """
        told = self.network(state, t, x)
        image, noise = self.schedule.image_and_noise(told, state, t)
        if self.first != "residual":
            return image, noise
        signal, scale = self.schedule.at(t, state)
        first, told_image = self.timesteps[0], state - told
        told_noise = (state - signal * told_image) / scale
        if isinstance(t, int):
            return (told_image, told_noise) if t == first else (image, noise)
        at_first = (t == first).view(-1, *([1] * (state.ndim - 1)))
        return torch.where(at_first, told_image, image), torch.where(at_first, told_noise, noise)

    def network(self, state: Tensor, t: int | Tensor, x: Tensor | None = None) -> Tensor:
        """The network's output as it is; arguments as for :meth:`denoise`."""
        found = self.unet(state, t, class_labels=self._labels(x), return_dict=False)[0]
        return cast(Tensor, found)

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        r"""Denoising at random times ([D] Eq. 9 with :math:`\gamma_t = 1`, Ho et al. 2020), a mean over pixels.

        Args:
            batch: images y in [0, 1], shape (batch, channels, height, width); one-hot classes x, if the model has any.
            progress: not used.

        Raises:
            ModelError: the images have another shape.
        """
        if batch.y.shape[1:] != self.image_shape:
            raise ModelError(
                f"the network draws images of shape {self.image_shape}, but those of the data have "
                f"{tuple(batch.y.shape[1:])}; set sample_size, in_channels and out_channels of unet to the data's"
            )
        check_numbers(self, "an image", batch.y)
        image = 2 * batch.y - 1
        t = torch.randint(self.schedule.times, (len(image),), device=image.device)
        noise = torch.randn_like(image)
        told = self.network(self.schedule.noised(image, noise, t), t, batch.x)
        return Loss.of({"denoising": (told - self.schedule.aim(image, noise, t)).square().mean()})

    @override
    def start_from(self, source: DGM) -> None:
        """Take over the network of another diffusion model, or what of it fits; see :meth:`inherit`."""
        self.inherit(source)

    def inherit(self, source: DGM) -> Inherited:
        """Take over another model's network, or of a larger one a part; the rest stays as it is.

        Args:
            source: a diffusion model, usually the teacher.

        Returns:
            How much was taken; its text is a message.

        Raises:
            ModelError: it has no network of this kind, or one in which nothing fits.
        """
        unet = getattr(source, "unet", None)
        if not isinstance(unet, type(self.unet)):
            raise ModelError(
                f"{type(self).__name__} cannot start from the weights of {type(source).__name__}: it has no U-Net"
            )
        return inherit(self.unet, unet)

    def resampled(self, **changes: Any) -> Self:
        """The same network, asked at other times or for images of another size.

        Args:
            changes: arguments of the constructor to change, and ``image_size``: a number, or height and width.

        Returns:
            A model with copies of these weights.

        Raises:
            ModelError: an argument is impossible, or the first time changes and with it what the network was trained to
                say there (``first="residual"``), and ``first`` is not given.

        >>> tiny = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8,),
        ...         "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "norm_num_groups": 4}
        >>> DDIM(tiny, steps=50).resampled(steps=2).timesteps
        (500, 0)
        """
        config = copy.deepcopy(self.config)
        if {"steps", "spacing", "start"} & changes.keys():
            config["timesteps"] = None
        size = changes.pop("image_size", None)
        if size is not None:
            config["unet"]["sample_size"] = size
        other = type(self)(**{**config, **changes})
        if "first" not in changes:
            check_first(self.first, self.timesteps, other.timesteps)
        parameter = first_parameter(self)
        other.to(parameter.device, parameter.dtype)  # before the weights come, which it would round
        other.load_state_dict(self.state_dict())
        return other.train(self.training)

    def _labels(self, x: Tensor | None) -> Tensor | None:
        if not self.classes:
            return None
        if x is None:
            raise ModelError(f"this model draws images of {self.classes} classes; give x, one-hot rows of that many")
        if x.ndim != 2 or x.shape[1] != self.classes:
            raise ModelError(f"x must be one-hot rows (batch, {self.classes}), not of shape {tuple(x.shape)}")
        return x.argmax(1)

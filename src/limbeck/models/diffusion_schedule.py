"""How much of an image is left at each time of a diffusion, and at which times a sampler looks ([D] Eq. 1-4)."""

from __future__ import annotations

import difflib
import inspect
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError

__all__ = ["NoiseSchedule", "Prediction", "Spacing", "sampling_times"]

Spacing = Literal["leading", "trailing", "linspace", "quadratic"]
"""Which times a sampler of a few steps visits: diffusers' three ways, or dense near the image ([D], CIFAR-10)."""

Prediction = Literal["epsilon", "v_prediction", "sample"]
"""What a network tells of a noisy image: its noise, the mixture of Salimans & Ho (2022), or the image itself."""


class NoiseSchedule(nn.Module):
    r"""The constants of :math:`x_t = \sqrt{\alpha_t} x_0 + \sqrt{1 - \alpha_t} \epsilon` ([D] Eq. 4), and its algebra.

    :math:`\alpha_t` is the paper's, which the literature on DDPM writes :math:`\bar\alpha_t`.

    Args:
        settings: arguments of ``diffusers.DDIMScheduler``; by default a linear schedule of 1,000 times, predicting the
            noise. Images are clipped inside the sampler only if ``clip_sample`` is set: the paper does not.

    Attributes:
        times: number of times T of the diffusion.
        prediction: what the network tells.
        clip: largest absolute value of an image inside the sampler; ``None`` for no bound.

    Raises:
        ModelError: diffusers is missing, an argument is unknown or its value impossible.
    """

    signal: Tensor
    noise: Tensor

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        scheduler = _scheduler({"clip_sample": False, **(settings or {})})
        config = scheduler.config
        self.times: int = config.num_train_timesteps
        self.prediction: Prediction = config.prediction_type
        self.clip: float | None = config.clip_sample_range if config.clip_sample else None
        alpha = scheduler.alphas_cumprod.double()
        # One more than there are times: the last stands for the image itself, which is where the last step leads.
        final = 1.0 if config.set_alpha_to_one else float(alpha[0])
        alpha = torch.cat([alpha, torch.tensor([final], dtype=torch.float64)])
        self.register_buffer("signal", alpha.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - alpha).sqrt().float(), persistent=False)

    def at(self, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`\sqrt{\alpha_t}` and :math:`\sqrt{1 - \alpha_t}`.

        Args:
            t: a time, or one a row, shape (batch,); ``times`` (one more than the last) is the image.
            like: what they will be multiplied with, shape (batch, ...).

        Returns:
            Shape () or (batch, 1, ...).
        """
        signal, noise = self.signal[t], self.noise[t]
        if signal.ndim:
            shape = (-1, *([1] * (like.ndim - 1)))
            signal, noise = signal.view(shape), noise.view(shape)
        return signal.to(like.dtype), noise.to(like.dtype)

    def noised(self, image: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """[D] Eq. 4: an image at a time of the diffusion; all shapes (batch, ...), ``t`` as in :meth:`at`."""
        signal, scale = self.at(t, image)
        return signal * image + scale * noise

    def image_and_noise(self, told: Tensor, state: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        r"""The image and the noise that a network's output stands for.

        From noise: :math:`x_0 = (x_t - \sqrt{1 - \alpha_t} \epsilon) / \sqrt{\alpha_t}` ([D] below Eq. 6).

        Args:
            told: the network's output, shape (batch, ...).
            state: what it was shown, of the same shape.
            t: when; see :meth:`at`.

        Returns:
            Both of that shape; the image is bounded by ``clip``.
        """
        signal, scale = self.at(t, state)
        if self.prediction == "epsilon":
            image, noise = (state - scale * told) / signal, told
        elif self.prediction == "v_prediction":
            image, noise = signal * state - scale * told, signal * told + scale * state
        else:
            image, noise = told, (state - signal * told) / scale
        return (image if self.clip is None else image.clamp(-self.clip, self.clip)), noise

    def aim(self, image: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should tell of a noised image; all shapes (batch, ...), ``t`` as in :meth:`at`."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return image
        signal, scale = self.at(t, image)
        return signal * noise - scale * image

    def moved(self, image: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        r"""[D] Eq. 8: the state at another time, from the image and noise that were seen at this one.

        .. math:: x_{t'} = \sqrt{\alpha_{t'}} \, x_0 + \sqrt{1 - \alpha_{t'}} \, \epsilon

        which is :math:`\sqrt{\alpha_{t'} / \alpha_t} (x_t - \sqrt{1 - \alpha_t} \epsilon) + \sqrt{1 - \alpha_{t'}}
        \epsilon`; [D] Eq. 7 is the same divided by :math:`\sqrt{\alpha_{t'}}`.
        """
        return self.noised(image, noise, t)


def sampling_times(
    settings: Mapping[str, Any] | None, steps: int, spacing: Spacing = "leading", start: int | None = None
) -> tuple[int, ...]:
    """Times at which a sampler of a few steps runs its network, from noise to image.

    Args:
        settings: as for :class:`NoiseSchedule`.
        steps: how many; ``"quadratic"`` leaves out those that fall on one time (96 of 100 for the paper's CIFAR-10).
        spacing: which; all but ``"quadratic"`` are diffusers' ``timestep_spacing``.
        start: of ``"quadratic"``, the first; by default 0.8 of all times, the paper's t = 800.

    Raises:
        ModelError: there are not so many times.
    """
    scheduler = _scheduler({**(settings or {})})
    times = scheduler.config.num_train_timesteps
    if not 1 <= steps <= times:
        raise ModelError(f"a sampler of {steps} steps does not fit a diffusion of {times} times; use 1 to {times}")
    if spacing == "quadratic":
        first = round(0.8 * times) if start is None else start
        if not 0 <= first < times:
            raise ModelError(f"the sampler cannot start at time {first}; use 0 to {times - 1}")
        roots = torch.linspace(0, math.sqrt(first), steps, dtype=torch.float64)
        # A square of a root may fall just short of the whole number it stands for.
        return tuple(sorted({int(value + 1e-9) for value in roots.square().tolist()}, reverse=True))
    if start is not None:
        raise ModelError(f"start is for the spacing 'quadratic', not {spacing!r}; give timesteps for any other choice")
    scheduler.register_to_config(timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    return tuple(int(t) for t in scheduler.timesteps)


def check_times(times: Sequence[int], known: int) -> tuple[int, ...]:
    """Times from noise to image.

    Raises:
        ModelError: there are none, they do not fall, or the diffusion does not have them.
    """
    if not times or any(later >= earlier for earlier, later in itertools.pairwise(times)):
        raise ModelError(f"timesteps must fall, from noise to image, not {list(times)}")
    if times[0] >= known or times[-1] < 0:
        raise ModelError(f"timesteps must lie in 0 to {known - 1}, not {list(times)}")
    return tuple(times)


def _scheduler(settings: dict[str, Any]) -> Any:
    try:
        from diffusers import DDIMScheduler
    except ImportError:
        raise ModelError("diffusion models need diffusers; install limbeck[diffusion]") from None
    known = inspect.signature(DDIMScheduler.__init__).parameters
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ModelError(
                f"scheduler: {name!r} is no argument of diffusers.DDIMScheduler"
                + (f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(list(known)[1:])}")
            )
    if settings.get("thresholding"):
        raise ModelError("scheduler: dynamic thresholding is not supported; leave thresholding out")
    try:
        scheduler = DDIMScheduler(**settings)
    except (NotImplementedError, ValueError, TypeError) as error:
        raise ModelError(f"scheduler: {error}") from None
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(
            f"scheduler: prediction_type must be epsilon, v_prediction or sample, not "
            f"{scheduler.config.prediction_type!r}"
        )
    return scheduler

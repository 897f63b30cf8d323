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

from limbeck.choices import check_choice
from limbeck.errors import ModelError

__all__ = ["BETA_SCHEDULES", "NoiseSchedule", "Prediction", "Spacing", "check_first", "sampling_times"]

Spacing = Literal["leading", "trailing", "linspace", "quadratic"]
"""Which times a sampler of a few steps visits: diffusers' three ways, or dense near the image ([D], CIFAR-10)."""

Prediction = Literal["epsilon", "v_prediction", "sample"]
"""What a network tells of a noisy image: its noise, the mixture of Salimans & Ho (2022), or the image itself."""

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
"""Laws of the noise added at each time, as diffusers calls them; the last is the cosine."""


class NoiseSchedule(nn.Module):
    r"""The constants of :math:`x_t = \sqrt{\alpha_t} x_0 + \sqrt{1 - \alpha_t} \epsilon` ([D] Eq. 4), and its algebra.

    :math:`\alpha_t` is the paper's, which the literature on DDPM writes :math:`\bar\alpha_t`.

    Args:
        settings: arguments of ``diffusers.DDIMScheduler``; by default a linear schedule of 1,000 times, predicting the
            noise. Images are clipped inside the sampler only if ``clip_sample`` is set: the paper does not.

    The constants are diffusers' own, kept in double precision whatever the model's: each is rounded where it is used.

    Attributes:
        times: number of times T of the diffusion.
        prediction: what the network tells.
        clip: largest absolute value of an image inside the sampler; ``None`` for no bound.

    Raises:
        ModelError: diffusers is missing, an argument is unknown or its value impossible.
    """

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
        if self.prediction == "epsilon" and not alpha.all():
            raise ModelError(
                "scheduler: where nothing is left of the image (rescale_betas_zero_snr), the noise does not tell it; "
                "such a network has prediction_type v_prediction or sample"
            )
        # Not buffers, which a model in single precision would round for good.
        self._exact = torch.stack([alpha.sqrt(), (1 - alpha).sqrt()])
        self._numbers: list[tuple[float, float]] = list(zip(*self._exact.tolist(), strict=True))
        self._rounded: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def at(self, t: int | Tensor, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        r""":math:`\sqrt{\alpha_t}` and :math:`\sqrt{1 - \alpha_t}`.

        Args:
            t: a time, or one a row, shape (batch,); ``times`` (one more than the last) is the image.
            like: what they will be multiplied with, shape (batch, ...).

        Returns:
            Numbers, or tensors of shape (batch, 1, ...).
        """
        if isinstance(t, int):
            return self._numbers[t]
        where = (like.device, like.dtype)
        table = self._rounded.get(where)
        if table is None:
            table = self._exact.to(*where)
            if not torch.compiler.is_compiling():  # what a step remembers is a reason to compile it again
                self._rounded[where] = table
        both = table[:, t].view(2, -1, *([1] * (like.ndim - 1)))
        return both[0], both[1]

    def noised(self, image: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        r"""An image at a time of the diffusion ([D] Eq. 4); all shapes (batch, ...), ``t`` as in :meth:`at`.

        Of the image and the noise that were seen in a state :math:`x_t`, it is a sampler's state at another time
        ([D] Eq. 8):

        .. math:: x_{t'} = \sqrt{\alpha_{t'}} \, x_0 + \sqrt{1 - \alpha_{t'}} \, \epsilon

        which is :math:`\sqrt{\alpha_{t'} / \alpha_t} (x_t - \sqrt{1 - \alpha_t} \epsilon) + \sqrt{1 - \alpha_{t'}}
        \epsilon`; [D] Eq. 7 is the same divided by :math:`\sqrt{\alpha_{t'}}`.
        """
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


def sampling_times(
    settings: Mapping[str, Any] | None, steps: int, spacing: Spacing = "leading", start: int | None = None
) -> tuple[int, ...]:
    """Times at which a sampler of a few steps runs its network, from noise to image.

    diffusers' sampler goes from time t to t - T // steps, which for ``"linspace"``, and for ``"trailing"`` where the
    steps do not divide T, is not the next time it looks at; :class:`~limbeck.models.DDIM` goes to the next of these
    times, as [D] Eq. 8 has it. On 8 x 8 digits the two differ by up to 0.40 of the pixels' range (0.03 on average) in
    10 steps of ``"linspace"``, 0.12 (0.004) in 50, and 0.03 (0.004) in 7 of ``"trailing"``; else by rounding alone.

    ``"leading"`` times leave out the last of the diffusion, the more the fewer they are (a single one is 0, where the
    image should be done): for few steps take ``"trailing"``.

    Args:
        settings: as for :class:`NoiseSchedule`.
        steps: how many; ``"quadratic"`` leaves out those that fall on one time (96 of 100 for [D]'s CIFAR-10).
        spacing: which; all but ``"quadratic"`` are diffusers' ``timestep_spacing``.
        start: of ``"quadratic"``, the first; by default 0.8 of all times, the t = 800 of [D]'s code; the paper states
            the number of steps alone.

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
    check_choice(ModelError, "spacing", spacing, Spacing)
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


def check_first(first: str, trained: Sequence[int], asked: Sequence[int]) -> None:
    """Refuse to begin elsewhere with a network that was trained to say something else at its first time.

    Args:
        first: how the image is read there.
        trained: the times that it was trained at.
        asked: those at which it is to be asked.

    Raises:
        ModelError: it is read as a residual, and the first times differ.
    """
    if first == "residual" and trained[0] != asked[0]:
        raise ModelError(
            f"first='residual': this network was trained to tell the image as x_T - F(x_T) at the time {trained[0]}, "
            f"not at {asked[0]}; give timesteps that begin with {trained[0]}, or say with first how it is read there"
        )


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
    if settings.get("beta_schedule", "linear") not in BETA_SCHEDULES:
        raise ModelError(
            f"scheduler: beta_schedule must be linear, scaled_linear or squaredcos_cap_v2 (the cosine), not "
            f"{settings['beta_schedule']!r}"
        )
    if settings.get("thresholding"):
        raise ModelError("scheduler: dynamic thresholding is not supported; leave thresholding out")
    try:
        scheduler = DDIMScheduler(**settings)
    except (ValueError, TypeError) as error:
        raise ModelError(f"scheduler: {error}") from None
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(
            f"scheduler: prediction_type must be epsilon, v_prediction or sample, not "
            f"{scheduler.config.prediction_type!r}"
        )
    return scheduler

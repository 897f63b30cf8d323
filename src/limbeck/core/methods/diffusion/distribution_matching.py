"""Distribution matching: the law of the student's images follows the teacher's (Yin et al. 2024)."""

from __future__ import annotations

import copy
from typing import cast

from torch import Tensor, nn
from typing_extensions import override

from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.methods.diffusion.denoiser import DenoisingModel, denoiser_of
from limbeck.core.methods.diffusion.diffusion_objective import DiffusionObjective, StepInputs
from limbeck.errors import MatchError

__all__ = ["DistributionMatching"]

_CLOSEST = 1e-3  # the least distance to the teacher's image, in the diffusion's units: the gradient stays finite


class DistributionMatching(DiffusionObjective):
    r"""Follows the gradient of KL(student || teacher) between noised images, at all levels of noise.

    With :math:`x = F_\theta(x_T)` and :math:`x_t = \sqrt{\alpha_t} x + \sqrt{1 - \alpha_t} \epsilon`, the gradient of
    the KL with respect to x is a difference of scores, that is of denoised images:

    .. math:: \nabla_x KL = E_{t, \epsilon}[w_t (\mu_\psi(x_t, t) - \mu_\phi(x_t, t))], \quad
              w_t = n / \|x - \mu_\phi(x_t, t)\|_1

    :math:`\mu_\phi` is the teacher's network and :math:`\mu_\psi` a second one, which starts as a copy of it and learns
    to denoise the student's images as they change, with the loss of [D] Eq. 9. Both losses are minimised in the same
    step: neither network's gradient reaches the other's weights. It needs no data, nor images of the teacher: for each
    of the student's images it uses only the teacher's denoised one. So it sharpens what a regression on pairs has
    blurred; by itself it may drop modes (KL in this direction), so it is best used beside the pairs:
    :func:`~limbeck.core.methods.sharpened`.

    Args:
        low: smallest noise level, as a fraction of the diffusion's times.
        high: the largest.

    Raises:
        MatchError: the levels do not lie in order in [0, 1]; when called: the models are not diffusion models.

    References:
        Yin et al., One-step Diffusion with Distribution Matching Distillation, CVPR 2024 (Eq. 7, 8; as in their code,
        without the factor :math:`\sqrt{\alpha_t}` that remains of these).
    """

    def __init__(self, low: float = 0.02, high: float = 0.98) -> None:
        super().__init__()
        if not 0 <= low < high <= 1:
            raise MatchError(f"distribution matching needs 0 <= low < high <= 1, not {low} and {high}")
        self.low = low
        self.high = high
        self.critic: nn.Module | None = None

    @override
    def prepare(self, teacher: DGM | None, student: DGM, x: Tensor | None = None) -> None:
        """Make the second network; see :class:`Objective`."""
        if teacher is not None and self.critic is None:
            self.critic = copy.deepcopy(denoiser_of(teacher, "teacher")).requires_grad_(True)

    @override
    def losses(self, teacher: DGM, student: DGM, inputs: StepInputs) -> dict[str, Tensor]:
        """Two terms: ``"distribution"``, the student's; and ``"critic"``, the second network's."""
        if self.critic is None:
            raise MatchError("distribution matching needs, before the first step, objective.prepare(teacher, student)")
        guide, critic, x = denoiser_of(teacher, "teacher"), cast(DenoisingModel, self.critic), inputs.x
        schedule = guide.schedule
        image = inputs.images_of(student)
        found = image.detach()
        first, last = (round(level * schedule.times) for level in (self.low, self.high))
        t = inputs.random_integers(first, max(last, first + 1), image).to(image.device)
        state, noise = inputs.noised(schedule, found, t)
        with frozen(guide):
            real, _ = guide.denoise(state, t, x)
        # One evaluation of the critic serves both: its image for the student's loss, and its own loss.
        prediction = critic.network(state, t, x)
        fake, _ = schedule.image_and_noise(prediction.detach(), state, t)
        apart = (found - real).abs().flatten(1).mean(1).clamp_min(_CLOSEST)
        pull = (fake - real) / apart.view(-1, *([1] * (image.ndim - 1)))
        # The gradient of half the squared distance to a fixed point is the difference to it.
        distribution = 0.5 * (image - (found - pull)).square().flatten(1).sum(1).mean()
        return {"distribution": distribution, "critic": (prediction - schedule.aim(found, noise, t)).square().mean()}

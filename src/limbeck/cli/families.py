"""What the commands do differently for flows, diffusion models and classifiers, in one place."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from limbeck.cli.distilling import keep_pipeline
from limbeck.cli.printing import say
from limbeck.cli.words import option
from limbeck.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.core.graph import DGM
    from limbeck.engine.pairs.pair_options import Pairs
    from limbeck.models import DDIM
    from limbeck.models.flows.flow import Flow

__all__ = ["Classifiers", "Diffusion", "Family", "Flows", "family_of"]

_POOL = 50_000  # samples of a teacher that is a flow, drawn once: autoregressive flows are slow to sample

PIPELINE = "pipeline"
"""Folder beside a diffusion student in which it is kept as diffusers reads it."""


class Family:
    """A model in the hands of a command. This class is right for any model; subclasses change what their family needs.

    Attributes:
        model: the model.
    """

    def __init__(self, model: DGM) -> None:
        self.model = model

    # As a teacher.

    def student_settings(self, words: Sequence[str]) -> dict[str, Any]:
        """The arguments of a student of this teacher's class, unless the command line changes them."""
        return self.model.config

    def objective(self, words: Sequence[str]) -> dict[str, Any]:
        """The objective, unless the command line names one: class and arguments."""
        return {"class_path": "limbeck.methods.surrogate"}

    def inputs(self) -> Tensor | None:
        """Conditioning inputs for the teacher, where there is no data to take them from; ``None`` if it has none."""
        return None

    # As a student.

    def check_steps(self, steps: int | None) -> None:
        """Check that ``--steps`` means something for this model.

        Raises:
            RecipeError: steps are given, but this is no diffusion model.
        """
        if steps is not None:
            raise RecipeError(
                f"--steps={steps}: a {type(self.model).__name__} has no steps, only diffusion models have; leave it out"
            )

    def starts_from(self, teacher: DGM) -> bool:
        """Whether this student starts from the teacher's weights, unless the command line says ``--start``."""
        return False

    def start_from(self, teacher: DGM) -> None:
        """Copy the teacher's weights.

        Raises:
            ModelError: they do not fit.
        """
        self.model.start_from(teacher)

    def pairs(self, pairs: Pairs | None, teacher: DGM) -> Pairs | None:
        """What is recorded of the teacher for this student."""
        return pairs

    def keep(self, folder: Path) -> None:
        """Write the trained student for other libraries as well, beside the model of this library."""

    # As a saved model.

    def at_steps(self, steps: int | None) -> DGM:
        """The model with this number of sampling steps.

        Args:
            steps: ``--steps``; ``None`` for the model as it is.

        Raises:
            RecipeError: steps are given, but this is no diffusion model.
        """
        self.check_steps(steps)
        return self.model

    @property
    def classes(self) -> int:
        """How many classes the model draws images of; 0 if it is given none. A classifier draws none."""
        return 0

    def makes_drawings(self, x: Tensor | None) -> bool:
        """Whether samples are rows of (dx, dy, pen), in one target or several.

        Args:
            x: conditioning inputs, shape (rows, ...), or ``None``.
        """
        try:
            y = self.model.join_targets(self.model.sample(1, None if x is None else x[:1]))
        except ModelError:  # several targets that do not form one y
            return False
        return y.ndim == 3 and y.shape[2] in (3, 4)

    def evaluation(self, compare: bool) -> dict[str, Any]:
        """The evaluation, unless the command line or a recipe names one: class and arguments.

        Args:
            compare: whether there is another model to compare this one's predictions with.
        """
        return {"class_path": "limbeck.engine.ImageEvaluation"}


class Classifiers(Family):
    """Models of labels given images: measured by their accuracy."""

    @override
    def evaluation(self, compare: bool) -> dict[str, Any]:
        """Accuracy and what goes with it."""
        from limbeck.models import VIB

        settings: dict[str, Any] = {"primary": "accuracy", "compare": compare}
        if not isinstance(self.model, VIB):  # without latents, one draw tells all
            settings["draws"] = 1
        return {"class_path": "limbeck.engine.ClassifierEvaluation", "init_args": settings}


class Flows(Family):
    """Normalizing flows: they have a density, so that students can match it and evaluations report the likelihood."""

    model: Flow

    @override
    def objective(self, words: Sequence[str]) -> dict[str, Any]:
        """With data the latents on the data, without the density of the teacher's samples."""
        if option(words, "--data") is not None:
            return {"class_path": "limbeck.methods.ilkd"}
        return {"class_path": "limbeck.methods.density", "init_args": {"pool": _POOL}}

    @override
    def evaluation(self, compare: bool) -> dict[str, Any]:
        """Likelihood, of rows of a table or of images."""
        of_tables = len(self.model.latent_shapes[0]) == 1
        return {"class_path": f"limbeck.engine.{'FlowTableEvaluation' if of_tables else 'FlowImageEvaluation'}"}


class Diffusion(Family):
    """Diffusion models: their number of steps can be chosen, and a student can start from the teacher's network."""

    model: DDIM

    @override
    def student_settings(self, words: Sequence[str]) -> dict[str, Any]:
        """The teacher's own network, evaluated ``--steps`` times at evenly spaced times.

        The first of these times is the last of the diffusion. A network that predicts the noise sees next to nothing of
        the image there, so the student reads the image as the noise less the network's output ([D] Sec. 3.2).
        """
        config = copy.deepcopy(self.model.config)
        config |= {"steps": _steps(words), "spacing": "trailing", "start": None, "timesteps": None}
        config["first"] = "residual" if self.model.schedule.prediction == "epsilon" else "network"
        return config

    @override
    def objective(self, words: Sequence[str]) -> dict[str, Any]:
        """For one step the Denoising Student; for several, also the states in between that both models have."""
        return {"class_path": f"limbeck.methods.{'denoising_student' if _steps(words) == 1 else 'few_step'}"}

    @override
    def inputs(self) -> Tensor | None:
        """Every class, one-hot, shape (classes, classes)."""
        import torch

        return torch.eye(self.classes) if self.classes else None

    @override
    def check_steps(self, steps: int | None) -> None:
        """Any number is fine here; the model itself refuses those that are too large."""

    @override
    def starts_from(self, teacher: DGM) -> bool:
        """Yes, if the teacher is a diffusion model too."""
        from limbeck.models import DDIM

        return isinstance(teacher, DDIM)

    @override
    def start_from(self, teacher: DGM) -> None:
        """Copy what fits of the teacher's network, and say how much that is."""
        from limbeck.engine.stages.ranks import is_main_process

        inherited = self.model.inherit(teacher)
        if is_main_process():
            say(f"Start: {inherited}.")

    @override
    def pairs(self, pairs: Pairs | None, teacher: DGM) -> Pairs | None:
        """Pairs with the states that are compared: those of the times that both models have."""
        from limbeck.models import DDIM

        if pairs is None or pairs.states or not isinstance(teacher, DDIM):
            return pairs
        shared = [time for time in self.model.timesteps[1:] if time in teacher.timesteps]
        return dataclasses.replace(pairs, states=[f"x[{time}]" for time in shared])

    @override
    def keep(self, folder: Path) -> None:
        """Write the student as a pipeline of diffusers."""
        keep_pipeline(self.model, folder / PIPELINE)

    @override
    def at_steps(self, steps: int | None) -> DGM:
        """The same network, evaluated at evenly spaced times."""
        return self.model if steps is None else self.model.resampled(steps=steps, spacing="trailing", start=None)

    @property
    @override
    def classes(self) -> int:
        """How many classes the images are drawn of."""
        return self.model.classes

    @override
    def makes_drawings(self, x: Tensor | None) -> bool:
        """No: they draw images, and it would take long to look."""
        return False

    @override
    def evaluation(self, compare: bool) -> dict[str, Any]:
        """Quality of the images and time at several numbers of steps."""
        return {"class_path": "limbeck.engine.DiffusionEvaluation"}


def family_of(model: DGM) -> Family:
    """The family that a model belongs to."""
    from limbeck.models import DDIM, VIB, MLPClassifier, NetworkClassifier
    from limbeck.models.flows.flow import Flow

    if isinstance(model, DDIM):
        return Diffusion(model)
    if isinstance(model, Flow):
        return Flows(model)
    if isinstance(model, NetworkClassifier | MLPClassifier | VIB):
        return Classifiers(model)
    return Family(model)


def _steps(words: Sequence[str]) -> int:
    """``--steps``: evaluations of the student's network; 1 if not given.

    The parser cannot check it: what it takes for a student depends on this number.

    Raises:
        RecipeError: it is not a positive whole number.
    """
    given = option(words, "--steps")
    try:
        steps = 1 if given is None else int(given)
    except ValueError:
        steps = 0
    if steps < 1:
        raise RecipeError(f"--steps={given}: the student's number of steps must be a whole number of at least 1")
    return steps

"""Diffusion models from and to pipeline directories of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.errors import ModelError
from limbeck.models.diffusion.pipeline import is_pipeline, read_pipeline
from limbeck.models.diffusion.schedule import NoiseSchedule, Spacing, check_first
from limbeck.models.diffusion.writing import write_pipeline

__all__ = ["Pipelined"]

_STEPS = 50  # diffusers' own default


class Pipelined(DGM):
    """A model that diffusers could have saved: how it is read and written as a pipeline.

    Attributes:
        unet: the network.
        schedule: the diffusion's constants.
        timesteps: when the network is asked.
        first: how the image is read at the first time.
        tolerance: standard deviation of the target.
        classes: how many it knows; 0 for an unconditional model.
    """

    unet: Any
    schedule: NoiseSchedule
    timesteps: tuple[int, ...]
    first: str
    tolerance: float
    classes: int

    @classmethod
    def from_pipeline(
        cls,
        name: str | Path,
        steps: int | None = None,
        spacing: Spacing | None = None,
        start: int | None = None,
        timesteps: list[int] | None = None,
        **changes: Any,
    ) -> Self:
        """A diffusion model that diffusers has saved: a pipeline directory, or a name on the Hugging Face hub.

        Its images are those of ``diffusers.DDIMPipeline``, which takes the network and the scheduler's constants of any
        pipeline: also ``clip_sample``, which is on in most of them, while the paper's sampler does not clip; switch it
        off with ``scheduler={"clip_sample": False}``.

        Args:
            name: a directory, or ``owner/name`` on the hub.
            steps: evaluations of the network; by default 50, as in diffusers, and in a directory that
                :meth:`save_pipeline` wrote the times of the model that was saved.
            spacing: see :class:`DDIM`; by default the pipeline's own.
            start: see :class:`DDIM`.
            timesteps: see :class:`DDIM`.
            changes: other arguments of the constructor; ``unet`` and ``scheduler`` only what differs from the pipeline.

        Returns:
            The model, in eval mode and single precision.

        Raises:
            ModelError: it is no such pipeline, is damaged, or only has pickled weights, which are never read; or the
                first time is another than that of the model that was saved, and it matters (``first="residual"``).
        """
        asked = {"steps": steps, "spacing": spacing, "start": start, "timesteps": timesteps}
        return _load(cls, name, {key: value for key, value in asked.items() if value is not None}, changes)

    @override
    def reloaded(self, directory: str | Path) -> Self:
        """This sampler with the network of a pipeline, a directory or a name on the hub.

        Of the scheduler's settings, those that this model was given are kept too, and nothing is clipped unless it says
        so. What this library saved is taken as it is.
        """
        if Path(directory).is_dir() and not is_pipeline(directory):
            return super().reloaded(directory)
        return type(self).from_pipeline(
            directory, timesteps=list(self.timesteps), first=self.first, tolerance=self.tolerance,
            scheduler={"clip_sample": False, **(self.config["scheduler"] or {})},
        )  # fmt: skip

    def save_pipeline(self, directory: str | Path) -> None:
        """Write the model as diffusers does: a directory that ``DDIMPipeline.from_pretrained`` loads.

        Where the first step or the times are not among those that ``DDIMPipeline`` knows, or there are classes, the
        directory has code of its own beside the weights::

            DiffusionPipeline.from_pretrained(directory, custom_pipeline=directory, trust_remote_code=True)

        Args:
            directory: made if missing; must not hold a model of this library.
        """
        write_pipeline(self, directory)


Model = TypeVar("Model", bound=Pipelined)


def _load(kind: type[Model], name: str | Path, times: Mapping[str, Any], changes: Mapping[str, Any]) -> Model:
    """The body of :meth:`Pipelined.from_pipeline`.

    Args:
        kind: class of the model.
        name: directory, or name on the hub.
        times: what the caller says of them: ``steps``, ``spacing``, ``start``, ``timesteps``.
        changes: other arguments of the class; ``unet`` and ``scheduler`` only what differs from the pipeline.

    Returns:
        The model in eval mode and single precision.

    Raises:
        ModelError: see there.
    """
    found = read_pipeline(name)
    own = {key: value for key, value in found.own.items() if key in ("timesteps", "first", "tolerance")}
    if times:
        own.pop("timesteps", None)
    settings = {"steps": _STEPS, "spacing": found.spacing, **own, **times, **changes}
    settings["unet"] = found.unet | changes.get("unet", {})
    settings["scheduler"] = found.scheduler | changes.get("scheduler", {})
    model = kind(**settings)
    if "first" not in changes and found.own.get("timesteps"):
        check_first(model.first, found.own["timesteps"], model.timesteps)
    weights = found.weights()
    try:
        model.unet.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{name}: the weights do not fit the network: {reason}") from None
    return model.eval()

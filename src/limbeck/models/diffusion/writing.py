"""Writing a diffusion model as a pipeline directory that diffusers reads without this library."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from limbeck.errors import ModelError
from limbeck.files import atomic_write_bytes, atomic_write_text
from limbeck.models.diffusion.pipeline import INDEX, OWN
from limbeck.models.diffusion.schedule import sampling_times

if TYPE_CHECKING:
    from limbeck.models.diffusion.files import Pipelined

__all__ = ["CODE", "plain_spacing", "write_pipeline"]

CODE = "pipeline.py"
"""Name under which diffusers looks for the code of a directory's own pipeline."""

_SOURCE = "ddim_pipeline.py"
_CLASS = "DistilledDDIMPipeline"


def plain_spacing(model: Pipelined) -> str | None:
    """The spacing with which diffusers' own ``DDIMPipeline`` draws the same images in as many steps, if there is one.

    It takes the state after time t to be that of time t - T // steps, whatever the list of times says.
    """
    if model.first != "network" or model.classes:
        return None
    settings = model.config["scheduler"]
    stride = model.schedule.times // len(model.timesteps)
    follow = [t - stride for t in model.timesteps]
    if follow[:-1] != list(model.timesteps[1:]) or follow[-1] >= 0:
        return None
    known = ("leading", "trailing", "linspace")
    return next((way for way in known if sampling_times(settings, len(follow), way) == model.timesteps), None)  # type: ignore[arg-type]


def write_pipeline(model: Pipelined, directory: str | Path) -> None:
    """Write a pipeline directory: ``unet``, ``scheduler``, and the index last; no pickle.

    Args:
        model: any; where diffusers' own pipeline would compute something else, code is written beside it.
        directory: made if missing. Each file replaces an older one only once it is complete.

    Raises:
        ModelError: the directory holds a model of another kind.
        StorageError: the disk refuses.
    """
    import diffusers

    directory = Path(directory)
    if (directory / "config.json").exists():
        raise ModelError(f"{directory} holds a saved model already; write the pipeline into a directory of its own")
    spacing = plain_spacing(model)
    settings = {"clip_sample": False, **(model.config["scheduler"] or {})}
    scheduler = diffusers.DDIMScheduler(**{**settings, **({"timestep_spacing": spacing} if spacing else {})})
    own = {"timesteps": list(model.timesteps), "first": model.first, "tolerance": model.tolerance}
    index: dict[str, Any] = {
        "_class_name": "DDIMPipeline" if spacing else [Path(CODE).stem, _CLASS],
        "_diffusers_version": diffusers.__version__,
        OWN: own,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    if spacing is None:
        index |= {"timesteps": own["timesteps"], "first": own["first"]}
        code = importlib.resources.files(__package__).joinpath(_SOURCE).read_text(encoding="utf-8")
        atomic_write_text(directory / CODE, code)
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.unet.state_dict().items()}
    atomic_write_text(directory / "scheduler" / "scheduler_config.json", scheduler.to_json_string())
    atomic_write_text(directory / "unet" / "config.json", model.unet.to_json_string())
    atomic_write_bytes(
        directory / "unet" / "diffusion_pytorch_model.safetensors", save(weights, metadata={"format": "pt"})
    )
    atomic_write_text(directory / INDEX, json.dumps(index, indent=2) + "\n")

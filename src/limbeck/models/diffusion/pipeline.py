"""Diffusers' pipeline directories: what of one is needed to run its network as a :class:`~limbeck.models.DDIM`."""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.errors import ModelError
from limbeck.models.diffusion.schedule import BETA_SCHEDULES

__all__ = ["INDEX", "OWN", "Pipeline", "is_pipeline", "read_pipeline"]

INDEX = "model_index.json"
"""The file that makes a directory a pipeline: which parts it has, and of which classes."""

OWN = "_limbeck"
"""Key of the index under which this library notes times, first step and tolerance; diffusers passes over it."""

_NETWORK = "UNet2DModel"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
# Schedulers whose network was trained with betas at whole times; the others know noise levels or flows instead.
_BETAS = ("DDIM", "DDPM", "PNDM", "DEIS", "DPMSolver", "UniPC", "Euler", "Heun", "LMS", "KDPM2")
_SIGMAS = ("EDM", "Flow", "FlowMatch", "DPMSolverSDE")


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline directory tells.

    Attributes:
        folder: where it lies on this machine.
        unet: arguments of ``diffusers.UNet2DModel``.
        scheduler: arguments of ``diffusers.DDIMScheduler``.
        spacing: how the pipeline's own scheduler chooses times.
        own: what this library noted when it wrote the directory; empty if it did not.
    """

    folder: Path
    unet: dict[str, Any]
    scheduler: dict[str, Any]
    spacing: str
    own: dict[str, Any]

    def weights(self) -> Mapping[str, Tensor]:
        """The network's weights, under the names that the installed diffusers uses.

        Raises:
            ModelError: they are missing, pickled, unreadable, or those of another network.
        """
        from diffusers import UNet2DModel

        folder = _part(self.folder, "unet")
        if not any(folder.glob("*.safetensors")):
            files = sorted(path.name for path in folder.iterdir())
            pickled = next((name for name in files if name.endswith(_PICKLES)), None)
            told = (
                f"only {pickled}, a pickle, which could run any code when it is read; convert it where you trust it: "
                "DiffusionPipeline.from_pretrained(...).save_pretrained(...)"
                if pickled
                else "no diffusion_pytorch_model.safetensors; copy the pipeline again"
            )
            raise ModelError(f"{folder} holds {told}")
        try:
            with _quiet():
                network, found = UNet2DModel.from_pretrained(
                    folder,
                    use_safetensors=True,
                    local_files_only=True,
                    low_cpu_mem_usage=False,
                    output_loading_info=True,
                )
        except Exception as error:  # the reader of tensors, diffusers and the system raise different ones
            raise ModelError(
                f"{folder}: the network's weights cannot be read, or are not those of the network that config.json "
                f"describes ({_first_line(error)})"
            ) from None
        other = sorted([*found["missing_keys"], *found["unexpected_keys"]])
        if other:
            raise ModelError(
                f"{folder}: its weights are not those of the network that config.json describes; {len(other)} of them "
                f"are missing or have no place, e.g. {other[0]}"
            )
        weights: dict[str, Tensor] = network.state_dict()
        return weights


def is_pipeline(directory: str | Path) -> bool:
    """Whether a directory is one that diffusers' pipelines are saved as."""
    return (Path(directory) / INDEX).is_file()


def read_pipeline(name: str | Path) -> Pipeline:
    """Read what a pipeline says of itself; the weights later.

    Args:
        name: a directory, or the name of a pipeline on the Hugging Face hub, as in ``google/ddpm-cifar10-32``. Nothing
            but JSON and safetensors is fetched from there: neither code nor pickles.

    Raises:
        ModelError: there is no such pipeline, or it does not draw images from noise with one ``UNet2DModel``.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _fetched(str(name))
    index = _read(folder / INDEX, f"{folder} is no pipeline of diffusers")
    _check_parts(index, str(name))
    config = _read(_part(folder, "unet") / "config.json", f"{folder} holds no network")
    if config.get("_class_name", _NETWORK) != _NETWORK:
        raise ModelError(f"{folder}: the network is a {config['_class_name']}, not a diffusers.{_NETWORK}")
    known = inspect.signature(_network_class().__init__).parameters
    unet = {key: value for key, value in config.items() if key in known and value is not None}
    own = index.get(OWN, {})
    scheduler, spacing = _scheduler(folder, index)
    return Pipeline(folder, unet, scheduler, spacing, own if isinstance(own, dict) else {})


def _check_parts(index: Mapping[str, Any], name: str) -> None:
    parts = {key: value[1] for key, value in index.items() if key[0] != "_" and _is_part(value)}
    kind = index.get("_class_name", "pipeline")
    kind = kind[-1] if isinstance(kind, list) else kind
    if parts.get("unet") != _NETWORK or "scheduler" not in parts:
        has = ", ".join(f"{key} {value}" for key, value in parts.items()) or "none"
        raise ModelError(
            f"{name} is a {kind} with the parts {has}; only pipelines with a unet that is a diffusers.{_NETWORK} and "
            "a scheduler can be read: DDPMPipeline, DDIMPipeline and their like"
        )
    others = sorted(parts.keys() - {"unet", "scheduler"})
    if others:
        raise ModelError(
            f"{name} is a {kind} whose network does not draw pixels: {', '.join(others)} comes after it or tells it "
            "what to draw; latent and guided diffusion are not supported"
        )


def _is_part(value: object) -> bool:
    """Whether an entry of the index is a library and a class, and not a setting."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(word, str) for word in value)


def _scheduler(folder: Path, index: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A scheduler's settings as those of DDIM's, and how it spaces times."""
    import diffusers

    place = _part(folder, "scheduler")
    found = _read(place / "scheduler_config.json", f"{folder} holds no scheduler")
    name = str(found.get("_class_name", index["scheduler"][1]))
    kind = getattr(diffusers, name, None)
    if kind is None or not name.startswith(_BETAS) or name.startswith(_SIGMAS):
        raise ModelError(
            f"{place}: the scheduler {name} is not one of a diffusion in discrete times with betas, such as "
            "DDPMScheduler or DDIMScheduler; its network cannot be sampled by DDIM"
        )
    try:
        with _quiet():
            # With the defaults of its own class for what is not written down.
            own = kind.from_config({key: value for key, value in found.items() if key[0] != "_"})
            settings = dict(own.config)
    except Exception as error:  # whatever the class thinks of its arguments
        raise ModelError(f"{place / 'scheduler_config.json'} does not fit {name} ({_first_line(error)})") from None
    if settings.get("prediction_type") == "flow_prediction" or settings.get("use_flow_sigmas"):
        raise ModelError(f"{place}: the network predicts a flow; its network cannot be sampled by DDIM")
    wanted = inspect.signature(diffusers.DDIMScheduler.__init__).parameters
    spacing = settings.get("timestep_spacing", "leading")
    kept = {key: value for key, value in settings.items() if key in wanted and key != "timestep_spacing"}
    betas = kept.get("trained_betas")
    if betas is None and kept.get("beta_schedule") not in BETA_SCHEDULES:
        betas = own.betas  # of a law that DDIM's scheduler does not know: number by number
        kept |= {"beta_schedule": BETA_SCHEDULES[0], "rescale_betas_zero_snr": False}
    if betas is not None:
        kept["trained_betas"] = [float(beta) for beta in betas]
    return {key: value for key, value in kept.items() if value is not None}, str(spacing)


def _part(folder: Path, name: str) -> Path:
    """Where a part lies; the oldest pipelines of the hub have all of them at the top."""
    return folder / name if (folder / name).is_dir() else folder


def _read(path: Path, otherwise: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{otherwise}: {path} is missing") from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} is not readable JSON ({error})") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} is not a mapping; {otherwise}")
    return found


def _fetched(name: str) -> Path:
    """The directory of a pipeline of the hub."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise ModelError(f"{name} is not a directory, nor the name of a pipeline on the hub, owner/name")
    from huggingface_hub import snapshot_download

    try:
        # The text first: a model of another kind is refused before gigabytes of it are there.
        folder = Path(snapshot_download(name, allow_patterns=["*.json"]))
        _check_parts(_read(folder / INDEX, f"{name} is no pipeline of diffusers"), name)
        found = snapshot_download(
            name, allow_patterns=["*.json", "*.safetensors"], ignore_patterns=["*.fp16.*", "*.non_ema.*"]
        )
    except ModelError:
        raise
    except Exception as error:  # of the network, the hub or its cache: there is no common class
        raise ModelError(
            f"there is no directory {name}, and no pipeline of that name could be fetched from the Hugging Face hub "
            f"({_first_line(error)}); give a directory, or try again with a network"
        ) from None
    return Path(found)


def _network_class() -> Any:
    try:
        from diffusers import UNet2DModel
    except ImportError:
        raise ModelError("diffusion models need diffusers; install limbeck[diffusion]") from None
    return UNet2DModel


def _first_line(error: Exception) -> str:
    """What an error says first; a heading together with what it is about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])
    return (found or type(error).__name__)[:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without diffusers' advice on how else to load: what matters is checked here, and raised."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)

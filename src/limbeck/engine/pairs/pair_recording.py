"""A recording of a teacher: where its pairs are kept, their fingerprint, and what is needed to read and write them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.data.pairs.claims import claims
from limbeck.data.pairs.layout import PairLayout
from limbeck.data.pairs.store import CLAIMS, PairStore
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.pair_sites import PairNoise, PairSite, noise_probe, sites_of
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.files import atomic_write_bytes

__all__ = ["Recording", "opened", "recording"]

_SCHEME = 1  # of PairNoise: another one gives other noise from the same seed
_INPUTS = "inputs.safetensors"


@dataclass(frozen=True)
class Recording:
    """A store of pairs, with all that is needed to read and write it.

    Attributes:
        store: the files.
        sites: all sites of the teacher in the order of its program.
        noise: gives each page its noise.
        inputs: conditioning inputs, shape (inputs, ...), if the teacher has one.
    """

    store: PairStore
    sites: tuple[PairSite, ...]
    noise: PairNoise
    inputs: Tensor | None = None

    def inputs_of(self, chosen: Tensor | None, like: Tensor) -> Tensor | None:
        """Conditioning inputs by their numbers; images of bytes become floats.

        Args:
            chosen: numbers, shape (rows,).
            like: has the device and type of the result.

        Returns:
            Shape (rows, ...).
        """
        if chosen is None or self.inputs is None:
            return None
        rows = self.inputs[chosen]
        if rows.dtype == torch.uint8:
            rows = rows.float().div_(255.0)
        return rows.to(like.device, like.dtype if rows.is_floating_point() else None)


def recording(
    teacher: DGM, pairs: Pairs, directory: Path, *, seed: int, inputs: Tensor | None = None, identity: str | None = None
) -> Recording:
    """The recording of a teacher, which has a directory of its own below ``directory``; it is begun if it is not there.

    Args:
        teacher: the model that makes the pairs.
        pairs: what to store, and how.
        directory: where recordings are kept.
        seed: fixes the noise.
        inputs: conditioning inputs, shape (inputs, ...), if the model has any; each row gets a random one.
        identity: fingerprint of the teacher; by default that of its class, arguments and weights.

    Raises:
        ModelError: the teacher's run cannot be recorded; see :func:`~limbeck.engine.pairs.pair_sites.sites_of`.
        StorageError: the directory cannot be written.
    """
    key = fingerprint(
        teacher=identity or model_key(teacher),
        pairs=pairs.stored(), seed=seed, scheme=_SCHEME, noise=noise_probe(),
        inputs=None if inputs is None else [list(inputs.shape), str(inputs.dtype), _hash(inputs)],
    )  # fmt: skip
    folder = directory.resolve() / key
    store = PairStore.find(folder)
    if store is None:
        sites = sites_of(teacher, pairs, inputs)
        # Alone: another process that begins the same recording would take unfinished files for those of a dead process.
        with claims(folder / CLAIMS) as held:
            held.take_all()
            store = PairStore.find(folder) or _begun(folder, key, sites, pairs, seed, inputs)
    return opened(store)


def _begun(
    folder: Path, key: str, sites: Sequence[PairSite], pairs: Pairs, seed: int, inputs: Tensor | None
) -> PairStore:
    """A new store, without pairs."""
    fields = tuple(field for site in sites if (field := site.field) is not None)
    if inputs is not None:
        atomic_write_bytes(folder / _INPUTS, save({"inputs": inputs.contiguous()}))
    details = {
        "sites": [dataclasses.asdict(site) for site in sites],
        "seed": seed,
        "inputs": 0 if inputs is None else len(inputs),
    }
    return PairStore.create(folder, PairLayout(key, pairs.page_rows, pairs.shard_rows, fields, details))


def opened(store: PairStore) -> Recording:
    """The recording that the manifest of a store describes."""
    details = store.layout.details
    sites = tuple(PairSite.of_record(record) for record in details["sites"])
    latents = {site.name: site.shape for site in sites if site.kind == "latent"}
    noise = PairNoise(details["seed"], store.layout.page_rows, latents, details["inputs"])
    inputs = load((store.directory / _INPUTS).read_bytes())["inputs"] if details["inputs"] else None
    return Recording(store, sites, noise, inputs)


def _hash(tensor: Tensor) -> str:
    return hashlib.sha256(save({"": tensor.contiguous()})).hexdigest()

"""Models whose sites have any name, kind and shape, for tests of how sites are matched."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import Normal

from limbeck.core.graph import DGM


class Renamed(DGM):
    """A model of the zoo under other names: it runs the original program through a translating ``sites``."""

    def __init__(self, base: DGM, names: dict[str, str]) -> None:
        super().__init__()
        self.base, self.names = base, names

    def generate(self, sites, x=None):
        names = self.names

        class Translated:
            def __getattr__(self, attribute):
                original = getattr(sites, attribute)
                if attribute not in ("latent", "target", "deterministic"):
                    return original
                return lambda name, law: original(names.get(name, name), law)

        self.base.generate(Translated(), x)


class Gaussians(DGM):
    """Independent unit Gaussians as sites of any name, kind and shape."""

    def __init__(self, **kinds: str) -> None:
        super().__init__()
        self.sites = {name.replace("_", ""): kind for name, kind in kinds.items()}
        self.shift = nn.Parameter(torch.zeros(()))
        self.shapes: dict[str, tuple[int, ...]] = {}

    def generate(self, sites, x=None):
        for name, kind in self.sites.items():
            value = sites.zeros(*self.shapes.get(name, (2,))) + self.shift
            getattr(sites, kind)(name, value if kind == "deterministic" else Normal(value, torch.ones_like(value)))


def shifted(by: float, **kinds: str) -> Gaussians:
    model = Gaussians(**kinds)
    model.shift.data.fill_(by)
    return model

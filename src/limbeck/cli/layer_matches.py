"""``--match`` on the command line: which layers of the teacher and of the student are compared, and how."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limbeck.cli.words import take
from limbeck.errors import MatchError, ModelError, RecipeError

if TYPE_CHECKING:
    from limbeck.cli.own_network import OwnNetwork
    from limbeck.core.objective import Match

__all__ = ["DEFAULT_MATCH", "LayerMatches"]

DEFAULT_MATCH = "logits:kd"
_SITES = ("logits", "penultimate", "y")  # sites that every classifier has, whatever its modules are called


@dataclass(frozen=True)
class LayerMatches:
    """The matches of a command line.

    Attributes:
        texts: as typed.
        matches: what they mean, in the same order.
    """

    texts: list[str]
    matches: list[Match]

    @classmethod
    def of(cls, words: Sequence[str]) -> tuple[LayerMatches, list[str]]:
        """Every ``--match`` of a command line, and the other words.

        Raises:
            RecipeError: one is written wrongly.
        """
        from limbeck.core.methods.knowledge_transfer import matched

        taken, others = take(words, "--match".__eq__)
        texts = [text for _, text in taken] or [DEFAULT_MATCH]
        try:
            return cls(texts, [matched(text) for text in texts]), others
        except MatchError as error:
            raise RecipeError(f"--match: {error}") from None

    def layers(self, network: OwnNetwork) -> dict[str, str]:
        """The layers of one network that are compared: name of the site to path of the module.

        Args:
            network: the teacher's or the student's; its role says which side of the matches it is on.

        Raises:
            ModelError: it has no layer of a name or pattern.
        """
        paths: dict[str, str] = {}
        for name, text in self._names(network.role):
            paths |= _paths(name, network, text)
        return paths

    def _names(self, role: str) -> Iterator[tuple[str, str]]:
        """Names or patterns of one side, each with its match as typed."""
        for match, text in zip(self.matches, self.texts, strict=True):
            assert isinstance(match.teacher, str)
            pattern = match.teacher if role == "teacher" or match.student is None else match.student
            yield from ((name, text) for name in pattern.split("&"))


def _paths(name: str, network: OwnNetwork, text: str) -> dict[str, str]:
    """Site name to module path, for all layers that a name or pattern of a match stands for."""
    if name in _SITES or "|" in name:
        return {}
    own = network.feature_paths
    if "*" not in name:
        return {name: own[name] if name in own else _module(name, network, text)}
    literal = name.replace("[", "[[]")  # brackets are part of names, not sets of letters
    among = own if any(fnmatch.fnmatchcase(site, literal) for site in own) else None
    modules = among or {path: path for path, _ in network.module.named_modules() if _level(path) == _level(name)}
    found = {site: path for site, path in modules.items() if fnmatch.fnmatchcase(site, literal)}
    if not found:
        known = ", ".join([*own, *(path for path, _ in network.module.named_children())])
        raise ModelError(f"--match {text}: no layer of the {network.role} is called {name!r}; there are {known}")
    return found


def _level(path: str) -> int:
    """How deep in a network a path lies; 0 for the network itself, which is no layer of it."""
    return path.count(".") + 1 if path else 0


def _module(name: str, network: OwnNetwork, text: str) -> str:
    """The path of a module, which is its name.

    Raises:
        ModelError: the network has no such module.
    """
    from limbeck.models import NetworkClassifier

    try:
        NetworkClassifier.wrap(network.module, [name], penultimate=None)
    except ModelError as error:
        other = "" if "->" in text else f"; name the {network.role}'s own layer, as in LAYER->LAYER:NAME"
        raise ModelError(f"--match {text}: the {network.role}'s {error}{other}") from None
    return name

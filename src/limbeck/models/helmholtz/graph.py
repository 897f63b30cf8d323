"""Graphs of belief networks: checking one, and turning it round for recognition."""

from __future__ import annotations

from collections.abc import Collection

from limbeck.errors import ModelError

__all__ = ["Parents", "checked", "inverse"]

Parents = dict[str, list[str]]
"""Name of each variable to the names of its parents; every variable stands after its parents."""


def checked(graph: Parents, targets: Collection[str]) -> Parents:
    """The graph as a copy.

    Args:
        graph: name to parents.
        targets: names of the targets.

    Raises:
        ModelError: a parent does not stand before its child, a target is not in the graph or named twice, there is no
            target or no latent, or a name cannot be that of a module.
    """
    seen: set[str] = set()
    for name, parents in graph.items():
        if not name or "." in name:
            raise ModelError(f"a variable cannot be named {name!r}: names must not be empty or have a dot")
        for parent in parents:
            if parent not in seen:
                raise ModelError(
                    f"{name!r} has the parent {parent!r}, which does not stand before it; list every variable after "
                    "its parents"
                )
        if len(set(parents)) < len(parents):
            raise ModelError(f"{name!r} names a parent twice: {', '.join(parents)}")
        seen.add(name)
    unknown = [name for name in targets if name not in seen]
    if unknown or len(set(targets)) < len(targets) or not targets:
        raise ModelError(
            f"targets must name at least one variable of the graph ({', '.join(graph)}), each once, but are: "
            f"{', '.join(targets) or 'none'}"
        )
    if len(targets) == len(graph):
        raise ModelError(f"all variables of the graph are targets ({', '.join(graph)}); there must be a latent")
    return {name: list(parents) for name, parents in graph.items()}


def inverse(graph: Parents, targets: Collection[str]) -> Parents:
    """The latents in the opposite order, each with what the true posterior needs to draw it.

    These are the targets and the latents drawn before it that remain when all that are independent of it given the
    others are left out: in the moral graph, those that a path reaches without passing another of them.

    Args:
        graph: name to parents.
        targets: names of the targets, which are all known.

    Returns:
        Latent to the names it is drawn from, in the order of drawing.

    Example:
        >>> inverse({"z2": [], "z1": ["z2"], "y": ["z1"]}, ["y"])
        {'z1': ['y'], 'z2': ['z1']}
    """
    neighbours: dict[str, set[str]] = {name: set() for name in graph}
    for name, parents in graph.items():
        family = {name, *parents}
        for member in family:
            neighbours[member] |= family - {member}
    order = list(graph)
    known = set(targets)
    result: Parents = {}
    for latent in reversed([name for name in order if name not in known]):
        found: set[str] = set()
        open_, visited = [latent], {latent}
        while open_:
            for near in neighbours[open_.pop()] - visited:
                visited.add(near)
                (found.add if near in known else open_.append)(near)
        result[latent] = sorted(found, key=order.index)
        known.add(latent)
    return result

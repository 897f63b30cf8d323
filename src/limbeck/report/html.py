"""Templates into pages: everything but the style sheet and our own figures is escaped."""

from __future__ import annotations

from importlib.resources import files
from itertools import groupby
from typing import Any

__all__ = ["render"]


def render(template: str, **values: Any) -> str:
    """One self-contained page, with the style sheet inside.

    Args:
        template: name of a template in this package, e.g. ``"page.html.jinja"``.
        values: what it shows.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("limbeck.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["groupby_run"] = lambda rows: [list(group) for _, group in groupby(rows, lambda row: row.run)]
    style = files("limbeck.report").joinpath("style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=Markup(style), **values)

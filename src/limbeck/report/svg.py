"""Figures as SVG text: fixed colours by name, quiet axes, deterministic output that follows light and dark mode.

Drawn with matplotlib's object-oriented interface; no global figure state.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Sequence
from typing import Any

from limbeck.report.curves import Curves

__all__ = ["HEX", "TERMS", "log_ticks", "method_colors", "new_axes", "short", "step_ticks", "term_colors", "to_svg"]

# Each colour of a figure is the name of a CSS variable; the style sheet gives its values for light and for dark mode.
_FIXED = {
    "teacher": "ink",
    "surrogate": "blue",
    "local": "orange",
    "scratch": "grey",
    "joint": "green",
    "marginalized": "purple",
}
_CYCLE = ("red", "sky", "olive", "blue", "orange", "green", "purple", "pink", "teal", "brown")
TERMS = 8
_COLORS = ("ink", "muted", "rule", "blue", "orange", "green", "purple", "red", "sky", "olive", "grey", "pink",
           "teal", "brown")  # fmt: skip
# Placeholders that matplotlib draws with and that _to_svg replaces; no real colour has these values.
HEX = {name: f"#0102{index:02x}" for index, name in enumerate([*_COLORS, *(f"t{i}" for i in range(TERMS))], start=3)}


def method_colors(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method, the same in every figure of a page; well-known methods have the same on every page."""
    others = [m for m in dict.fromkeys(methods) if m not in _FIXED]
    rest = {m: _CYCLE[i % len(_CYCLE)] for i, m in enumerate(others)}
    return {m: _FIXED.get(m) or rest[m] for m in dict.fromkeys(methods)}


def term_colors(curves: Sequence[Curves]) -> dict[str, str]:
    """A colour for each term of the loss, the same for every method; more than eight terms share the last one."""
    names = list(dict.fromkeys(name for one in curves for name in one.terms))
    return {name: f"t{min(index, TERMS - 1)}" for index, name in enumerate(names)}


def new_axes(width: float, height: float) -> tuple[Any, Any]:
    """An empty figure of the given size in inches, and its axes: quiet grid, no box."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(color=HEX["rule"], linewidth=0.7)
    axes.tick_params(which="both", colors=HEX["muted"], labelsize=9, length=3)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(HEX["rule"])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=HEX["muted"], size=9)
    return figure, axes


def log_ticks(axis: Any) -> None:
    """Label a logarithmic axis with short numbers, at 1, 2 and 5 where it spans about two decades or less."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.axes.get_xlim() if axis.axis_name == "x" else axis.axes.get_ylim()
    narrow = high / low < 200
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def step_ticks(axes: Any) -> None:
    """Label the horizontal axis with whole numbers of steps."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def short(value: float) -> str:
    """A number as short as it can be: 1500 as ``1.5k``, 2e6 as ``2M``."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def to_svg(figure: Any, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element for an HTML page; ``name`` makes its identifiers unique on the page."""
    import matplotlib
    from markupsafe import escape
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a "$" in a name is a dollar
    buffer = io.StringIO()
    settings: Any = {"svg.hashsalt": "limbeck", "svg.fonttype": "none", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    prefix = f"f{zlib.crc32(name.encode()):08x}"
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)  # several figures share one page
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    for color, code in HEX.items():
        svg = svg.replace(code, f"var(--{color})")
    svg = re.sub(r"font-family:[^;\"]*;?|font: ([\d.]+px)[^;\"]*", lambda m: f"font-size: {m[1]}" if m[1] else "", svg)
    # The width scales with the page; height follows from the view box.
    svg = re.sub(r'<svg([^>]*?)\swidth="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r'<svg([^>]*?)\sheight="[^"]*"', r"<svg\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)

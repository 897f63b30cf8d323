"""What a table is, and how it is shown in the terminal and in Markdown; ``page.py`` shows it in HTML."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ["NOTHING", "Cell", "Column", "Kind", "Row", "Table", "format_number", "to_markdown", "to_rich"]

Kind = Literal["teacher", "student", "baseline", "reference"]
NOTHING = "–"


@dataclass(frozen=True)
class Column:
    """A heading; ``hint`` says which way is better, e.g. ``"↓"`` for lower."""

    label: str
    hint: str = ""


@dataclass(frozen=True)
class Cell:
    """A number as text; ``best`` when it is emphasised; ``note`` when it needs a remark, e.g. a seed that failed."""

    text: str
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A model, a seed or a reference value; ``run`` names its run where several are compared."""

    label: str
    cells: list[Cell]
    kind: Kind = "student"
    run: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under headings. The first heading stands over the row labels; ``runs`` adds one for the name of the run."""

    columns: list[Column]
    rows: list[Row]
    caption: str = ""
    runs: bool = False


def format_number(value: float, digits: int) -> str:
    """Print a number with a fixed number of decimals, a comma between thousands and a true minus sign.

    >>> format_number(-1234.56, 1)
    '−1,234.6'
    """
    if not math.isfinite(value):
        return NOTHING
    text = f"{value:,.{max(digits, 0)}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")  # no "-0.0"
    return text.replace("-", "−")


def to_rich(table: Table) -> RichTable:
    """The table for the terminal. Names are shown as they are: nothing in them is read as markup."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(caption=Text(table.caption) if table.caption else None, caption_justify="left")
    for index, (heading, hint) in enumerate(_headings(table)):
        left = index < 1 + table.runs
        # A name that is cut is none; of numbers, a mean and its spread may stand in two lines.
        shown.add_column(
            Text(f"{heading} {hint}".strip()), justify="left" if left else "right", no_wrap=left, overflow="fold"
        )
    for position, row in enumerate(table.rows):
        labels = [Text(row.run), Text(row.label)] if table.runs else [Text(row.label)]
        dim = "dim" if row.kind == "reference" else ""
        cells = [Text(_with_note(cell), style="bold" if cell.best else dim) for cell in row.cells]
        following = table.rows[position + 1 : position + 2]
        ends = any(other.kind == "reference" != row.kind or other.run != row.run for other in following)
        shown.add_row(*labels, *cells, end_section=ends)
    return shown


def to_markdown(table: Table) -> str:
    """The table in GitHub's Markdown, with its caption below."""
    headings = [_escape(f"{heading} {hint}".strip()) for heading, hint in _headings(table)]
    left = 1 + table.runs
    lines = ["| " + " | ".join(headings) + " |"]
    lines.append("|" + "|".join([":--"] * left + ["--:"] * (len(headings) - left)) + "|")
    for row in table.rows:
        labels = [row.run, row.label] if table.runs else [row.label]
        cells = [f"**{_escape(_with_note(c))}**" if c.best else _escape(_with_note(c)) for c in row.cells]
        lines.append("| " + " | ".join([_escape(label) for label in labels] + cells) + " |")
    return "\n".join(lines) + "\n" + (f"\n{_escape(table.caption)}\n" if table.caption else "")


def _headings(table: Table) -> list[tuple[str, str]]:
    headings = [(column.label, column.hint) for column in table.columns]
    return [("Run", ""), *headings] if table.runs else headings


def _with_note(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def _escape(text: str) -> str:
    text = " ".join(text.split())
    for character in "\\|*_`<[":
        text = text.replace(character, "\\" + character)
    return text

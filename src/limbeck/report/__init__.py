"""Showing a run: tables, pictures and one self-contained HTML page. Nothing here trains or imports torch.

The heavy libraries (matplotlib, jinja2, PIL, rich) are imported when a function first needs them, so that
``limbeck report`` and everything that merely imports this room starts fast.
"""

from __future__ import annotations

from limbeck.pictures import image_grid, save_grid
from limbeck.report.page import render_report, write_report
from limbeck.report.run_tables import results_table, seeds_table, size_table
from limbeck.report.table import Cell, Column, Row, Table, to_markdown, to_rich

__all__ = [
    "Cell",
    "Column",
    "Row",
    "Table",
    "image_grid",
    "render_report",
    "results_table",
    "save_grid",
    "seeds_table",
    "size_table",
    "to_markdown",
    "to_rich",
    "write_report",
]

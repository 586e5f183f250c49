"""How tables look: to a person at a terminal of any width, and in a log."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

_LOG_WIDTH = 200
"""Columns where nobody looks at a terminal: nothing is cut."""
_WIDE = 140
_NAME_WIDTH = 28


def console() -> Console:
    """Return where tables go: as wide as the terminal, or wide enough for a log."""
    told = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if told else _LOG_WIDTH, highlight=False)


def table(*columns: str | tuple[str, Literal["right"]], width: int) -> Table:
    """Make an empty table for a terminal of `width` columns; ``(name, "right")`` is a column of numbers."""
    made = Table(box=None, padding=(0, 2 if is_wide(width) else 1, 0, 0), header_style="bold", pad_edge=False)
    for column in columns:
        name, justify = (column, "left") if isinstance(column, str) else column
        made.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    return made


def is_wide(width: int) -> bool:
    """Whether a terminal has room for a column per fact; else facts stand below the name."""
    return width >= _WIDE


def name_cell(name: str, *below: str, width: int) -> Text:
    """Return a dataset's id as a cell: broken at its hyphens where the terminal is narrow, facts in lines below it."""
    lines = [name] if is_wide(width) else textwrap.wrap(name, _NAME_WIDTH)
    cell = Text("\n".join(lines), no_wrap=True)
    for fact in below:
        cell.append(f"\n  {textwrap.shorten(fact, _NAME_WIDTH - 2, placeholder='..')}", style="dim")
    return cell


def size_text(count: int | None, *, about: bool = False) -> str:
    """Render bytes: ``15.1 GB``, ``~15.1 GB`` where it is an estimate, ``?`` where nobody knows."""
    if count is None:
        return "?"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    digits = 0 if unit == "B" or value >= 99.95 else 1
    return f"{'~' if about else ''}{value:.{digits}f} {unit}"


def count_text(count: int | None) -> str:
    """Render a number of things: ``5 408``, or ``?`` where nobody knows."""
    return "?" if count is None else f"{count:,}".replace(",", " ")


def counted(count: int, noun: str) -> str:
    """Render a number of things with their name: ``1 file``, ``5 408 files``."""
    return f"{count_text(count)} {noun}{'' if count == 1 else 's'}"


def hours_text(hours: float | None) -> str:
    """Render hours: ``2.4``, ``310``, ``<0.1``; ``?`` where nobody knows."""
    if hours is None:
        return "?"
    if hours == 0:
        return "0"
    return "<0.1" if hours < 0.05 else f"{hours:.1f}" if hours < 100 else f"{hours:.0f}"

"""Branches of a tree of text: long lists are cut, and names of other people's are made harmless."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text
from rich.tree import Tree

from neurofm.operations.provenance.subject import printable
from neurofm.operations.tables import count_text

SHOWN = 8
"""Most entries of a list that are shown."""


class Branches:
    """Adds lines below a branch.

    Parameters
    ----------
    tree
        The branch.
    most
        Most entries of a list that are shown; None for all.
    """

    def __init__(self, tree: Tree, *, most: int | None) -> None:
        self.tree = tree
        self.most = most

    def add(self, label: str, text: str = "", *, style: str = "") -> Branches:
        """Add a line, and return it as a branch."""
        line = Text(printable(label), style="bold" if text else style, overflow="fold")
        if text:
            line.append(f"  {printable(text)}", style=f"not bold {style}")
        return Branches(self.tree.add(line), most=self.most)

    def fact(self, label: str, text: str) -> None:
        """Add a line if there is something to say."""
        if text:
            self.add(label, text)

    def many(self, lines: Sequence[str]) -> None:
        """Add a line for each, as many as are to be shown, and say how many more there are."""
        for line in lines[: self.most]:
            self.add(line)
        if self.most is not None and len(lines) > self.most:
            rest = f"and {count_text(len(lines) - self.most)} more: --all lists them"
            self.add(rest, style="dim")


def folded(names: Iterable[str], *, most: int | None = SHOWN) -> str:
    """Write names in one line, as many as are to be shown, and how many more there are."""
    known = list(names)
    if most is not None and len(known) > most:
        known[most:] = [f"and {count_text(len(known) - most)} more"]
    return ", ".join(known)


def value_text(value: Any) -> str:
    """Write a setting in one line."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} {{{value_text(one)}}}" if isinstance(one, Mapping) else f"{name} {value_text(one)}"
            for name, one in value.items()
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return str(value)

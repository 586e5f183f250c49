"""What several commands share: how they ask, show changes and end."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.syntax import Syntax

from neurofm.errors import EXIT_USER_ERROR

DatasetId = Annotated[str, typer.Argument(help="Id in the catalogue.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def confirmed(question: str) -> bool:
    """Ask; nobody there to answer is a no."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        print()
        return False


def print_diff(diff: str) -> None:
    """Print a unified diff, coloured on a terminal."""
    if not diff:
        return
    if sys.stdout.isatty():
        Console().print(Syntax(diff, "diff", theme="ansi_dark", background_color="default", word_wrap=True))
    else:
        print(diff, end="")


def end_on(problems: Iterable[str]) -> None:
    """Say every problem in a line of its own, and end with the code of a user's mistake if there are any."""
    told = [f"error: {' '.join(problem.split())}\n" for problem in problems]
    sys.stderr.writelines(told)
    if told:
        raise typer.Exit(EXIT_USER_ERROR)

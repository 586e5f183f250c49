"""`neurofm ...`: what a person types beside `dvc repro`. One module per family of commands.

A family is imported when one of its commands is called (or all are listed): what they need takes a second or two.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from neurofm.errors import exit_on_user_error

FAMILIES = {
    "preflight": "project",
    "status": "project",
    "retry": "project",
    "run": "project",
    "push": "transfer",
    "pull": "transfer",
    "catalog": "catalog",
    "dataset": "dataset",
    "profile": "profile",
    "quarantine": "quarantine",
    "remote": "remote",
}
"""Commands, and groups of commands, by the module of this package whose `app` has them."""


class Families(TyperGroup):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order of help."""
        return [*FAMILIES, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name; None if there is none."""
        module = FAMILIES.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        holder = typer.Typer(add_completion=False)
        is_group = cmd_name == module
        holder.add_typer(import_module(f"neurofm.cli.{module}").app, name=cmd_name if is_group else None)
        return typer.main.get_group(holder).get_command(ctx, cmd_name)


app = typer.Typer(cls=Families, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def options(
    context: typer.Context, debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False
) -> None:
    """From neural archives to an evaluated foundation model. `dvc repro` runs it all."""
    context.obj = debug


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2."""
    with exit_on_user_error(debug="--debug" in sys.argv[1:]):
        app()

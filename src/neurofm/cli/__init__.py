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

COMMANDS = {
    "preflight": "preflight",
    "status": "project",
    "retry": "project",
    "run": "project",
    "doctor": "doctor",
    "push": "transfer",
    "pull": "transfer",
    "explain": "explain",
    "embed": "embed",
    "latency": "latency",
    "certify": "certify",
}
"""Commands by the module of this package whose `app` has them."""
GROUPS = (
    "catalog",
    "challenge",
    "ci",
    "container",
    "crate",
    "dataset",
    "lock",
    "model",
    "profile",
    "quarantine",
    "remote",
    "shards",
)
"""Groups of commands, each the `app` of the module of its name."""


class Families(TyperGroup):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order of help."""
        return [*COMMANDS, *GROUPS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name; None if there is none."""
        is_group = cmd_name in GROUPS
        if not is_group and cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        family = import_module(f"neurofm.cli.{cmd_name if is_group else COMMANDS[cmd_name]}").app
        holder = typer.Typer(add_completion=False)
        holder.add_typer(family, name=cmd_name if is_group else None)
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

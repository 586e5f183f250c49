"""`neurofm ...`: what a person types beside `dvc repro`. One module per family of commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from neurofm.cli import catalog, dataset, profile, project, quarantine, remote
from neurofm.errors import exit_on_user_error

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(project.app)
app.add_typer(remote.transfers)
for name, family in (
    ("catalog", catalog.app),
    ("dataset", dataset.app),
    ("profile", profile.app),
    ("quarantine", quarantine.app),
    ("remote", remote.app),
):
    app.add_typer(family, name=name)


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

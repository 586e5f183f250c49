"""`neurofm remote`: where artefacts are kept for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurofm.cli.common import end_on
from neurofm.operations import remote

app = typer.Typer(no_args_is_help=True, help="Where artefacts are kept for others: DVC's default remote.")


@app.command("use")
def remote_use(
    url: Annotated[str, typer.Argument(help="s3://BUCKET/PATH, gs://, azure://, ssh://, or a folder.")],
    region: Annotated[str, typer.Option(help="Of the bucket.")] = "",
    endpoint: Annotated[str, typer.Option(help="Of a server that is not AWS: https://s3.lab.example.")] = "",
    profile: Annotated[
        str, typer.Option(help="Section of your ~/.aws; goes into .dvc/config.local, not into git.")
    ] = "",
    name: Annotated[str, typer.Option(help="What DVC calls it.")] = "storage",
    read_only: Annotated[bool, typer.Option("--read-only", help="Be content with a key that may not write.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Only for this clone: write nothing that git sees.")] = False,
) -> None:
    """Make this the remote of `dvc push` and `dvc pull`, once it is known to work with your credentials."""
    access = remote.use_remote(
        url,
        root=Path(),
        name=name,
        region=region,
        endpoint=endpoint,
        profile=profile,
        read_only=read_only,
        shared=not local,
    )
    print(f"{remote.remote_line(Path())}: may {'read and write' if access.write else 'read, and not write'}.")
    print("Next: neurofm push" if local else "Next: git add .dvc/config; neurofm push")


@app.command("check")
def remote_check() -> None:
    """Ask the remote whether it can be used, and say what would be pushed although its terms forbid it."""
    problems = remote.remote_problems(Path())
    if not problems:
        print(f"{remote.remote_line(Path())}: answers.")
    end_on(problems)

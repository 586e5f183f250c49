"""`neurofm crate`: a run of the project as one thing to hand on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neurofm.operations.crate import export_crate, plan_crate
from neurofm.operations.provenance.branches import folded
from neurofm.operations.tables import count_text, size_text
from neurofm.params import load_params

app = typer.Typer(no_args_is_help=True, help="A run of the project as one RO-Crate to hand on.")


@app.callback()
def family() -> None:
    """Keep `export` a command of its own, also while it is the only one."""


@app.command("export")
def crate_export(
    out: Annotated[
        Path | None,
        typer.Argument(help="A zip if it ends with .zip, else a folder; default: <project>-<commit>.crate.zip"),
    ] = None,
    with_data: Annotated[
        bool, typer.Option("--with-data", help="Carry the model too, and shards and manifests that may be passed on.")
    ] = False,
    author: Annotated[
        list[str] | None,
        typer.Option(
            help="'Jane Doe', or 'Jane Doe https://orcid.org/...'; once per author; default: git's user.name."
        ),
    ] = None,
    licence: Annotated[str, typer.Option(help="Of the crate, an SPDX id; default: the project's.")] = "",
) -> None:
    """Write the current commit and its run as a Workflow Run RO-Crate: metadata, settings, results, digests."""
    plan = plan_crate(
        out, root=Path(), params=load_params(), authors=author or (), licence=licence, with_data=with_data
    )
    if plan.run.uncommitted:
        count = len(plan.run.uncommitted)
        sys.stderr.write(
            f"note: {count} files are not as committed ({plan.run.uncommitted[0]}, ..); the crate says so\n"
        )
    print(f"{plan.out}: {count_text(plan.files)} files, {size_text(plan.size)}")
    named: dict[str, list[str]] = {}
    for result in plan.named_only:
        named.setdefault(result.reason, []).append(result.artefact.path)
    for reason, paths in named.items():
        print(f"  by their digests alone ({reason}): {folded(paths)}")
    export_crate(plan, root=Path())
    print("Written.")

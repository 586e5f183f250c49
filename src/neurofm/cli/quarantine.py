"""`neurofm quarantine`: files that were refused or are not what is pinned."""

from __future__ import annotations

from pathlib import Path

import typer

from neurofm.cli.common import DatasetId
from neurofm.operations import status

app = typer.Typer(no_args_is_help=True, help="Files that were refused or are not what is pinned.")


@app.command("release")
def quarantine_release(dataset: DatasetId) -> None:
    """Let files that were refused or wrong be asked for again by the next run."""
    count = status.release_quarantined(dataset, root=Path())
    print(f"{dataset}: {count} files will be tried again. Next: dvc repro")

"""`neurofm shards`: what lies in them, whether it is whole, and making again what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurofm.cli.common import end_on
from neurofm.operations.shards import contents_of, contents_table, damaged_shards, set_aside, shard_paths
from neurofm.operations.tables import console
from neurofm.params import load_params

app = typer.Typer(no_args_is_help=True, help="What lies in the shards, and whether it is whole.")

Dataset = Annotated[str | None, typer.Argument(help="Id in params.yaml; all of them if left out.")]


@app.command("stats")
def shards_stats(dataset: Dataset = None) -> None:
    """Say how large the shards are on disk and in memory, and what quantisation cost."""
    found = shard_paths(load_params(), root=Path(), dataset=dataset)
    out = console()
    out.print(contents_table([contents_of(name, paths) for name, paths in found.items()], width=out.width))


@app.command("verify")
def shards_verify(dataset: Dataset = None) -> None:
    """Check the checksum of every chunk of every array."""
    found = shard_paths(load_params(), root=Path(), dataset=dataset)
    paths = [path for several in found.values() for path in several]
    damages = list(damaged_shards(paths))
    if not damages:
        print(f"{len(paths)} shards are whole.")
    end_on(reason for damage in damages for reason in damage.reasons)


@app.command("repair")
def shards_repair(dataset: Dataset = None) -> None:
    """Set damaged shards aside, so that `dvc repro` makes them again and touches no other."""
    found = shard_paths(load_params(), root=Path(), dataset=dataset)
    damages = list(damaged_shards([path for several in found.values() for path in several]))
    for damage in damages:
        print(f"{damage.path}: {damage.reasons[0]}; now {set_aside(damage, root=Path())}")
    print("Next: dvc repro" if damages else "Nothing to repair.")

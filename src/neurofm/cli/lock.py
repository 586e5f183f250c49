"""`neurofm lock`: dvc.lock after two branches both ran stages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neurofm.errors import UserError
from neurofm.operations.ci.plan import stage_names
from neurofm.operations.lock import (
    LOCK,
    NO_STAGES,
    install_driver,
    locks_in_conflict,
    merge_locks,
    read_lock,
    write_lock,
)

app = typer.Typer(no_args_is_help=True, help="Merge dvc.lock stage by stage.")


@app.command("merge")
def lock_merge(
    ours: Annotated[Path | None, typer.Argument(help="Default: the versions of a merge that git stopped in.")] = None,
    theirs: Annotated[Path | None, typer.Argument()] = None,
    base: Annotated[Path | None, typer.Option(help="What both come from.")] = None,
    output: Annotated[Path, typer.Option(help="Where to write.")] = LOCK,
    keep_unknown: Annotated[
        bool, typer.Option("--keep-unknown", help="Keep stages that dvc.yaml does not have.")
    ] = False,
) -> None:
    """Merge two dvc.lock files; what both changed is left out, so that the next dvc repro runs it."""
    if ours is None:
        before, mine, other = locks_in_conflict(Path())
    elif theirs is None:
        raise UserError("lock merge: one file alone.", mend="name two, or none while git has stopped in a merge")
    else:
        for path in (ours, theirs, *([base] if base else [])):
            if not path.is_file():
                raise UserError(f"{path}: no such file.", mend="correct the path")
        mine, other = read_lock(ours), read_lock(theirs)
        before = read_lock(base) if base else NO_STAGES
    merged = merge_locks([mine, other], base=before, known=None if keep_unknown else stage_names(Path()))
    write_lock(output, merged.content)
    for line in merged.lines():
        sys.stderr.write(f"dvc.lock: {line}\n")
    if merged.left_out:
        sys.stderr.write(f"dvc.lock: merged; {len(merged.left_out)} stages to run. Next: dvc repro\n")


@app.command("driver")
def lock_driver() -> None:
    """Let git merge dvc.lock and the metrics in this clone by itself (see .gitattributes)."""
    for line in install_driver(Path()):
        print(line)

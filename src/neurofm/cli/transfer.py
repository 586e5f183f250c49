"""`neurofm push` and `pull`: artefacts for others, and from others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurofm.operations import remote
from neurofm.operations.tables import count_text, size_text
from neurofm.remote.pull import PullPlan, pull
from neurofm.remote.push import PushPlan, push

app = typer.Typer()

Stage = Annotated[str, typer.Option(help="Only this stage: preprocess, preprocess@gw-rest, pretrain.")]
OnlyDataset = Annotated[str, typer.Option("--dataset", help="Only the stages that run for this dataset.")]


@app.command("push")
def push_command(
    stage: Stage = "",
    dataset: OnlyDataset = "",
    reread: Annotated[bool, typer.Option("--reread", help="Read back every file that is there, and mend it.")] = False,
) -> None:
    """Send what the remote lacks or holds damaged. `dvc push` does the same, slower and without that check."""

    def announce(plan: PushPlan) -> None:
        for line in remote.push_lines(plan):
            print(line, flush=True)

    done = push(Path(), stage=stage, dataset=dataset, reread=reread, announce=announce)
    if done.sent:
        print(f"Pushed: {count_text(done.sent)} files{f', {size_text(done.bytes)}' if done.bytes else ''}.")


@app.command("pull")
def pull_command(
    stage: Stage = "",
    dataset: OnlyDataset = "",
    force: Annotated[bool, typer.Option("--force", help="Replace files that were changed here.")] = False,
) -> None:
    """Bring what is not here, checked against its digest. `dvc pull` does the same, slower."""

    def announce(plan: PullPlan) -> None:
        print(remote.pull_line(plan), flush=True)

    done = pull(Path(), stage=stage, dataset=dataset, force=force, announce=announce)
    if done.came:
        print(f"Pulled: {count_text(done.came)} files{f', {size_text(done.bytes)}' if done.bytes else ''}.")

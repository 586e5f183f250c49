"""`neurofm ci`: what the jobs of a CI run. People may run them too."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from neurofm.errors import UserError
from neurofm.operations.ci.child import Runners, child_pipeline, write_child
from neurofm.operations.ci.gather import gather, handed_over
from neurofm.operations.ci.note import write_note
from neurofm.operations.ci.numbers import compare_numbers, markdown, write_numbers
from neurofm.operations.ci.plan import plan_stages
from neurofm.operations.ci.reproduce import reproduce_rest, reproduce_stage

app = typer.Typer(no_args_is_help=True, help="What CI runs: plan, reproduce, gather, numbers.")

_CHANGES = Path("reports/changes")
_TOKEN = "NEUROFM_CI_TOKEN"  # noqa: S105  # the variable's name


@app.command("plan")
def ci_plan(
    output: Annotated[Path | None, typer.Option(help="Write the child pipeline of GitLab CI there.")] = None,
    base: Annotated[str, typer.Option(help="Revision that numbers are compared with.")] = "HEAD",
    slurm_tag: Annotated[str, typer.Option(help="Tag of the runner on a cluster's login node.")] = "",
    local_tag: Annotated[str, typer.Option(help="Tag of the runner that has the folders of local datasets.")] = "",
) -> None:
    """Say which stages are out of date, and why; the data need not be here."""
    stages = plan_stages(Path())
    for stage in stages:
        print(f"{stage.name}: {stage.reason}")
    if not stages:
        print("Every stage is up to date.")
    if output is None:
        return
    numbers = compare_numbers(base, root=Path())
    report = bool(stages or numbers.changes)
    if not report:
        write_numbers(numbers, folder=_CHANGES)
    write_child(output, child_pipeline(stages, report=report, runners=Runners(slurm=slurm_tag, local=local_tag)))
    print(f"{output}: written.")


@app.command("reproduce")
def ci_reproduce(
    stage: Annotated[str, typer.Argument(help="As preprocess@gw-rest; default: all that is left.")] = "",
) -> None:
    """Pull what a stage needs, run it, push what it made, and hand its dvc.lock over to the jobs that follow."""
    root = Path()
    if not stage:
        ran = reproduce_rest(root=root)
        print(f"Ran: {', '.join(ran)}." if ran else "Nothing to do: every stage is up to date.")
    elif not reproduce_stage(stage, root=root):
        print(f"{stage}: nothing to do, what it reads did not change.")


@app.command("gather")
def ci_gather(
    locks: Annotated[list[Path] | None, typer.Argument(help="Default: all that jobs handed over.")] = None,
) -> None:
    """Merge the dvc.lock files that jobs made from one commit into dvc.lock."""
    found = locks or handed_over(Path())
    merged = gather(found, root=Path())
    print(f"{len(found)} lock files gathered in dvc.lock.")
    for line in merged.lines():
        sys.stderr.write(f"{line}\n")


@app.command("numbers")
def ci_numbers(
    base: Annotated[str, typer.Argument(help="Revision to compare with.")] = "HEAD",
    folder: Annotated[Path, typer.Option(help="Where to write.")] = _CHANGES,
) -> None:
    """Write what changed in the metrics since a revision: changes.md, index.html, and metrics.txt for GitLab.

    In the pipeline of a merge request it is also a note there, where NEUROFM_CI_TOKEN may write one.
    """
    numbers = compare_numbers(base, root=Path())
    write_numbers(numbers, folder=folder)
    print(f"{len(numbers.changes)} numbers changed against {base}: {folder / 'index.html'}")
    token, number = os.environ.get(_TOKEN), os.environ.get("CI_MERGE_REQUEST_IID")
    if token and number:
        api, project = os.environ["CI_API_V4_URL"], os.environ["CI_PROJECT_ID"]
        try:
            done = write_note(markdown(numbers), api=api, project=project, merge_request=number, token=token)
        except UserError as error:
            # The numbers are there all the same.
            sys.stderr.write(f"warning: {error}\n")
        else:
            print(f"The note on merge request {number} is {done}.")

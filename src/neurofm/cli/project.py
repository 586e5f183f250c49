"""A run of this project: how it stands, a stage by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from neurofm.cli.common import AsJson, DatasetId
from neurofm.errors import UserError
from neurofm.operations import status, unit_status
from neurofm.operations.tables import console, size_text
from neurofm.params import CONTAINER, EXECUTOR, Params, load_params
from neurofm.units import ExecutorName

app = typer.Typer()

PER_DATASET = ("manifest", "download", "derivatives", "preprocess", "stream")
KEYED = (*PER_DATASET, "finetune")
"""Stages that need to be told of what: of which dataset, or which entry of `finetune`."""
STAGES = (*PER_DATASET, "split", "pretrain", "finetune", "evaluate", "connectivity", "slice", "report")
WITH_UNITS = ("derivatives", "preprocess", "stream")

_WATCH_S = 2.0


@app.command("status")
def status_command(
    dataset: Annotated[str | None, typer.Argument(help="One dataset; default: all of params.yaml.")] = None,
    as_json: AsJson = False,
    files: Annotated[bool, typer.Option("--files", help="List every file that is not here whole.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every two seconds, until Ctrl-C.")] = False,
) -> None:
    """Say per dataset how its files and its recordings stand, why some failed, and what mends it."""
    root, params = Path(), load_params()
    statuses = status.fetch_status(params, root=root, dataset=dataset)
    if as_json:
        facts = [status.status_facts(item) for item in statuses]
        units = {item.dataset: item for item in unit_status.units_status(params, root=root, dataset=dataset)}
        for fact in facts:
            found = units.pop(fact["dataset"], None)
            fact["recordings"] = unit_status.units_facts(found) if found else None
            if files:
                fact["not_good"] = [status.row_facts(row) for row in status.files_not_good(fact["dataset"], root=root)]
        made = {name: item for name, item in units.items() if name in params.derivatives}
        facts += [
            {"dataset": name, "group": "derivatives", "recordings": unit_status.units_facts(item)}
            for name, item in made.items()
        ]
        print(json.dumps(facts, indent=1))
        return
    out = console()
    if not watch:
        out.print(_status_page(params, statuses, dataset=dataset, files=files, width=out.width))
        return
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        while True:
            statuses = status.fetch_status(params, root=root, dataset=dataset)
            page = _status_page(params, statuses, dataset=dataset, files=files, width=out.width)
            live.update(page, refresh=True)
            time.sleep(_WATCH_S)


def _status_page(
    params: Params, statuses: list[status.DatasetStatus], *, dataset: str | None, files: bool, width: int
) -> Group:
    """Put together what `neurofm status` shows: files first, then recordings."""
    root = Path()
    page: list[RenderableType] = []
    if (root / status.LEDGER).is_file():
        page.append(status.status_table(statuses, width=width))
        for item in statuses:
            page += [Text(line, overflow="fold") for line in status.status_lines(item)]
            page += [
                Text(f"  {row.state}: {row.path} ({size_text(row.size)}) {row.reason}".rstrip(), overflow="fold")
                for row in (status.files_not_good(item.dataset, root=root) if files else ())
            ]
    else:
        page.append(
            "There is no ledger yet: nothing was fetched here (or .neurofm/ was removed; then it is made anew)."
        )
    units = unit_status.units_status(params, root=root, dataset=dataset)
    page += ["", unit_status.units_table(units, width=width)]
    page += [Text(line, overflow="fold") for item in units for line in unit_status.units_lines(item)]
    return Group(*page)


@app.command("retry")
def retry_command(
    dataset: DatasetId,
    unit: Annotated[str, typer.Option(help="Only this recording, also if it succeeded.")] = "",
) -> None:
    """Let recordings that did not succeed be tried again by the next run."""
    units = unit_status.retry_units(dataset, root=Path(), unit=unit)
    if not units:
        print(f"{dataset}: every recording that was run succeeded; nothing to try again.")
        return
    print(f"{dataset}: {len(units)} recordings will be tried again. Next: dvc repro")


@app.command()
def run(
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(STAGES)}.")],
    dataset: Annotated[
        str | None, typer.Option(help="For the stages that run per dataset; for finetune, its entry in params.yaml.")
    ] = None,
    executor: Annotated[
        ExecutorName | None, typer.Option(help="Where recordings are worked on; default: `executor` of site.yaml.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody; say what is missing.")] = False,
    container: Annotated[
        bool | None,
        typer.Option("--container/--no-container", help="In the project's image; default: `container` of site.yaml."),
    ] = None,
) -> None:
    """Run one stage by hand: the same script that DVC runs, without DVC's bookkeeping."""
    if stage not in STAGES:
        raise UserError(f"no stage {stage!r}.", mend=f"choose one of {', '.join(STAGES)}")
    if (stage in KEYED) != (dataset is not None):
        needs = "runs per dataset" if stage in KEYED else "covers all datasets"
        mend = "add --dataset" if stage in KEYED else "leave --dataset out"
        raise UserError(f"stage {stage!r} {needs}.", mend=mend)
    if executor is not None and stage not in WITH_UNITS:
        raise UserError(
            f"stage {stage!r} does not work on recordings one by one.",
            mend=f"leave --executor out; it is for {' and '.join(WITH_UNITS)}",
        )
    script = Path("stages") / f"{stage}.py"
    if not script.is_file():
        raise UserError(f"{script} is not here.", mend="run neurofm in the project's folder")
    command = [sys.executable, str(script), *([dataset] if dataset else [])]
    chosen = {"NEUROFM_OFFLINE": "1"} if offline else {}
    if executor is not None:
        chosen[EXECUTOR] = executor.value
    if container is not None:
        chosen[CONTAINER] = "1" if container else "0"
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | chosen
    process = subprocess.Popen(command, env=environment)  # noqa: S603  # our own script
    while True:
        # Ctrl-C goes to the stage too, which has something to put in order and to say.
        with suppress(KeyboardInterrupt):
            raise typer.Exit(process.wait())

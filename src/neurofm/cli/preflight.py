"""`neurofm preflight`: what a run costs, and what would stop it, before it starts; and how right that was, after."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from neurofm.catalog import load_entry
from neurofm.cli.common import AsJson, end_on
from neurofm.operations import downloads, images, preflight
from neurofm.operations.foretold import StageForecast, foretell_stages, last_run, memory_warnings
from neurofm.operations.foretold.tables import compare_table, last_line, stage_facts, stage_table
from neurofm.operations.tables import console
from neurofm.params import Site, load_params, load_site

app = typer.Typer()


@app.command("preflight")
def preflight_command(
    compare: Annotated[
        bool, typer.Option("--compare", help="What the last run was foretold to cost, and what it did cost.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Validate every setting; say what a run costs (bytes, files, RAM, disk, hours, price) and what would stop it."""
    root = Path()
    if compare:
        _compare(root, as_json=as_json)
        return
    params, site = load_params(), load_site()
    plan = downloads.download_plan([load_entry(dataset) for dataset in sorted(params.all_datasets)], root=root)
    forecasts = preflight.forecast(params, plan, site=site, root=root)
    stages = foretell_stages(params, forecasts, site=site, root=root)
    if as_json:
        print(json.dumps(stage_facts(stages.foretold, {}), indent=1))
    else:
        if any(not item.already_there for item in plan) or all(item.to_come == 0 for item in forecasts):
            for line in downloads.plan_lines(plan):
                print(line)
        out = console()
        out.print(preflight.forecast_table(forecasts, site=site, width=out.width))
        out.print(Text(preflight.legend(forecasts, site=site), style="dim"))
        _print_stages(stages, site=site)
    for line in memory_warnings(stages.foretold, site=site):
        sys.stderr.write(f"warning: {line}\n")
    problems = [problem for item in forecasts for problem in item.problems]
    if problem := preflight.disk_problem(forecasts, root=root):
        problems.append(problem)
    problems += preflight.executor_problems(params, site=site)
    problems += preflight.derivatives_problems(params, site=site, root=root)
    problems += preflight.reference_problems(params)
    problems += images.container_problems(site, root=root)
    end_on(problems)


def _print_stages(stages: StageForecast, *, site: Site) -> None:
    """Show what the stages that will run cost, and how good the last forecast was."""
    out = console()
    out.print()
    if not stages.foretold:
        out.print("Every stage is up to date: dvc repro will run nothing.")
    else:
        out.print(stage_table(stages.foretold, kept=stages.kept, site=site, width=out.width))
        if not all(item.measured for item in stages.foretold.values()):
            told = "~: usual figures; what this run costs will be known to the next forecast."
            out.print(Text(told, style="dim"))
    if line := last_line(stages.before, stages.paid):
        out.print(line)


def _compare(root: Path, *, as_json: bool) -> None:
    foretold, paid = last_run(root)
    if as_json:
        print(json.dumps([fact for fact in stage_facts(foretold, paid) if fact["paid"]], indent=1))
        return
    if not paid:
        print("No stage ran since the last forecast. First: neurofm preflight && dvc repro")
        return
    out = console()
    out.print(compare_table(foretold, paid, width=out.width))

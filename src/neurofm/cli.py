"""`neurofm ...`: what a person types beside `dvc repro`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.syntax import Syntax
from rich.text import Text

from neurofm.catalog import load_entry
from neurofm.catalog.terms import accept, are_accepted
from neurofm.errors import EXIT_USER_ERROR, UserError, exit_on_user_error
from neurofm.operations import catalogue, pinning, preflight, profiles, status, unit_status, verification
from neurofm.operations.dataset import add_dataset, found_lines
from neurofm.operations.tables import console, count_text, size_text, table
from neurofm.params import EXECUTOR, Params, load_params, load_site
from neurofm.progress import Progressing
from neurofm.recording import Modality
from neurofm.units import ExecutorName

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
dataset_app = typer.Typer(no_args_is_help=True, help="Datasets of your own.")
catalog_app = typer.Typer(no_args_is_help=True, help="The datasets that are known: list, show, pin, verify, accept.")
profile_app = typer.Typer(no_args_is_help=True, help="Ready mixes of datasets, written into params.yaml.")
quarantine_app = typer.Typer(no_args_is_help=True, help="Files that were refused or are not what is pinned.")
for name, sub_app in (
    ("catalog", catalog_app),
    ("dataset", dataset_app),
    ("profile", profile_app),
    ("quarantine", quarantine_app),
):
    app.add_typer(sub_app, name=name)

STAGES = ("manifest", "download", "preprocess", "stream", "split", "pretrain", "evaluate", "report")
PER_DATASET = ("manifest", "download", "preprocess", "stream")
WITH_UNITS = ("preprocess", "stream")
FACT_IS_WRONG = 1
"""Exit code of `catalog verify` where a fact of an entry is not what the archive says."""

_VERIFY_ATTEMPTS = 2
"""Without a network, the whole catalogue should take minutes and not an hour."""

_WATCH_S = 2.0

DatasetId = Annotated[str, typer.Argument(help="Id in the catalogue.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.callback()
def options(
    context: typer.Context, debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False
) -> None:
    """From neural archives to an evaluated foundation model. `dvc repro` runs it all."""
    context.obj = debug


@app.command("preflight")
def preflight_command() -> None:
    """Validate every setting; say what a run costs (bytes, disk, hours, price) and what would stop it."""
    params, site, root = load_params(), load_site(), Path()
    plan = preflight.download_plan([load_entry(dataset) for dataset in sorted(params.all_datasets)], root=root)
    forecasts = preflight.forecast(params, plan, site=site, root=root)
    if any(not item.already_there for item in plan) or all(item.to_come == 0 for item in forecasts):
        for line in preflight.plan_lines(plan):
            print(line)
    out = console()
    out.print(preflight.forecast_table(forecasts, site=site, width=out.width))
    out.print(Text(preflight.legend(forecasts, site=site), style="dim"))
    problems = [problem for item in forecasts for problem in item.problems]
    if problem := preflight.disk_problem(forecasts, root=root):
        problems.append(problem)
    problems += preflight.executor_problems(params, site=site)
    _end_on(problems)


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
            found = units.get(fact["dataset"])
            fact["recordings"] = unit_status.units_facts(found) if found else None
            if files:
                fact["not_good"] = [status.row_facts(row) for row in status.files_not_good(fact["dataset"], root=root)]
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
    dataset: Annotated[str | None, typer.Option(help="For the stages that run per dataset.")] = None,
    executor: Annotated[
        ExecutorName | None, typer.Option(help="Where recordings are worked on; default: `executor` of site.yaml.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody; say what is missing.")] = False,
) -> None:
    """Run one stage by hand: the same script that DVC runs, without DVC's bookkeeping."""
    if stage not in STAGES:
        raise UserError(f"no stage {stage!r}.", mend=f"choose one of {', '.join(STAGES)}")
    if (stage in PER_DATASET) != (dataset is not None):
        needs = "runs per dataset" if stage in PER_DATASET else "covers all datasets"
        mend = "add --dataset" if stage in PER_DATASET else "leave --dataset out"
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
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | chosen
    process = subprocess.Popen(command, env=environment)  # noqa: S603  # our own script
    while True:
        # Ctrl-C goes to the stage too, which has something to put in order and to say.
        with suppress(KeyboardInterrupt):
            raise typer.Exit(process.wait())


@catalog_app.command("list")
def catalog_list(as_json: AsJson = False) -> None:
    """List every dataset that is known."""
    summaries = [catalogue.summary_of(entry, root=Path()) for entry in catalogue.load_catalogue(Path())]
    if as_json:
        print(json.dumps(summaries, indent=1, ensure_ascii=False))
        return
    out = console()
    out.print(catalogue.list_table(summaries, width=out.width))


@catalog_app.command("show")
def catalog_show(dataset: DatasetId) -> None:
    """Say everything about one dataset: every fact, its terms, how to cite, pin and use it."""
    console().print(catalogue.show_table(load_entry(dataset), root=Path()))


@catalog_app.command("accept")
def catalog_accept(dataset: DatasetId) -> None:
    """Show the terms of a dataset and ask whether you accept them."""
    entry = load_entry(dataset)
    if entry.terms is None:
        print(f"{dataset}: no terms to accept.")
        return
    if are_accepted(entry):
        print(f"{dataset}: its terms are accepted already.")
        return
    out = console()
    out.print(Text(f"{entry.title}\n{entry.licence}\n", style="bold"))
    out.print(Text(entry.terms.summary.strip()))
    for label, value in (("Full terms", entry.terms.url), ("Account", entry.terms.account)):
        if value:
            out.print(Text(f"{label}: {value}", overflow="fold"))
    if not _confirmed("Do you accept these terms?"):
        raise UserError(f"{dataset}: its terms are not accepted.", mend="take it out of params.yaml")
    accept(entry)
    print(f"{dataset}: accepted, and written down.")


@catalog_app.command("pin")
def catalog_pin(
    dataset: DatasetId,
    version: Annotated[str, typer.Option(help="Another version than the entry's; `latest` for the newest.")] = "",
    yes: Yes = False,
) -> None:
    """Ask the archive what it has now, and hold the dataset to exactly that."""
    plan = pinning.plan_pin(load_entry(dataset), root=Path(), site=load_site().fetch, version=version)
    size = sum(file.size for file in plan.listing.files)
    print(f"{dataset}: version {plan.listing.version}: {count_text(len(plan.listing.files))} files, {size_text(size)}")
    print(f"  {plan.recordings} recordings of {plan.subjects} subjects")
    if plan.pins is None:
        print("  The version fixes every byte: no list of files is kept.")
    if plan.changes is not None:
        print(f"  Against the pins of now: {plan.changes}")
        for line in plan.changes.lines():
            print(f"    {line}")
    _print_diff(plan.diff)
    if plan.is_done:
        print("Pinned like this already.")
        return
    if not (yes or _confirmed("Write this?")):
        raise UserError(f"{dataset}: nothing was written.", mend="say y, or --yes")
    pinning.write_pin(plan, root=Path())
    print(f"Pinned. Next: git add data/catalog && neurofm run manifest --dataset {dataset}")


@catalog_app.command("verify")
def catalog_verify(
    datasets: Annotated[list[str] | None, typer.Argument(help="Ids; default: the whole catalogue.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Remove the mark `not checked` from facts that agree.")
    ] = False,
) -> None:
    """Compare facts of entries with what their archives say. Exit code 1 if one is wrong, 2 if one did not answer."""
    root, site = Path(), load_site().fetch
    site = site.model_copy(update={"attempts": min(site.attempts, _VERIFY_ATTEMPTS)})
    entries = [load_entry(dataset) for dataset in datasets or catalogue.dataset_ids(root)]
    found = []
    with Progressing("verify", total=len(entries), unit="datasets") as progress:
        for entry in entries:
            found.append(verification.verify(entry, root=root, site=site))
            progress.advance(note=entry.id)
    out = console()
    out.print(verification.verification_table(found, width=out.width))
    for item in found if write else ():
        if agreed := verification.write_verified(item, root=root):
            print(f"{item.dataset}: checked now: {', '.join(agreed)}")
    unreachable = [f"{item.dataset}: {item.unreachable}" for item in found if item.unreachable]
    if any(item.wrong for item in found):
        wrong = [f"{item.dataset}: {fact}" for item in found for fact in item.wrong]
        sys.stderr.write(f"error: not what the archive says: {'; '.join(wrong)}. Mend: correct the catalogue entries\n")
        for line in unreachable:
            sys.stderr.write(f"error: {line}\n")
        raise typer.Exit(FACT_IS_WRONG)
    _end_on(unreachable)


@profile_app.command("list")
def profile_list() -> None:
    """List the ready mixes of datasets."""
    out = console()
    made = table("profile", "datasets", "what it is", width=out.width)
    for name in profiles.profile_names(Path()):
        profile = profiles.load_profile(name, root=Path())
        made.add_row(name, "\n".join(profiles.mix_lines(profile)), profile.title)
    out.print(made)


@profile_app.command("use")
def profile_use(
    name: Annotated[str, typer.Argument(help="One of `neurofm profile list`.")],
    budget: Annotated[profiles.Budget, typer.Option(help="How much of each dataset.")] = profiles.Budget.BALANCED,
    yes: Yes = False,
) -> None:
    """Write a profile into params.yaml: the change is shown first."""
    plan = profiles.plan_profile(name, budget, root=Path())
    if not plan.diff:
        print("params.yaml says this already.")
        return
    _print_diff(plan.diff)
    if not (yes or _confirmed("Write this?")):
        raise UserError("params.yaml: nothing was written.", mend="say y, or --yes")
    profiles.write_profile(plan, root=Path())
    print("Written. Next: neurofm preflight")


@quarantine_app.command("release")
def quarantine_release(dataset: DatasetId) -> None:
    """Let files that were refused or wrong be asked for again by the next run."""
    count = status.release_quarantined(dataset, root=Path())
    print(f"{dataset}: {count} files will be tried again. Next: dvc repro")


@dataset_app.command("add")
def dataset_add(
    path: Annotated[Path, typer.Argument(help="Folder: BIDS EEG, NWB files, or parcellated time series.")],
    licence: Annotated[str, typer.Option(help="Terms of the data, e.g. CC-BY-4.0 or 'unpublished, our lab'.")],
    citation: Annotated[str, typer.Option(help="How to cite it, e.g. 'Doe lab, in preparation'.")],
    dataset_id: Annotated[str | None, typer.Option("--id", help="Default: the folder's name.")] = None,
    modality: Annotated[Modality | None, typer.Option(help="Where the files do not tell.")] = None,
    species: Annotated[str, typer.Option(help="Where the files do not tell, e.g. 'Mus musculus'.")] = "",
    subject: Annotated[str, typer.Option(help="Label of the one subject, where file names do not carry it.")] = "",
    tr_s: Annotated[float | None, typer.Option(help="Seconds between volumes, for time series.")] = None,
    atlas: Annotated[str | None, typer.Option(help="Name of the parcellation, for time series.")] = None,
    variable: Annotated[str | None, typer.Option(help="Variable inside .mat files.")] = None,
    axes: Annotated[str | None, typer.Option(help="time_channel or channel_time, for time series.")] = None,
    pattern: Annotated[str, typer.Option(help="Which main files to take, where several fit one subject.")] = "",
) -> None:
    """Write the catalogue entry of a folder of yours and add it to params.yaml."""
    options = {"tr_s": tr_s, "atlas": atlas, "variable": variable, "axes": axes}
    entry = add_dataset(
        path,
        root=Path(),
        licence=licence,
        citation=citation,
        dataset_id=dataset_id,
        modality=modality,
        species=species,
        subject=subject,
        pattern=pattern,
        options={name: value for name, value in options.items() if value is not None},
    )
    for line in found_lines(entry, root=Path()):
        print(line)
    print("Next: dvc repro")


def _confirmed(question: str) -> bool:
    """Ask; nobody there to answer is a no."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        print()
        return False


def _print_diff(diff: str) -> None:
    """Print a unified diff, coloured on a terminal."""
    if not diff:
        return
    if sys.stdout.isatty():
        Console().print(Syntax(diff, "diff", theme="ansi_dark", background_color="default", word_wrap=True))
    else:
        print(diff, end="")


def _end_on(problems: Iterable[str]) -> None:
    """Say every problem in a line of its own, and end with the code of a user's mistake if there are any."""
    told = [f"error: {' '.join(problem.split())}\n" for problem in problems]
    sys.stderr.writelines(told)
    if told:
        raise typer.Exit(EXIT_USER_ERROR)


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2."""
    with exit_on_user_error(debug="--debug" in sys.argv[1:]):
        app()

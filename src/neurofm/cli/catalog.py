"""`neurofm catalog`: the datasets that are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from neurofm.catalog import load_entry
from neurofm.catalog.terms import accept, are_accepted
from neurofm.cli.common import AsJson, DatasetId, Yes, confirmed, end_on, print_diff
from neurofm.errors import UserError
from neurofm.operations import catalogue, pinning, verification
from neurofm.operations.tables import console, count_text, size_text
from neurofm.params import load_site
from neurofm.progress import Progressing

app = typer.Typer(no_args_is_help=True, help="The datasets that are known: list, show, pin, verify, accept.")

FACT_IS_WRONG = 1
"""Exit code of `catalog verify` where a fact of an entry is not what the archive says."""

_VERIFY_ATTEMPTS = 2
"""Without a network, the whole catalogue should take minutes and not an hour."""


@app.command("list")
def catalog_list(as_json: AsJson = False) -> None:
    """List every dataset that is known."""
    summaries = [catalogue.summary_of(entry, root=Path()) for entry in catalogue.load_catalogue(Path())]
    if as_json:
        print(json.dumps(summaries, indent=1, ensure_ascii=False))
        return
    out = console()
    out.print(catalogue.list_table(summaries, width=out.width))


@app.command("show")
def catalog_show(dataset: DatasetId) -> None:
    """Say everything about one dataset: every fact, its terms, how to cite, pin and use it."""
    console().print(catalogue.show_table(load_entry(dataset), root=Path()))


@app.command("accept")
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
    if not confirmed("Do you accept these terms?"):
        raise UserError(f"{dataset}: its terms are not accepted.", mend="take it out of params.yaml")
    accept(entry)
    print(f"{dataset}: accepted, and written down.")


@app.command("pin")
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
    print_diff(plan.diff)
    if plan.is_done:
        print("Pinned like this already.")
        return
    if not (yes or confirmed("Write this?")):
        raise UserError(f"{dataset}: nothing was written.", mend="say y, or --yes")
    pinning.write_pin(plan, root=Path())
    print(f"Pinned. Next: git add data/catalog && neurofm run manifest --dataset {dataset}")


@app.command("verify")
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
    end_on(unreachable)

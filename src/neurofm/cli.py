"""`neurofm ...`: what a person types beside `dvc repro`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from neurofm.catalog import load_entry
from neurofm.errors import UserError, exit_on_user_error
from neurofm.operations.dataset import add_dataset, found_lines
from neurofm.operations.preflight import download_plan, plan_lines
from neurofm.params import load_params
from neurofm.readers import reader_options
from neurofm.recording import Modality

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
dataset_app = typer.Typer(no_args_is_help=True, help="Datasets of your own.")
app.add_typer(dataset_app, name="dataset")

STAGES = ("manifest", "download", "preprocess", "split", "pretrain", "evaluate", "report")
PER_DATASET = ("manifest", "download", "preprocess")


@app.callback()
def options(
    context: typer.Context, debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False
) -> None:
    """From neural archives to an evaluated foundation model. `dvc repro` runs it all."""
    context.obj = debug


@app.command()
def preflight() -> None:
    """Validate every setting and say what a first `dvc repro` will download, before anything starts."""
    params = load_params()
    entries = [load_entry(dataset) for dataset in sorted(params.all_datasets)]
    for entry in entries:
        reader_options(entry.reader, entry.reader_options, where=f"data/catalog/{entry.id}.yaml")
    for line in plan_lines(download_plan(entries, root=Path())):
        print(line)


@app.command()
def run(
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(STAGES)}.")],
    dataset: Annotated[str | None, typer.Option(help="For the stages that run per dataset.")] = None,
) -> None:
    """Run one stage by hand: the same script that DVC runs, without DVC's bookkeeping."""
    if stage not in STAGES:
        raise UserError(f"no stage {stage!r}.", mend=f"choose one of {', '.join(STAGES)}")
    if (stage in PER_DATASET) != (dataset is not None):
        needs = "runs per dataset" if stage in PER_DATASET else "covers all datasets"
        mend = "add --dataset" if stage in PER_DATASET else "leave --dataset out"
        raise UserError(f"stage {stage!r} {needs}.", mend=mend)
    script = Path("stages") / f"{stage}.py"
    if not script.is_file():
        raise UserError(f"{script} is not here.", mend="run neurofm in the project's folder")
    command = [sys.executable, str(script), *([dataset] if dataset else [])]
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    raise typer.Exit(subprocess.run(command, check=False, env=environment).returncode)  # noqa: S603  # our own script


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


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2."""
    with exit_on_user_error(debug="--debug" in sys.argv[1:]):
        app()

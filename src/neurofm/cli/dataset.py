"""`neurofm dataset`: folders of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurofm.operations.dataset import add_dataset, found_lines
from neurofm.recording import Modality

app = typer.Typer(no_args_is_help=True, help="Datasets of your own.")


@app.command("add")
def dataset_add(
    path: Annotated[
        Path, typer.Argument(help="Folder: BIDS EEG, fMRIPrep's outputs, NWB, imaging, series of parcels.")
    ],
    licence: Annotated[str, typer.Option(help="Terms of the data, e.g. CC-BY-4.0 or 'unpublished, our lab'.")],
    citation: Annotated[str, typer.Option(help="How to cite it, e.g. 'Doe lab, in preparation'.")],
    dataset_id: Annotated[str | None, typer.Option("--id", help="Default: the folder's name.")] = None,
    modality: Annotated[Modality | None, typer.Option(help="Where the files do not tell.")] = None,
    species: Annotated[str, typer.Option(help="Where the files do not tell, e.g. 'Mus musculus'.")] = "",
    subject: Annotated[str, typer.Option(help="Label of the one subject, where file names do not carry it.")] = "",
    tr_s: Annotated[float | None, typer.Option(help="Seconds between volumes, for time series.")] = None,
    atlas: Annotated[str | None, typer.Option(help="Name of the parcellation, for fMRI: docs/fmri.md.")] = None,
    atlas_file: Annotated[str | None, typer.Option(help="Labels of your own, for fMRIPrep's outputs.")] = None,
    atlas_names: Annotated[str | None, typer.Option(help="Table of names, of series too.")] = None,
    atlas_space: Annotated[str | None, typer.Option(help="Its space, such as MNI152NLin6Asym.")] = None,
    resample_atlas: Annotated[bool | None, typer.Option(help="Bring it to the run's grid.")] = None,
    variable: Annotated[str | None, typer.Option(help="Variable inside .mat files.")] = None,
    axes: Annotated[str | None, typer.Option(help="time_channel or channel_time, for time series.")] = None,
    pattern: Annotated[str, typer.Option(help="Which main files to take, where several fit one subject.")] = "",
    mapping: Annotated[
        Path | None, typer.Option(help="YAML file that explains tables of your own: docs/formats/trials.md.")
    ] = None,
) -> None:
    """Write the catalogue entry of a folder of yours and add it to params.yaml."""
    options = {
        "tr_s": tr_s,
        "atlas": atlas,
        "atlas_file": atlas_file,
        "atlas_names": atlas_names,
        "atlas_space": atlas_space,
        "resample_atlas": resample_atlas,
        "variable": variable,
        "axes": axes,
    }
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
        mapping=mapping,
    )
    for line in found_lines(entry, root=Path()):
        print(line)
    print("Next: dvc repro")

"""`neurofm embed`: what a trained model makes of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command("embed")
def embed_command(
    shard: Annotated[Path, typer.Argument(help="data/shards/<dataset>/<recording>.zarr.zip")],
    out: Annotated[Path, typer.Option(help="Zarr group to be made.")],
    model: Annotated[
        str, typer.Option(help="A checkpoint: its folder, or organisation/name on the Hugging Face Hub.")
    ] = "models/pretrained/fold-0",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    calibration_s: Annotated[
        float | None,
        typer.Option(help="Seconds at its beginning that it is normalised and described by; all without."),
    ] = None,
    other: Annotated[
        bool, typer.Option("--other", help="Take recordings of another rate, atlas or montage than the training's too.")
    ] = False,
) -> None:
    """Write the model's embedding of a recording, patch by patch. No label is read."""
    from neurofm.model.hub import checkpoint_folder  # noqa: PLC0415  # loads torch
    from neurofm.training.embed import embed  # noqa: PLC0415

    made = embed(
        shard, model=checkpoint_folder(model, revision=revision), out=out, calibration_s=calibration_s, strict=not other
    )
    seen = "; the model has learned from this subject" if made.trained_on else ""
    print(f"{made.path}: {made.windows} windows of {made.patches} patches, {made.features} features each{seen}")

"""`neurofm explain`: where an artefact comes from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from neurofm.cli.common import AsJson
from neurofm.operations.explain import explain
from neurofm.operations.provenance.tree import explanation_tree
from neurofm.operations.tables import console
from neurofm.params import load_params

app = typer.Typer()


@app.command("explain")
def explain_command(
    address: Annotated[
        str,
        typer.Argument(
            metavar="PATH[#ROW]",
            help="A file or folder of the project; behind #, a row: metrics/scoreboard.json#gw-rest",
        ),
    ],
    as_json: AsJson = False,
    everything: Annotated[bool, typer.Option("--all", help="List every file, recording and subject.")] = False,
) -> None:
    """Say where an artefact comes from: stage, settings, code, files at their versions, and what was left out."""
    explanation = explain(address, root=Path(), params=load_params())
    if as_json:
        # Escaped throughout: names in it are other people's.
        print(json.dumps(asdict(explanation), indent=1))
        return
    console().print(explanation_tree(explanation, everything=everything))

"""`neurofm model`: trained models on the Hugging Face Hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neurofm.cli.common import Yes, confirmed

app = typer.Typer(no_args_is_help=True, help="Trained models on the Hugging Face Hub.")


@app.callback()
def family() -> None:
    """Keep `push` a command of its own, also while it is the only one."""


@app.command("push")
def model_push(
    name: Annotated[str, typer.Argument(help="organisation/name")],
    model: Annotated[Path, typer.Option(help="A checkpoint.")] = Path("models/pretrained/fold-0"),
    licence: Annotated[str, typer.Option(help="Of the model, an SPDX id in small letters; none without.")] = "",
    public: Annotated[bool, typer.Option("--public", help="Let all see it, if it is made now.")] = False,
    card: Annotated[bool, typer.Option("--card", help="Print the card that would be sent, and send nothing.")] = False,
    yes: Yes = False,
) -> None:
    """Send a checkpoint with a card: what it learned from, its scores, licences. HF_TOKEN is the token."""
    from neurofm.model.hub import push_checkpoint  # noqa: PLC0415  # loads torch
    from neurofm.operations.model_card import model_card  # noqa: PLC0415

    made = model_card(model, name=name, root=Path(), licence=licence)
    if card:
        print(made.text, end="")
        return
    if public:
        made.refuse_public()
    seen = "for all to see" if public else "private"
    if not yes and not confirmed(f"Send {model} with its card to {name} ({seen} if it is new)?"):
        sys.stderr.write("nothing was sent\n")
        raise typer.Exit(1)
    pushed = push_checkpoint(model, name, card=made.text, public=public, under_terms=made.under_terms)
    print(f"{pushed.url}\nNeuroFM.from_pretrained({name!r}, revision={pushed.revision!r})")

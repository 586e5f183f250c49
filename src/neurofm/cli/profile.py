"""`neurofm profile`: ready mixes of datasets, written into params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurofm.cli.common import Yes, confirmed, print_diff
from neurofm.errors import UserError
from neurofm.operations import profiles
from neurofm.operations.tables import console, table

app = typer.Typer(no_args_is_help=True, help="Ready mixes of datasets, written into params.yaml.")


@app.command("list")
def profile_list() -> None:
    """List the ready mixes of datasets."""
    out = console()
    made = table("profile", "datasets", "what it is", width=out.width)
    for name in profiles.profile_names(Path()):
        profile = profiles.load_profile(name, root=Path())
        made.add_row(name, "\n".join(profiles.mix_lines(profile)), profile.title)
    out.print(made)


@app.command("use")
def profile_use(
    name: Annotated[str, typer.Argument(help="One of `neurofm profile list`.")],
    budget: Annotated[profiles.Budget, typer.Option(help="How much of each dataset.")] = profiles.Budget.BALANCED,
    folder: Annotated[
        Path | None, typer.Option(help="Holds the folders of a profile that has datasets on this machine.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Write a profile into params.yaml: the change is shown first."""
    plan = profiles.plan_profile(name, budget, root=Path(), folder=folder)
    if not plan.diff:
        print("params.yaml says this already.")
        return
    print_diff(plan.diff)
    if not (yes or confirmed("Write this?")):
        raise UserError("params.yaml: nothing was written.", mend="say y, or --yes")
    profiles.write_profile(plan, root=Path())
    print("Written. Next: neurofm preflight")

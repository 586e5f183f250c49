"""`neurofm certify`: whether this checkout's results can be reproduced here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from neurofm.operations.certify.finding import CERTIFICATE, Finding, Status, counted
from neurofm.operations.tables import console, table
from neurofm.params import load_params, load_site

if TYPE_CHECKING:
    from neurofm.operations.certify.certificate import Certificate, Statement

app = typer.Typer()

EXIT_NOT_CERTIFIED = 1


@app.command("certify")
def certify_command(
    check: Annotated[
        Path | None, typer.Option(help="Only check this certificate: its digest, and that it is about this checkout.")
    ] = None,
    pull: Annotated[bool, typer.Option(help="Bring missing outputs with `dvc pull` first.")] = True,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="End with 0 although something could not be built again.")
    ] = False,
    allow_uncommitted: Annotated[
        bool, typer.Option("--allow-uncommitted", help="End with 0 although no commit holds what was certified.")
    ] = False,
) -> None:
    """Build five minutes of each modality again, from manifest to scores, compare, and write a certificate."""
    # What these need (torch, DVC) takes seconds to load: the other commands do without.
    from neurofm.operations.certify.certificate import read_certificate, why_it_does_not_fit  # noqa: PLC0415
    from neurofm.operations.certify.certify import certify  # noqa: PLC0415

    root = Path()
    if check is not None:
        certificate = read_certificate(check)
        problems = why_it_does_not_fit(certificate, root=root)
        if allow_uncommitted:
            problems = [problem for problem in problems if "in no commit" not in problem]
        print(f"{check}: {certificate.statement}, issued {certificate.run.issued} on {certificate.run.host.name}")
    else:
        certificate = certify(load_params(root), site=load_site(root), root=root, pull=pull)
        problems = []
        console().print(_summary(certificate.statement))
        for finding in certificate.statement.findings:
            if finding.status is not Status.EQUAL:
                print(_line(finding))
        _print_end(certificate)
    sys.stderr.writelines(f"error: {problem}\n" for problem in problems)
    good = certificate.statement.passes(allow_partial=allow_partial, allow_uncommitted=allow_uncommitted)
    if problems or not good:
        raise typer.Exit(EXIT_NOT_CERTIFIED)


def _summary(statement: Statement) -> Table:
    made = table("", *((str(status), "right") for status in Status), width=console().width)
    for row in counted(statement.findings):
        made.add_row(row.part, *(str(row.counts[status] or "") for status in Status))
    return made


def _line(finding: Finding) -> str:
    mend = f" Mend: {finding.mend}" if finding.mend else ""
    return " ".join(f"{finding.status}: {finding.part}: {finding.item}: {finding.detail}.{mend}".split())


def _print_end(certificate: Certificate) -> None:
    """Say the verdict, what it hangs on, and where the page is."""
    statement = certificate.statement
    if statement.machine_differences:
        print(f"Another machine than the original's ({'; '.join(statement.machine_differences)}): tolerances hold.")
    if statement.checkout.uncommitted:
        named = ", ".join(statement.checkout.uncommitted[:3])
        print(f"In no commit: {named}. Mend: commit them (`git add`, `git commit`) and certify again")
    elif not statement.checkout.commit:
        print("In no git repository. Mend: `git init`, `git add .`, `git commit`, and certify again")
    page = CERTIFICATE.with_suffix(".html").absolute()
    print(f"Verdict: {statement}")
    print(f"Certificate: {CERTIFICATE}, sha256 {certificate.sha256}")
    print(f"Page: {page.as_uri()}")

"""Certify: pull, check, build the slice again, compare, write."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import neurofm
from neurofm.errors import UserError
from neurofm.fetch.waiting import alone
from neurofm.files import write_atomic, write_json
from neurofm.operations.certify.certificate import Certificate, Run, Statement
from neurofm.operations.certify.finding import CERTIFICATE, Finding, Part, Status, verdict_of
from neurofm.operations.certify.hashes import compare_cache, compare_inputs, compare_outputs
from neurofm.operations.certify.outputs import Outputs, Pulled
from neurofm.operations.certify.page import render_page
from neurofm.operations.certify.rebuild import SLICE, Rebuild
from neurofm.operations.certify.scores import compare_slices
from neurofm.operations.certify.shards import compare_receipts
from neurofm.operations.certify.surroundings import this_checkout, this_host
from neurofm.params import Params, Site
from neurofm.slices.machine import this_machine
from neurofm.slices.result import SliceResult


def certify(params: Params, *, site: Site, root: Path, pull: bool = True) -> Certificate:
    """Certify the checkout at `root`, and write ``reports/certificate.json`` and ``.html``.

    Parameters
    ----------
    params, site
        Of the project.
    root
        Its root.
    pull
        Bring outputs that are missing from the remote first.

    Returns
    -------
    Certificate
        Whatever its verdict is; it is written too.

    Raises
    ------
    UserError
        If there is nothing to compare with (outputs that cannot be had, or a pipeline that never ran), or it would be
        built by other code than this checkout's. Nothing is written then.
    """
    began = time.monotonic()
    _require_own_code(root)
    outputs = Outputs.read(root)
    pulled = outputs.pull() if pull else Pulled(outputs=0, size=0)
    outputs.require()
    checkout, machine = this_checkout(root), this_machine()
    reference = SliceResult.read(root / SLICE)
    differences = reference.made_on.differences(machine)
    findings = [
        *compare_cache(outputs),
        *compare_outputs(outputs),
        *compare_inputs(outputs),
        *compare_receipts(params.all_datasets, root=root),
    ]
    with _folder(root) as work:
        findings += _rebuilt(Rebuild(root=root, work=work, params=params, site=site, exact=not differences), reference)
    certificate = Certificate(
        statement=Statement(
            verdict=verdict_of(findings),
            checkout=checkout,
            made_on=reference.made_on,
            machine_differences=tuple(differences),
            recordings=reference.recordings,
            not_scored=reference.not_scored,
            findings=tuple(findings),
        ),
        run=Run(
            issued=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - began, 1),
            pulled_outputs=pulled.outputs,
            pulled_bytes=pulled.size,
            host=this_host(root, machine=machine),
        ),
    ).signed()
    page = render_page(certificate)
    path = root / CERTIFICATE
    write_atomic(path.with_suffix(".html"), page.encode())
    write_json(path, certificate.plain())
    return certificate


def _rebuilt(rebuild: Rebuild, reference: SliceResult) -> list[Finding]:
    """Build the slice again and compare it."""
    findings, made = rebuild.run(reference)
    if made is None:
        failed = Finding(
            part=Part.SCORE,
            item="the whole slice",
            status=Status.DIFFERS,
            detail="its stage failed",
            mend="`neurofm run slice` says why",
        )
        return [*findings, failed]
    shards = [finding for finding in findings if finding.part is Part.SHARD]
    # Where shards came from another kind of machine than the slice, what follows them rounds otherwise too.
    exact = rebuild.exact and not any(finding.status is Status.WITHIN for finding in shards)
    return [*findings, *compare_slices(reference, made, shards=shards, exact=exact)]


def _require_own_code(root: Path) -> None:
    """Refuse to certify a checkout by the code of another: stages do not depend on every file of src/."""
    running = Path(neurofm.__file__).resolve().parent
    own = (root / "src" / "neurofm").resolve()
    if running != own:
        raise UserError(
            f"This is the neurofm of {running}, which says nothing of the code in {own}.",
            mend="use this checkout's environment: `make env`, then `.venv/bin/neurofm certify`",
        )


@contextmanager
def _folder(root: Path) -> Iterator[Path]:
    """Give an empty folder that is removed afterwards; one that a killed run left is removed first."""
    folder = root / ".neurofm" / "certify"
    with alone(root / ".neurofm" / "locks" / "certify"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

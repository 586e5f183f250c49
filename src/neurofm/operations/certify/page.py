"""Page: a certificate for people, in the style of the report."""

from __future__ import annotations

from pathlib import Path

import jinja2

import neurofm.report
from neurofm.operations.certify.certificate import Certificate
from neurofm.operations.certify.finding import Part, Status, counted
from neurofm.operations.tables import size_text
from neurofm.report.words import MODALITY_WORDS, number

_BUILT = (Part.MANIFEST, Part.SHARD, Part.CUT, Part.SPLIT, Part.MODEL)
_CHECKED = (Part.CODE, Part.ARTEFACTS, Part.CACHE, Part.RECEIPTS)


def render_page(certificate: Certificate) -> str:
    """Return one HTML page that opens offline; the same certificate gives the same page."""
    here = Path(__file__).parent / "templates"
    report = Path(neurofm.report.__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([here, report]),
        # File names and reasons come from other people's files.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = size_text
    environment.filters["number"] = number
    findings = certificate.statement.findings
    return environment.get_template("certificate.html.j2").render(
        certificate=certificate,
        statement=certificate.statement,
        run=certificate.run,
        statuses=tuple(Status),
        counts=counted(findings),
        open=[finding for finding in findings if finding.status is not Status.EQUAL],
        built=[finding for part in _BUILT for finding in findings if finding.part is part],
        scores=[finding for finding in findings if finding.part is Part.SCORE],
        checked=[finding for finding in findings if finding.part in _CHECKED],
        modality_words={modality.value: word for modality, word in MODALITY_WORDS.items()},
    )

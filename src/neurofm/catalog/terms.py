"""Terms that a person must accept before a dataset's files are asked for: shown once, the acceptance written down."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from neurofm.catalog.entry import CatalogEntry, Terms
from neurofm.errors import UserError
from neurofm.files import write_json
from neurofm.settings import Settings

ACCEPT_TERMS = "NEUROFM_ACCEPT_TERMS"
"""Environment variable for machines: ids of datasets, parted by commas, whose terms a person has accepted elsewhere."""


class Acceptance(Settings):
    """One person's yes to the terms of one dataset."""

    digest: str
    """Of the terms as they were shown: when they change, they are shown again."""
    accepted_at: str
    """ISO 8601, UTC."""


class _Acceptances(Settings):
    accepted: dict[str, Acceptance]


def terms_digest(terms: Terms) -> str:
    """Return the digest of what is accepted: the text and the address of the full terms."""
    text = json.dumps([terms.summary.strip(), terms.url], ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def are_accepted(entry: CatalogEntry) -> bool:
    """Say whether the entry's terms, as they stand now, were accepted; entries without terms need no acceptance."""
    if entry.terms is None or entry.id in _accepted_by_environment():
        return True
    acceptance = _read().accepted.get(entry.id)
    return acceptance is not None and acceptance.digest == terms_digest(entry.terms)


def require_terms(entry: CatalogEntry) -> None:
    """Refuse to go on with a dataset whose terms were not accepted.

    Stages call this before they ask an archive for anything.

    Raises
    ------
    UserError
        With the command that shows the terms and takes the answer.
    """
    if not are_accepted(entry):
        raise UserError(
            f"{entry.id}: its terms are not accepted here.",
            mend=f"read and accept them: neurofm catalog accept {entry.id} "
            f"(for machines: {ACCEPT_TERMS}={entry.id} in the environment)",
        )


def accept(entry: CatalogEntry) -> None:
    """Write down that the entry's terms were accepted now."""
    assert entry.terms is not None
    now = datetime.now(tz=UTC).isoformat(timespec="seconds")
    acceptance = Acceptance(digest=terms_digest(entry.terms), accepted_at=now)
    accepted = {**_read().accepted, entry.id: acceptance}
    write_json(terms_path(), _Acceptances(accepted=accepted).model_dump(mode="json"))


def terms_path() -> Path:
    """Return where acceptances are kept: per person, not per project."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "neurofm" / "terms.json"


def _read() -> _Acceptances:
    path = terms_path()
    mend = "remove the file and accept the terms again"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return _Acceptances(accepted={})
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}).", mend=mend) from None
    return _Acceptances.parse(content, where=str(path), mend=mend)


def _accepted_by_environment() -> frozenset[str]:
    return frozenset(name.strip() for name in os.environ.get(ACCEPT_TERMS, "").split(",") if name.strip())

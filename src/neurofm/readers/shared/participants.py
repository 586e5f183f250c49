"""The row of a BIDS ``participants.tsv`` that describes a recording's subject."""

from __future__ import annotations

import csv
import math

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import opening
from neurofm.recording import Unreadable
from neurofm.recording.recording import JsonScalar

_MISSING = ("", "n/a", "N/A", "NaN", "nan")


def participant_scalars(source: ReaderInput) -> dict[str, JsonScalar]:
    """Return the columns of the subject's row, numbers as numbers and ``n/a`` as None.

    The file is the side file called ``participants.tsv`` (BIDS 1.10, "Participants file"). The subject is
    looked up by the label after the namespace, with or without the ``sub-`` that BIDS asks for.

    Returns
    -------
    dict
        Empty where there is no such file or no such row.

    Raises
    ------
    Unreadable
        If the file is there but is not text with a ``participant_id`` column, has the subject twice, or has its row
        longer than the header.
    """
    label = source.entry.subject.rpartition(":")[2]
    for extra in source.entry.extra:
        path = source.root / extra
        if path.name != "participants.tsv":
            continue
        # Files written on Windows begin with a byte order mark, which would become part of the first column's name.
        with opening(path), path.open(encoding="utf-8-sig", newline="") as lines:
            rows = [
                row
                for row in csv.DictReader(lines, delimiter="\t")
                if row["participant_id"].removeprefix("sub-") == label.removeprefix("sub-")
            ]
        if len(rows) > 1:
            raise Unreadable(f"{path.name}: it has {len(rows)} rows for {label}")
        if any(None in row for row in rows):  # where `csv` puts what has no column
            raise Unreadable(f"{path.name}: the row of {label} has more fields than the header has columns")
        return {name: _value(text or "") for row in rows for name, text in row.items() if name != "participant_id"}
    return {}


def _value(text: str) -> JsonScalar:
    text = text.strip()
    if text in _MISSING:
        return None
    if "_" in text:  # Python takes 1_0, which is a name, for ten
        return text
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return text

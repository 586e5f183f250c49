"""Participants of HBN-EEG: release, age, sex, factors of the Child Behavior Checklist, and which tasks can be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pandas as pd

from neurofm.recording import Unreadable
from neurofm.recording.recording import JsonScalar

FACTORS = ("p_factor", "attention", "internalizing", "externalizing")
"""Of a bifactor model of the checklist; no unit."""
SCALARS = ("age", "sex", *FACTORS)
"""What may be decoded per recording: age in years, sex ``F`` or ``M``, the factors; None where it is not known."""
_QUALITY = ("data_pnts", "event_cnt", "key_events_exist", "quality_checks")
_MISSING = ["n/a", "", "nan", "NaN"]


class Availability(StrEnum):
    """What the release says of a task's run."""

    AVAILABLE = "available"
    CAUTION = "caution"
    """There, but it fails one of the release's checks: length, number of events, key events."""
    UNAVAILABLE = "unavailable"
    """Not there, or not to be read."""


@dataclass(frozen=True, kw_only=True)
class Participant:
    """One row of ``participants.tsv``; None is ``n/a``."""

    release: str
    """``R1`` to ``R11``."""
    sex: str | None
    age: float | None
    """Years."""
    factors: Mapping[str, float | None]
    """By name of `FACTORS`."""
    commercial_use: bool | None
    availability: Mapping[str, Availability]
    """By task, or task and run: ``RestingState``, ``contrastChangeDetection_1``."""

    def scalars(self) -> dict[str, JsonScalar]:
        """Return what may be decoded, by name of `SCALARS`."""
        return {"age": self.age, "sex": self.sex, **self.factors}

    def available(self, *, task: str, run: str = "") -> Availability | None:
        """Return what the release says of a task's run; None where it says nothing.

        Parameters
        ----------
        task, run
            As the file's name has them.
        """
        return self.availability.get(f"{task}_{run}", self.availability.get(task))


def participant(row: Mapping[str, JsonScalar]) -> Participant:
    """Take a participant out of the columns of a row, as a reader leaves them in a recording's scalars.

    Columns that are not there count as not known; others than those of HBN-EEG are passed over.
    """
    flags = {str(flag) for flag in Availability}
    commercial = row.get("commercial_use")
    return Participant(
        release=str(row.get("release_number") or ""),
        sex=sex if isinstance(sex := row.get("sex"), str) else None,
        age=_number(row.get("age")),
        factors={name: _number(row.get(name)) for name in FACTORS},
        commercial_use=None if commercial is None else commercial == "Yes",
        availability={
            name: Availability(flag) for name, flag in row.items() if isinstance(flag, str) and flag in flags
        },
    )


def read_participants(path: Path) -> dict[str, Participant]:
    """Read a release's ``participants.tsv``.

    Returns
    -------
    dict
        By label without ``sub-``.

    Raises
    ------
    Unreadable
        Without a column ``participant_id``, or where somebody is in it twice.
    """
    table = _read(path, needed=("participant_id",), separator="\t")
    labels = table["participant_id"].str.removeprefix("sub-")
    if labels.duplicated().any():
        raise Unreadable(f"{path.name}: {labels[labels.duplicated()].iloc[0]} is in it twice")
    records = table.drop(columns="participant_id").to_dict("records")
    return {
        label: participant({str(name): None if pd.isna(value) else value for name, value in record.items()})
        for label, record in zip(labels, records, strict=True)
    }


def read_quality_table(path: Path) -> pd.DataFrame:
    """Read ``code/<task>_quality_table.tsv``, whose columns are parted by commas whatever its name says.

    Returns
    -------
    DataFrame
        Indexed by label without ``sub-``: ``data_pnts`` and ``event_cnt`` float64, ``key_events_exist`` bool,
        ``quality_checks`` str, empty where it is ``n/a``.

    Raises
    ------
    Unreadable
        Without one of these columns.
    """
    table = _read(path, needed=_QUALITY, separator=",")
    labels = table.iloc[:, 0].str.removeprefix("sub-")
    return pd.DataFrame(
        {
            "data_pnts": pd.to_numeric(table["data_pnts"]).to_numpy(dtype="float64"),
            "event_cnt": pd.to_numeric(table["event_cnt"]).to_numpy(dtype="float64"),
            "key_events_exist": table["key_events_exist"].isin(["1", "true", "True"]).to_numpy(),
            "quality_checks": table["quality_checks"].fillna("").to_numpy(dtype=object),
        },
        index=pd.Index(labels, name="subject"),
    )


def _read(path: Path, *, needed: tuple[str, ...], separator: str) -> pd.DataFrame:
    """Read a table as text."""
    try:
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, na_values=_MISSING, encoding="utf-8-sig"
        )
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path.name}: {error}") from error
    if missing := [name for name in needed if name not in table]:
        raise Unreadable(f"{path.name}: no column {missing[0]!r}; it has {', '.join(table.columns)}")
    return table


def _number(value: JsonScalar) -> float | None:
    """Return a number, also one that stands as text."""
    try:
        return None if value is None else float(value)
    except ValueError:
        return None

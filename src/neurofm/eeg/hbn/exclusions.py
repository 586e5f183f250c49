"""Participants that others found unfit and said so in public; `exclusions.csv` has the lists and their sources."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Literal

from neurofm.eeg.hbn.participants import Availability, Participant

ExclusionList = Literal["challenge-2025"]
"""``challenge-2025``: nine participants that the organisers of the EEG challenge took out of both tasks, for too few
channels or too short recordings. They do not say which of the two."""


def excluded_reason(
    subject: str,
    participant: Participant,
    *,
    task: str,
    run: str,
    lists: Sequence[ExclusionList],
    accept: Sequence[Availability],
) -> str:
    """Say why a recording is kept out; empty if it is not.

    Parameters
    ----------
    subject
        Label, with or without namespace and ``sub-``.
    participant
        The subject's row.
    task, run
        As the file's name has them.
    lists
        Which published lists hold.
    accept
        Which words of the release on this run are good enough; where it says nothing, the run is taken.
    """
    label = subject.rpartition(":")[2].removeprefix("sub-")
    for name in lists:
        if listed := _listed(name).get(label):
            return listed
    said = participant.available(task=task, run=run)
    if said is not None and said not in accept:
        return f"participants.tsv says `{said}` of {task}{f' run {run}' if run else ''}"
    return ""


def lists_digest() -> str:
    """Return the SHA-256 of all lists: a recording that is left out, or no longer, is read again."""
    return sha256(_content().encode()).hexdigest()


def _content() -> str:
    return files("neurofm.eeg.hbn").joinpath("exclusions.csv").read_text(encoding="utf-8")


@cache
def _listed(name: ExclusionList) -> dict[str, str]:
    """Return the reason by label."""
    return {
        row["subject"]: f"on the list {name}: {row['reason']} ({row['source']})"
        for row in csv.DictReader(_content().splitlines())
        if row["list"] == name
    }

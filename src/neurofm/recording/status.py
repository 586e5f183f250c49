"""How a unit of work ended."""

from __future__ import annotations

from enum import StrEnum


class UnitStatus(StrEnum):
    """How a unit of work ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The step raised: a damaged file, an impossible setting. Run again only when something changed or on retry."""
    INCOMPLETE = "incomplete"
    """Interrupted before it could end."""
    UNAVAILABLE = "unavailable"
    """The input could not be had: not downloaded, or quarantined because its digest did not match."""


class Unreadable(Exception):
    """A recording that cannot be used, with the reason that its receipt will carry.

    Readers and preprocessing raise it for damaged or impossible input. It ends one unit of work, not
    the stage. The text names the file and what is wrong with it.
    """

"""Words that several messages share."""

from __future__ import annotations

from collections.abc import Sequence

_NAMED = 3


def some(paths: Sequence[str]) -> str:
    """Name the first few of many paths, and say how many more there are."""
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(sorted(paths)[:_NAMED]) + more

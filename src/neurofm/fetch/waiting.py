"""What every way of fetching shares: which answers are tried again, how long to pause, who may go on alone."""

from __future__ import annotations

import email.utils
import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurofm.fetch.hosts import FetchSite

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 522, 524})
"""HTTP answers after which the same request may go better."""


def pause_s(attempt: int, *, site: FetchSite, asked_s: float = 0.0) -> float:
    """Return how long to wait before `attempt` (1 is the second): growing, jittered, at least what the server asked.

    Jitter only spaces out attempts of many machines; nothing of it reaches an output.
    """
    grown = min(site.longest_pause_s, 0.5 * 2.0**attempt) * (0.5 + 0.5 * random.random())  # noqa: S311
    return max(grown, min(asked_s, site.longest_pause_s))


def retry_after_s(value: str) -> float:
    """Return the seconds that a `Retry-After` header asks for, in either of its two spellings; 0 if in neither."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def is_offline(site: FetchSite) -> bool:
    """Tell whether nobody may be asked."""
    return site.offline or os.environ.get("NEUROFM_OFFLINE", "") not in {"", "0"}


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold `lock`, so that two processes do not write one thing together; the second waits."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

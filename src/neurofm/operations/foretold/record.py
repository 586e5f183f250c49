"""What was foretold and what was paid, kept in ``.neurofm/forecast.json`` so that the next forecast is better."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from neurofm.files import write_json
from neurofm.operations.stage import StageCost
from neurofm.settings import Settings

PATH = Path(".neurofm/forecast.json")


class Paid(Settings):
    """What a stage cost when it last ran, and for how much work."""

    amount: float
    held_bytes: float
    seconds: float
    peak_mb: float


class Foretold(Settings):
    """What one stage was foretold to cost."""

    stage: str
    """As in `StageCost`: ``preprocess@gw-rest``."""
    made: float
    """Seconds since 1970."""
    amount: float
    """Of work, in the stage's own measure, per process."""
    held_bytes: float
    """Of data that one process holds at once."""
    at_once: int
    """Most processes side by side."""
    seconds: float
    peak_mb: float
    """Of its largest process, MiB."""
    measured: bool
    """Whether it rests on what was paid here; else on usual figures."""
    files: int | None
    written: int | None
    """Bytes that come to lie on this disk, with DVC's copy."""
    paid: Paid | None = None
    """What was paid the last time before this was foretold."""

    @property
    def family(self) -> str:
        """The stage without its dataset."""
        return self.stage.partition("@")[0]

    @property
    def memory_mb(self) -> float:
        """Most memory of all its processes together, MiB."""
        return self.peak_mb * self.at_once


_ALL = TypeAdapter(dict[str, Foretold])


def read_foretold(root: Path) -> dict[str, Foretold]:
    """Return what was foretold last, by stage; nothing where there is no such file, or one of another version."""
    try:
        return _ALL.validate_json((root / PATH).read_bytes())
    except (OSError, ValidationError):
        return {}


def write_foretold(root: Path, foretold: Mapping[str, Foretold]) -> None:
    """Keep what was foretold."""
    write_json(root / PATH, json.loads(_ALL.dump_json(dict(foretold))))


def paid_since(foretold: Mapping[str, Foretold], costs: Mapping[str, StageCost]) -> dict[str, StageCost]:
    """Return the costs of the stages that ran to their end after they were foretold."""
    return {
        name: cost
        for name, cost in costs.items()
        if cost.succeeded and name in foretold and cost.began >= foretold[name].made
    }


def known_costs(foretold: Mapping[str, Foretold], costs: Mapping[str, StageCost]) -> dict[str, Paid]:
    """Return what is known of each stage: what was paid after the last forecast, or before it."""
    known = {name: item.paid for name, item in foretold.items() if item.paid is not None}
    for name, cost in paid_since(foretold, costs).items():
        item = foretold[name]
        known[name] = Paid(amount=item.amount, held_bytes=item.held_bytes, seconds=cost.seconds, peak_mb=cost.peak_mb)
    return known

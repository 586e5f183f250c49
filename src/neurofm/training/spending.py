"""Spending: what a fold's training has cost, what it will cost at most, and what it may."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from neurofm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Hours and money of one fold."""

    max_hours: float | None = None
    max_cost: float | None = None
    """Of this fold, which pays its part of the machine's price."""
    price_per_hour: float = 0.0
    """Of the machine; 0 where nobody sends a bill."""
    side_by_side: int = 1
    """Folds that share the machine."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """How steps and budget are parted, in their order and in any unit: ``{"broad": 60, "long": 30, "last": 10}``."""

    def __post_init__(self) -> None:
        if self.max_cost is not None and not self.price_per_hour:
            raise UserError(
                f"pretrain: `pretrain.max_cost` is {self.max_cost:g} in params.yaml, and `price_per_hour` is 0 in "
                "site.yaml: what it costs is not known.",
                mend="say the machine's price in site.yaml, or leave `max_cost` empty",
            )

    @property
    def _price(self) -> float:
        return self.price_per_hour / self.side_by_side

    def _limits_s(self) -> dict[str, float]:
        limits = {}
        if self.max_hours is not None:
            limits["max_hours"] = self.max_hours * 3600
        if self.max_cost is not None:
            limits["max_cost"] = self.max_cost / self._price * 3600
        return limits

    def used_up(self, seconds: float) -> str | None:
        """Return the name of the limit that was reached; None if none was."""
        reached = {name: limit for name, limit in self._limits_s().items() if seconds >= limit}
        return min(reached, key=reached.__getitem__) if reached else None

    @property
    def is_of_interest(self) -> bool:
        """Whether anybody asked for it."""
        return bool(self.price_per_hour or self._limits_s() or self.phases)

    def rules(self) -> str:
        """Say what is paid, and where it ends."""
        parts = [f"{self._price:.4g} an hour"] if self.price_per_hour else []
        parts += [] if self.max_hours is None else [f"at most {self.max_hours:g} hours"]
        parts += [] if self.max_cost is None else [f"at most {self.max_cost:g} in money"]
        return ", ".join(parts)

    def phase(self, step: int, *, steps: int) -> str:
        """Return the phase that a step belongs to; empty where there are none."""
        edge = 0.0
        for name, share in self._shares().items():
            edge += share * steps
            if step < edge:
                return name
        return next(reversed(list(self.phases)), "")

    def _shares(self) -> dict[str, float]:
        """Share of the whole per phase."""
        return {name: share / sum(self.phases.values()) for name, share in self.phases.items()}

    def report_phases(self, spent_s: Mapping[str, float], *, step: int, steps: int) -> str:
        """Say of each phase what was spent, what it will take in all at this pace, and what it may.

        Parameters
        ----------
        spent_s
            Seconds per phase, so far.
        step, steps
            Done, and of the whole training.
        """
        pace_s = sum(spent_s.values()) / step if step else math.nan
        limit_s, first, parts = min(self._limits_s().values(), default=None), 0.0, []
        for name, share in self._shares().items():
            last = first + share * steps
            spent = spent_s.get(name, 0.0)
            whole = spent + max(0.0, last - max(first, step)) * pace_s
            may = "" if limit_s is None else f" of {self._words(share * limit_s)}"
            parts.append(f"{name} {self._words(spent)}, {self._words(whole)}{may} in all")
            first = last
        return "; ".join(parts)

    def report(self, *, seconds: float, step: int, steps: int) -> str:
        """Say what was spent up to a step, and what all steps would take at this pace."""
        whole = min(math.inf if not step else seconds / step * steps, *self._limits_s().values(), math.inf)
        return f"{self._words(seconds)} spent at step {step}; {self._words(whole)} at most for all {steps} steps"

    def _words(self, seconds: float) -> str:
        hours = f"{seconds / 3600:.3g} hours"
        return f"{hours} ({self._price * seconds / 3600:.3g})" if self.price_per_hour else hours

"""Divergence: a loss that is not a number, or explodes, costs its step.

Several in a row cost what followed the latest validation; several times that end the training with a diagnosis.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from neurofm.errors import UserError
from neurofm.training.settings import SafeguardSettings
from neurofm.training.state import RunState

_LINES = 10
"""Skipped steps that are said one by one; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What was wrong with a step."""

    step: int
    modality: str
    """With the kind of mask, where it was validated under several."""
    recording: str
    """``<dataset>/<recording>``, or what it was validated on."""
    loss: float
    """Over that of predicting the mean."""
    norm: float
    """Of the gradient."""
    rate: float
    """The learning rate."""

    def __str__(self) -> str:
        what, value = (
            ("loss", self.loss)
            if math.isfinite(self.norm) or not math.isfinite(self.loss)
            else (
                "gradient",
                self.norm,
            )
        )
        return (
            f"the {what} of {self.modality} ({self.recording}) is {value:.4g} at step {self.step}, "
            f"learning rate {self.rate:.3g}"
        )


def usual_loss(state: RunState, key: str) -> float:
    """Return what a loss over that of predicting the mean usually is, for a modality and kind of mask (`key_of`).

    It is the mean of all that was learned from between the two latest validations, but at most 1, so that a loss that
    grows slowly does not take its own limit along; and 1 before there was a validation.
    """
    means = [point["train"][key] for point in state.curve if key in point["train"]]
    return min(1.0, means[-1]) if means else 1.0


def is_sound(loss: float, norm: float, *, usual: float, settings: SafeguardSettings) -> bool:
    """Whether weights may follow a gradient, of a loss that usually is `usual`."""
    return math.isfinite(loss) and math.isfinite(norm) and loss <= settings.exploding_loss * usual


def skip(trouble: Trouble, state: RunState, *, who: str) -> None:
    """Count a step that is not learned from."""
    state.bad_in_row += 1
    state.skipped += 1
    state.trouble = str(trouble)
    if state.skipped <= _LINES:
        more = "; further ones are only counted" if state.skipped == _LINES else ""
        sys.stderr.write(f"{who}: {trouble}; this step is skipped{more}\n")


def go_back(state: RunState, kept: RunState | None, *, settings: SafeguardSettings, who: str) -> RunState:
    """Return the last kept state with a lower learning rate.

    Parameters
    ----------
    state
        Where it ended, with its trouble.
    kept
        State of the last validation; None if none can be read.
    settings, who
        How often, and for messages.

    Raises
    ------
    UserError
        If that was done as often as it may be, or there is nothing to go back to.
    """
    if kept is None or state.rollbacks >= settings.rollbacks:
        tried = f" after going back {state.rollbacks} times" if state.rollbacks else ""
        raise UserError(
            f"pretrain: {state.trouble}{tried}; {state.skipped} steps were skipped.",
            mend="lower pretrain.learning_rate in params.yaml, or look at that recording",
        )
    kept.rollbacks, kept.skipped = state.rollbacks + 1, state.skipped
    kept.rate = state.rate * settings.rollback_rate
    kept.bad_in_row = 0
    sys.stderr.write(
        f"{who}: {state.trouble}; back to step {kept.step}, with {kept.rate:.3g} times the learning rate\n"
    )
    return kept

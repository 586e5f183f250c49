"""Calibration row: one point of a curve of scores over calibration, as ``metrics/calibration.json`` has it.

Apart from how points are computed, so that who only reads them (the report) starts without torch and scikit-learn.
"""

from __future__ import annotations

from neurofm.settings import Settings

NULL_TRAIN = "null_train"
"""Predicting each channel's mean over the training recordings: what is known before anything is seen of a recording.
Of a dataset left out whole whose channels nobody else has, the mean over all training channels of the modality."""


class CalibrationRow(Settings):
    """One point. The file is a list of them, empty where nobody asked for it; the CSV has the same columns."""

    dataset: str
    modality: str
    task: str
    """``masked_reconstruction``."""
    metric: str
    """``R2``, or ``bits_per_spike``; both are better when higher."""
    model: str
    """``neurofm`` and its core, baselines, ``null`` (the mean of that calibration), and `NULL_TRAIN` where the training
    recordings have the same channels."""
    calibration: str
    """What was looked at of a recording before it was scored: ``10 s``, ``20 trials``, or ``all`` that the split gives.
    A recording that has less gives all of it."""
    seconds: float
    """Valid seconds that that was, mean over recordings and folds."""
    value: float
    ci_low: float
    ci_high: float
    """95 %, over `ci_unit` drawn anew."""
    ci_unit: str
    """``subject`` or ``session``."""
    n: int
    """How many of them there are: at every point the same, and fewer for a baseline that is there for some sets of
    channels alone."""
    linear: str
    """The best baseline of this point that is linear, by its score; it has the same calibration."""
    minus_linear: float | None
    """Value minus that of `linear`; null for models that are not ours."""
    minus_linear_ci_low: float | None
    minus_linear_ci_high: float | None
    """95 % of the difference, paired over units."""
    leak: str = ""
    """As `neurofm.evaluation.row.Row.leak`: what was learned from of what is scored; nothing if empty."""

"""What preprocessing and training wrote down, as far as the report reads it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Written(BaseModel):
    """What an earlier stage wrote; it may hold more than the report shows."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RecordingQuality(_Written):
    """One recording in ``metrics/quality/<dataset>.json``."""

    status: str
    reason: str = ""
    subject: str = ""
    duration_s: float = 0.0
    channels: int = 0
    usable_channels: int = 0
    quality: dict[str, str | int | float | bool | None] = {}


class DatasetQuality(_Written):
    """``metrics/quality/<dataset>.json``."""

    recordings: dict[str, RecordingQuality]


class CurvePoint(_Written):
    """Losses at one step, by modality; None where there is none."""

    step: int
    train: dict[str, float | None] = {}
    validation: dict[str, float | None] = {}


class FoldTraining(_Written):
    """How one fold was trained."""

    fold: int
    steps: int
    best_step: int
    parameters: int
    residual_gain: dict[str, float | None] = {}
    curve: tuple[CurvePoint, ...] = ()


class Pretraining(_Written):
    """``metrics/pretrain.json``."""

    folds: tuple[FoldTraining, ...] = ()

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
    stopped_by: str | None = None


class Pretraining(_Written):
    """``metrics/pretrain.json``."""

    folds: tuple[FoldTraining, ...] = ()


class Measure(_Written):
    """One measure of QC-FC, with its interval and its null; None for what is not known."""

    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    p: float | None = None


class QcFcSide(_Written):
    """QC-FC before or after cleaning."""

    edges: int = 0
    median_abs_r: Measure | None = None
    share_significant: Measure | None = None
    distance_rho: Measure | None = None


class QcFc(_Written):
    """QC-FC of a dataset, or why there is none."""

    why_not: str = ""
    recordings: int = 0
    after: QcFcSide | None = None
    before: QcFcSide | None = None
    change: Measure | None = None


class MadeBy(_Written):
    """The pipelines that made some recordings' derivatives."""

    recordings: int = 0
    names: tuple[str, ...] = ()
    description: str = ""


class DatasetConnectivity(_Written):
    """One dataset in ``metrics/connectivity.json``."""

    recordings: int = 0
    other_parcels: int = 0
    subjects: int = 0
    median_abs_correlation: float | None = None
    median_abs_correlation_uncleaned: float | None = None
    left_out: dict[str, str] = {}
    made_by: dict[str, MadeBy] = {}
    qcfc: QcFc = QcFc()

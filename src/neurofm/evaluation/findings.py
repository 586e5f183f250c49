"""Findings: numbers behind the figures of what the model has learned, for the report.

One ``.npz`` of plain arrays and one JSON text; whoever only reads it starts without torch and scikit-learn.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.files import write_atomic

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """What one model took for what, on held-out data of all folds."""

    dataset: str
    modality: str
    task: str
    model: str
    ours: bool
    unit: str
    """What is counted: ``window``, ``subject``, or ``recording`` where people have several."""
    subjects: int
    classes: tuple[str, ...]
    counts: Floats
    """[truth, predicted]"""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Points in the plane of their first two principal components."""

    dataset: str
    """Empty: of all of them together."""
    modality: str
    recording: str
    """Empty: of several."""
    fold: int
    """Whose model it is: models of two folds do not share their axes."""
    point: str
    """What a point is: ``window``, ``patch`` or ``channel``."""
    explained: Floats
    """[2] share of the variance."""
    xy: Floats
    """[point, 2]"""
    held_out: Floats
    """[point] 1 where it lies in what the fold scores."""
    labels: tuple[str, ...]
    """What is known of the points: ``dataset``, ``subject``, ``task``, ``region``, or a target's name."""
    classes: tuple[tuple[str, ...], ...]
    """[label] names of its classes; none where the label is an angle in degrees."""
    values: Floats
    """[label, point] which class, or the angle; NaN where it is not known."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Tuning to a measured target, and to what was decoded of it from our embeddings, on held-out time."""

    dataset: str
    recording: str
    modality: str
    target: str
    model: str
    is_angle: bool
    unit: str
    """Of the curves."""
    patches: int
    """How many stretches of time were averaged."""
    patch_s: float
    median_error: float
    """Median absolute error of what was decoded: degrees for angles, else in the target's unit."""
    channels: tuple[str, ...]
    centre: Floats
    """[bin] degrees for angles, else in the target's unit."""
    measured: Floats
    """[bin, channel] NaN in bins that hardly occurred."""
    recovered: Floats
    """[bin, channel] by the decoded target."""
    r: Floats
    """[channel] correlation of the two curves; NaN without any tuning."""
    r_shifted: Floats
    """[channel] the same when what was decoded is shifted in time: its mean over shifts, what chance gives."""


@dataclass(frozen=True, kw_only=True)
class Connectome:
    """How well the correlations of hidden channels come back in what was put in their place."""

    dataset: str
    modality: str
    recording: str
    """Which one `measured` and `reconstructed` are of."""
    samples: int
    """Of that recording."""
    measured: Floats
    """[channel, channel] correlations of held-out data."""
    reconstructed: Floats
    """[channel, channel] of our predictions of them, each channel while it was hidden."""
    models: tuple[str, ...]
    """Ours, the baselines, and `TRAINING_MEAN`."""
    subjects: tuple[str, ...]
    r: Floats
    """[model, subject] correlation over edges with what was measured; NaN where there is none."""
    low: Floats
    high: Floats
    """[model] 95 % bootstrap interval of the mean over subjects."""


TRAINING_MEAN = "training mean"
"""The mean connectome of training recordings: what is known of a person before one sees any data."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All of them."""

    confusions: tuple[Confusion, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    tunings: tuple[Tuning, ...] = ()
    connectomes: tuple[Connectome, ...] = ()


NO_FINDINGS = Findings()
_KINDS: dict[str, type[Any]] = {
    "confusions": Confusion,
    "embeddings": Embedding,
    "tunings": Tuning,
    "connectomes": Connectome,
}


def write_findings(findings: Findings, path: Path) -> None:
    """Write as ``.npz``; the same findings give the same bytes."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    described: dict[str, list[dict[str, Any]]] = {}
    for kind in _KINDS:
        described[kind] = []
        for number, item in enumerate(getattr(findings, kind)):
            values = {field.name: getattr(item, field.name) for field in fields(item)}
            for name, value in values.items():
                if isinstance(value, np.ndarray):
                    arrays[f"{kind}.{number}.{name}"] = value.astype(np.float32)
            described[kind].append({key: v for key, v in values.items() if not isinstance(v, np.ndarray)})
    arrays["findings"] = np.array(json.dumps(described, sort_keys=True))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


def read_findings(path: Path) -> Findings:
    """Read what `write_findings` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        described = json.loads(str(arrays["findings"]))
        return Findings(
            **{
                kind: tuple(
                    made(**_tuples(plain), **_arrays(arrays, f"{kind}.{number}."))
                    for number, plain in enumerate(described[kind])
                )
                for kind, made in _KINDS.items()
            }
        )


def is_angle(values: npt.NDArray[np.floating]) -> bool:
    """Say whether a target [time, column] is the cosine and sine of an angle: two columns of length one."""
    if values.shape[1] != 2:
        return False
    length = np.hypot(*values.astype(np.float64).T)
    length = length[np.isfinite(length)]
    return bool(len(length)) and float(np.quantile(np.abs(length - 1), 0.9)) < 1e-3


def plane(features: Floats) -> tuple[Floats, Floats]:
    """Project on the first two principal components.

    Parameters
    ----------
    features
        [point, feature]

    Returns
    -------
    [point, 2], and the share of variance of each. A component's sign is such that its largest weight is positive.
    """
    centred = features - features.mean(axis=0)
    left, sizes, weights = np.linalg.svd(centred, full_matrices=False)
    scores, shares = np.zeros((len(features), 2)), np.zeros(2)
    total = float((sizes**2).sum())
    for axis in range(min(2, len(sizes))):
        sign = 1.0 if weights[axis, np.abs(weights[axis]).argmax()] >= 0 else -1.0
        scores[:, axis] = sign * left[:, axis] * sizes[axis]
        shares[axis] = sizes[axis] ** 2 / total if total > 0 else 0.0
    return scores, shares


def spread(total: int, most: int) -> list[int]:
    """Choose at most `most` of `total` things, evenly."""
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(np.int64)).tolist() if total else []


def classes_of(names: Sequence[str]) -> tuple[tuple[str, ...], Floats]:
    """Turn names into classes, sorted, and their indices; an empty name is not known."""
    classes = tuple(sorted({name for name in names if name}))
    return classes, np.array([classes.index(name) if name else np.nan for name in names], dtype=np.float64)


def _arrays(arrays: Any, prefix: str) -> dict[str, Floats]:
    return {
        name.removeprefix(prefix): arrays[name].astype(np.float64) for name in arrays.files if name.startswith(prefix)
    }


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    def tupled(value: Any) -> Any:
        return tuple(map(tupled, value)) if isinstance(value, list) else value

    return {key: tupled(value) for key, value in plain.items()}

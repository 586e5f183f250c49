"""What is decoded from our shards by plain regressions, and that it is what was decoded from the raw files.

Each test reads native files with a reader, preprocesses them, writes a shard and reads that back; all it decodes is in
the shard. Settings are chosen inside the training folds. Every score stands beside the same with the labels shuffled,
which must be at chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import ManifestRecording, Modality
from neurofm.shards import Provenance, Shard, read_shard, write_shard

Floats = npt.NDArray[np.float64]
FOLDS = 5
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def shard_of(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Shard]:
    """Return a function that turns one of the shared recordings into a shard and reads it back."""
    params = load_params(ROOT)
    folder = tmp_path_factory.mktemp("shards")

    def make(file: str, *, reader: str, modality: Modality, options: Mapping[str, Any]) -> Shard:
        main = shared_data / file
        entry = ManifestRecording(id="rec", subject="test:01", files={"main": main.name})
        source = ReaderInput(dataset="bars", modality=modality, species="any", root=main.parent, entry=entry)
        recording = preprocess_recording(
            read_recording(reader, source, options),
            settings=getattr(params.preprocess, modality.value),
            common=params.preprocess.common,
        )
        path = folder / f"{main.stem}.zarr.zip"
        said = Provenance(archive="local", source_id="", version="", files=(), licence="", citation="", libraries={})
        write_shard(recording, provenance=said, path=path)
        return read_shard(path)

    return make


def trials_of(shard: Shard) -> list[npt.NDArray[np.int64]]:
    """Return the valid samples of each trial."""
    events = shard.recording.events
    assert events is not None
    time_s = shard.time_s + 1e-6
    return [
        np.flatnonzero((time_s >= onset) & (time_s < onset + duration) & shard.valid)
        for onset, duration in zip(events.onset_s, events.duration_s, strict=True)
    ]


def column_of(shard: Shard, name: str) -> Floats:
    assert shard.recording.events is not None
    column = shard.recording.events.columns[name]
    assert not isinstance(column, tuple)
    return np.asarray(column)


def classify(features: Floats, labels: npt.NDArray[Any]) -> float:
    """Balanced accuracy over trials that were not learned from; each fold is a stretch of time."""
    decoded = np.empty_like(labels)
    for learn, test in StratifiedKFold(FOLDS).split(features, labels):
        decoded[test] = logistic(features[learn], labels[learn], features[test])
    return float(balanced_accuracy_score(labels, decoded))


def chance(features: Floats, labels: npt.NDArray[Any]) -> float:
    """Return the same with the labels shuffled, thrice."""
    rng = np.random.default_rng(0)
    return float(np.mean([classify(features, rng.permutation(labels)) for _ in range(3)]))


def regress(features: list[Floats], labels: list[Floats], *, gap: int, shuffled: bool = False) -> float:
    """R2 over stretches of time that were not learned from, `gap` stretches away from what was."""
    fold = np.arange(len(features)) * FOLDS // len(features)
    decoded = []
    for number in range(FOLDS):
        test = np.flatnonzero(fold == number)
        learn = [i for i in range(len(features)) if i < test[0] - gap or i > test[-1] + gap]
        wanted = np.concatenate([labels[i] for i in learn])
        # Turned round against the signal, labels keep their slowness, which is what gives false scores.
        wanted = np.roll(wanted, len(wanted) // 3, axis=0) if shuffled else wanted
        decoded.append(
            ridge(np.concatenate([features[i] for i in learn]), wanted, np.concatenate([features[i] for i in test]))
        )
    return float(r2_score(np.concatenate(labels), np.concatenate(decoded)))


def logistic(learned: Floats, labels: npt.NDArray[Any], features: Floats) -> npt.NDArray[Any]:
    """Decode by logistic regression, its penalty chosen by cross-validation among what is learned from."""
    inner = StratifiedKFold(4, shuffle=True, random_state=1)
    model = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            Cs=np.logspace(-4, 0, 5),
            cv=inner,
            class_weight="balanced",
            scoring="balanced_accuracy",
            l1_ratios=(0,),
            use_legacy_attributes=False,
            max_iter=300,
        ),
    )
    return np.asarray(model.fit(learned, labels).predict(features))


def ridge(learned: Floats, labels: npt.NDArray[Any], features: Floats) -> npt.NDArray[Any]:
    """Decode by ridge regression, its penalty chosen by leave-one-out error on what is learned from."""
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
    return np.asarray(model.fit(learned, labels).predict(features))


STEINMETZ = {
    "signal": {"path": "spks", "axes": "trial unit time"},
    "period_s": 0.01,
    "onset": "time",
    "trials": {"contrast_left": "contrast_left", "contrast_right": "contrast_right", "feedback": "feedback_type"},
    "channels": {"region": "brain_area"},
}


@pytest.mark.parametrize("session", [1, 3, 12])
def test_steinmetz_stimulus_side(shard_of: Callable[..., Shard], session: int) -> None:
    """The bar is 0.65 to 0.80; all units of a session give 0.81 to 0.89."""
    file = f"ephys/steinmetz2019_rds/session{session}.rds"
    shard = shard_of(file, reader="trials", modality=Modality.SPIKES, options=STEINMETZ)
    left, right = column_of(shard, "contrast_left"), column_of(shard, "contrast_right")
    told = left != right
    counts = shard.values().astype(np.float64)
    features = np.sqrt([counts[trial].sum(axis=0) for trial in trials_of(shard)])[told]
    side = (left < right)[told].astype(np.int64)
    assert classify(features, side) >= 0.65
    assert chance(features, side) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(("field", "reached"), [("230803_mrcuts24_fov1", 0.26), ("230809_mrcuts28_fov4", 0.78)])
def test_park_direction(shard_of: Callable[..., Shard], field: str, reached: float) -> None:
    options = {
        "signal": {"path": "D.neuron*", "axes": "unit trial time"},
        "period_s": "TE.dt",
        "units": "a.u.",
        "trials": {"direction": "TE.direction"},
    }
    file = f"calcium/park2024_v1_gratings/{field}_grat-000_data.mat"
    shard = shard_of(file, reader="trials", modality=Modality.CALCIUM, options=options)
    assert shard.recording.events is not None
    traces = shard.values().astype(np.float64)
    # The grating is there from one second on.
    shown = [
        trial[shard.time_s[trial] >= onset + 1]
        for trial, onset in zip(trials_of(shard), shard.recording.events.onset_s, strict=True)
    ]
    features = np.array([traces[trial].mean(axis=0) for trial in shown])
    direction = column_of(shard, "direction").astype(np.int64)
    # Of 128 trials a proportion is known to within this, one-sided at 5 %.
    noise = 1.645 * np.sqrt(reached * (1 - reached) / len(direction))
    assert classify(features, direction) >= reached - noise
    assert chance(features, direction) == pytest.approx(0.125, abs=0.05)


def test_m1_velocity(shard_of: Callable[..., Shard]) -> None:
    options = {
        "signal": {"path": "data.firing_rates", "axes": "trial time unit"},
        "period_s": 0.1,
        "units": "Hz",
        "targets": {"velocity": {"paths": ["data.velocity"], "axes": "trial time column"}},
    }
    file = "ephys/m1_chewie_myow/full-chewie-10032013-0.10.pkl"
    shard = shard_of(file, reader="trials", modality=Modality.SPIKES, options=options)
    rates = np.sqrt(shard.values()[:, shard.usable].astype(np.float64))
    velocity = shard.recording.targets["velocity"].values.astype(np.float64)
    trials = trials_of(shard)
    # Cortex leads the hand: the bin itself and the two before it, never of another trial.
    features = [np.concatenate([_earlier(rates[trial], lag) for lag in range(3)], axis=1) for trial in trials]
    labels = [velocity[trial] for trial in trials]
    assert regress(features, labels, gap=0) >= 0.6
    assert regress(features, labels, gap=0, shuffled=True) <= 0.05


def _earlier(values: Floats, lag: int) -> Floats:
    return np.concatenate([np.repeat(values[:1], lag, axis=0), values[: len(values) - lag]])


def test_a2929_head_direction(shard_of: Callable[..., Shard]) -> None:
    angle = {"paths": ["acquisition/CompassDirection/ry"], "kind": "angle", "unit": "radian"}
    file = "ephys/neurosuite_A2929-200711/A2929-200711.nwb"
    shard = shard_of(file, reader="nwb", modality=Modality.SPIKES, options={"targets": {"head_direction": angle}})
    direction = shard.recording.targets["head_direction"].values.astype(np.float64)
    smoothed = gaussian_filter1d(shard.values().astype(np.float64), 0.2 * shard.sampling_rate_hz, axis=0)
    known = np.flatnonzero(np.isfinite(direction).all(axis=1))[::5]
    blocks = np.array_split(known, len(known) // 10)  # of one second
    features, labels = [np.sqrt(smoothed[block]) for block in blocks], [direction[block] for block in blocks]
    assert regress(features, labels, gap=2) >= 0.85
    assert regress(features, labels, gap=2, shuffled=True) <= 0.05

"""Poison: every sample that is scored is overwritten on disk, and nothing that is fitted changes by a bit.

On real recordings: six people of ds000228, split by subject, and a monkey's reaches, split in time.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.pipeline import Pipeline

from neurofm.evaluation.baselines import baselines_for
from neurofm.evaluation.channel_set import channel_sets
from neurofm.evaluation.decoding import decode
from neurofm.evaluation.readout import fit_readout
from neurofm.evaluation.samples import masks
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.traits import MODELS
from neurofm.recording import Channels, Clock, Modality, Recording, Signal, Target
from neurofm.shards import Provenance, write, write_shard
from neurofm.shards.quantise import Quantised, quantise
from neurofm.splits import Candidate, FoldRecording, Splits, SplitSettings, make_splits
from neurofm.training.fold import pretrain
from neurofm.training.predict import Predictor
from neurofm.training.settings import PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings, load_views
from tests.evaluation.conftest import SETTINGS
from tests.training.conftest import small_settings

Artefacts = dict[str, bytes]
Values = npt.NDArray[np.float64]
WINDOW, PEOPLE, PARCELS, UNITS = 20, 6, 8, 8
WINDOWS = WindowsSettings.parse(
    {str(modality): {"window_samples": WINDOW, "patch_samples": 5} for modality in Modality}, where="", mend=""
)
GRIDS = {
    "smoothing_samples": [0.0, 1.0],
    "ridge_penalties": [0.01, 0.1],
    "shrinkages": [0.01, 0.1],
    "ppca_ranks": [1, 2],
    "prior_samples": [0.0, 100.0],
    "glm_penalties": [0.01],
}
PROVENANCE = Provenance(
    archive="local", source_id="x", version="1", files=(), licence="PDDL", citation="x", libraries={}
)


def _monkey(shared_data: Path) -> tuple[Values, Values]:
    """Spikes per 100 ms of the busiest units, and the hand's velocity."""
    with (shared_data / "ephys" / "m1_chewie_myow" / "full-chewie-10032013-0.10.pkl").open("rb") as file:
        data = pickle.load(file)["data"]  # ours, of a known digest
    counts = np.round(np.concatenate(data["firing_rates"]) * 0.1)
    return counts[:, np.argsort(-counts.sum(axis=0))[:UNITS]], np.concatenate(data["velocity"])


def _recordings(shared_data: Path) -> dict[str, Recording]:
    counts, velocity = _monkey(shared_data)
    times = np.arange(len(counts)) / 10.0
    target = Target(values=velocity.astype(np.float32), unit="cm/s", columns=("x", "y"), time_s=times)
    made = {
        "reach/chewie": _recording("chewie", Modality.SPIKES, counts.astype(np.uint8), targets={"velocity": target})
    }
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))[:PEOPLE]
    for number, file in enumerate(files):
        name = file.name.partition("_")[0]
        values = np.load(file).astype(np.float64)[:, :PARCELS]
        made[f"film/{name}"] = _recording(name, Modality.FMRI, values, scalars={"age": 4 + number})
    return made


def _recording(name: str, modality: Modality, values: npt.NDArray[Any], **known: Any) -> Recording:
    channels, spikes = values.shape[1], modality is Modality.SPIKES
    return Recording(
        dataset="reach" if spikes else "film",
        subject=f"lab:{name}",
        session="",
        run="",
        task="",
        species="x",
        modality=modality,
        channels=Channels(
            id=tuple(f"c{index}" for index in range(channels)),
            position=np.full((channels, 3), np.nan),
            position_unit="",
            space="atlas",
        ),
        clock=Clock(id=name),
        signal=Signal(values=values, sampling_rate_hz=10.0 if spikes else 0.5, units="count" if spikes else "SD"),
        **known,
    )


def _splits(recordings: Mapping[str, Recording]) -> Splits:
    candidates = [
        Candidate(
            dataset=recording.dataset,
            recording=name.partition("/")[2],
            subject=recording.subject,
            modality=recording.modality,
            samples=len(recording.signal.values) if recording.signal else 0,
            sampling_rate_hz=recording.signal.sampling_rate_hz if recording.signal else 0.0,
            support_s=0.0,
        )
        for name, recording in recordings.items()
    ]
    return make_splits(
        candidates, settings=SplitSettings(seed=1, folds=3), window_samples=dict.fromkeys(Modality, WINDOW)
    )


def _scored(entry: FoldRecording, samples: int) -> npt.NDArray[np.bool_]:
    scored = np.zeros(samples, dtype=bool)
    for segment in entry.test:
        scored[segment.start : segment.stop] = True
    return scored


def _poisoned(recording: Recording, entry: FoldRecording) -> Recording:
    """Its labels are wrong too where it is scored; its counts are as high as a shard holds."""
    assert recording.signal is not None
    scored = _scored(entry, len(recording.signal.values))
    values = recording.signal.values.copy()
    if recording.modality is Modality.SPIKES:
        values[scored] = 255
    targets = {
        name: replace(target, values=np.where(scored[:, None], np.float32(1e6), target.values))
        for name, target in recording.targets.items()
    }
    scalars = {"age": 1e6} if recording.scalars and entry.test else recording.scalars
    return replace(recording, signal=replace(recording.signal, values=values), targets=targets, scalars=scalars)


def _write(recordings: Mapping[str, Recording], folder: Path) -> Path:
    for name, recording in recordings.items():
        write_shard(recording, provenance=PROVENANCE, path=folder / f"{name}.zarr.zip")
    return folder


def _write_poisoned(
    recordings: Mapping[str, Recording], splits: Splits, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Write the same shards with garbage where the first fold scores: the integers themselves, at their old scale."""
    roles = {entry.name: entry for entry in splits.folds[0].recordings}
    for name, recording in recordings.items():

        def overwritten(values: npt.NDArray[np.floating], entry: FoldRecording = roles[name]) -> Quantised:
            made = quantise(values)
            stored = made.stored.copy()
            stored[_scored(entry, len(stored))] = np.where(np.arange(stored.shape[1]) % 2, -32767, 32767)
            return replace(made, stored=stored)

        with monkeypatch.context() as patched:
            patched.setattr(write, "quantise", overwritten)
            _write({name: _poisoned(recording, roles[name])}, folder)
    return folder


def _bytes(value: Any) -> bytes:
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()


def _artefacts(splits: Splits, shards: Path, *, out: Path, ages: Mapping[str, float]) -> Artefacts:
    """Everything that the first fold fits, as bytes."""
    settings = EvaluateSettings.parse({**SETTINGS, **GRIDS}, where="", mend="")
    views = load_views(splits, fold=0, shards=shards)
    found: Artefacts = {}
    for one in views:
        for part in ("mean", "sd", "usable"):
            found[f"normaliser {one.name} {part}"] = _bytes(getattr(one.normaliser, part))
    # With the model's files come the cores that were chosen, the moments and the lagged products that they rest on.
    pretrain(views, settings=_training(), windows=WINDOWS, fold=0, run_dir=out / "run", out_dir=out / "model")
    found |= {f"model {path.name}": path.read_bytes() for path in sorted((out / "model").iterdir())}
    predictor = Predictor.load(out / "model")
    for one in views:
        found[f"context {one.name}"] = _bytes(predictor.prepare(one).identity)
    for own in channel_sets(views):
        found |= _of_baselines(own, settings)
    found |= _of_readouts(views, ages)
    found |= _of_decoding(next(one for one in views if one.dataset == "reach"), predictor, settings)
    return found


def _training() -> PretrainSettings:
    return small_settings().model_copy(update={"steps": 6, "validate_every_steps": 3})


def _of_baselines(views: list[RecordingView], settings: EvaluateSettings) -> Artefacts:
    """What baselines predict from fixed values: only what they were fitted on can make it differ."""
    found: Artefacts = {}
    scored = next(one for one in views if one.roles.test)
    for estimator in baselines_for(scored.modality, recordings=len(views), settings=settings, window_samples=WINDOW):
        estimator.fit(views)
        visible, hidden = masks(scored, settings)[0]
        seen = np.random.default_rng(9).normal(size=(2, WINDOW, len(visible))).astype(np.float32)
        found[f"{estimator.name} {scored.dataset}"] = estimator.predict(scored, seen, visible, hidden).tobytes()
    return found


def _of_readouts(views: list[RecordingView], ages: Mapping[str, float]) -> Artefacts:
    """Features of training subjects and the read-out of their age."""
    people = [one for one in views if one.dataset == "film"]
    train = sorted({one.subject for one in people if not one.roles.test})
    found: Artefacts = {}
    for name, fit in MODELS[Modality.FMRI].items():
        learned = [one for one in people if one.subject in train]
        features = fit(learned)(learned)
        values = np.array([ages[one.name] for one in learned])
        read_out = fit_readout(features, values, subjects=[one.subject for one in learned], groups=0)
        found |= {f"{name} {part}": _bytes(getattr(read_out, part)) for part in ("mean", "scale", "weights", "penalty")}
        found[f"{name} features"] = features.tobytes()
    return found


def _of_decoding(one: RecordingView, predictor: Predictor, settings: EvaluateSettings) -> Artefacts:
    """Weights of every read-out that decoding fits on the way."""
    weights: list[bytes] = []
    fit: Callable[..., Pipeline] = Pipeline.fit

    def noted(self: Pipeline, *given: Any, **named: Any) -> Pipeline:
        fitted = fit(self, *given, **named)
        weights.append(fitted[-1].coef_.tobytes())
        return fitted

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Pipeline, "fit", noted)
        decode(one, "velocity", encode=predictor.encode, settings=settings, window_samples=WINDOW, patch_samples=5)
    assert weights
    return {f"decoding {number}": weight for number, weight in enumerate(weights)}


@pytest.fixture(scope="module")
def recordings(shared_data: Path) -> dict[str, Recording]:
    return _recordings(shared_data)


@pytest.fixture(scope="module")
def splits(recordings: Mapping[str, Recording]) -> Splits:
    return _splits(recordings)


@pytest.fixture(scope="module")
def shards(
    recordings: Mapping[str, Recording], splits: Splits, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The shards, and the poisoned ones."""
    folder = tmp_path_factory.mktemp("poison")
    with pytest.MonkeyPatch.context() as patched:
        poisoned = _write_poisoned(recordings, splits, folder / "poisoned", patched)
    return _write(recordings, folder / "clean"), poisoned


def _ages(recordings: Mapping[str, Recording]) -> dict[str, float]:
    return {name: float(str(one.scalars["age"])) for name, one in recordings.items() if one.scalars}


def test_poison_reaches_every_scored_sample_and_no_other(splits: Splits, shards: tuple[Path, Path]) -> None:
    clean, poisoned = (load_views(splits, fold=0, shards=folder) for folder in shards)
    assert {one.roles.kind for one in clean if one.roles.test} == {"subject", "time"}
    for one, other in zip(clean, poisoned, strict=True):
        scored = _scored(one.roles, len(one.stored))
        changed = (one.stored[:] != other.stored[:]).any(axis=1)
        assert (changed == scored).all()


def test_nothing_that_is_fitted_changes_by_a_bit(
    recordings: Mapping[str, Recording], splits: Splits, shards: tuple[Path, Path], tmp_path: Path
) -> None:
    clean, poisoned = shards
    roles = {entry.name: entry for entry in splits.folds[0].recordings}
    ages = _ages(recordings)
    told = _ages({name: _poisoned(one, roles[name]) for name, one in recordings.items()})
    assert ages != told
    before = _artefacts(splits, clean, out=tmp_path / "clean", ages=ages)
    after = _artefacts(splits, poisoned, out=tmp_path / "poisoned", ages=told)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert len(before) > 30


def test_a_normaliser_that_sees_what_is_scored_is_noticed(splits: Splits, shards: tuple[Path, Path]) -> None:
    """The comparison is not blind: fitted on what is scored too, the normalisers of the two differ there."""
    seeing = tuple(
        one.model_copy(update={"calibration": one.calibration + one.test}) for one in splits.folds[0].recordings
    )
    leaking = splits.model_copy(update={"folds": (splits.folds[0].model_copy(update={"recordings": seeing}),)})
    clean, poisoned = (
        [one.normaliser.sd.tobytes() for one in load_views(leaking, fold=0, shards=folder)] for folder in shards
    )
    assert [one != other for one, other in zip(clean, poisoned, strict=True)] == [bool(one.test) for one in seeing]

"""What holds for every modality, on every recording of the sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurofm.catalog import read_yaml
from neurofm.preprocess import Common, modality_module, preprocess_recording, settings_class
from neurofm.recording import Modality, Recording

PARAMS = Path(__file__).parents[2] / "params.yaml"
DATASETS = [
    ("a2929-hd", 50.0),
    ("a0662-2p", 10.0),
    ("cnmfe-miniscope", 10.0),
    ("hcp-rest", 1 / 0.72),
    ("ds205-bold", 1 / 2.2),
    ("mne-sample-eeg", 100.0),
    ("mne-sample-meg", 100.0),
    ("tiny-bids-eeg", 100.0),
]


def _run(recording: Recording) -> Recording:
    section: dict[str, Any] = read_yaml(PARAMS)["preprocess"]
    name = recording.modality.value
    settings = settings_class(recording.modality).parse(section[name], where="params.yaml", mend="-")
    common = Common.parse(section["common"], where="params.yaml", mend="-")
    return preprocess_recording(recording, settings=settings, common=common)


@pytest.mark.parametrize("modality", list(Modality))
def test_every_modality_keeps_the_contract(modality: Modality) -> None:
    module = modality_module(modality)
    assert module.VERSION
    assert module.LIBRARIES
    assert settings_class(modality).model_config["extra"] == "forbid"


@pytest.mark.parametrize(("dataset", "rate_hz"), DATASETS)
def test_result_has_what_a_shard_needs(
    sample_recording: Callable[..., Recording], dataset: str, rate_hz: float
) -> None:
    native = sample_recording(dataset)
    done = _run(native)
    signal, valid, usable = done.signal, done.valid, done.channels.quality["usable"]
    assert signal is not None
    assert valid is not None
    assert signal.sampling_rate_hz == pytest.approx(rate_hz, rel=1e-5)
    assert signal.values.dtype == (np.uint8 if done.modality is Modality.SPIKES else np.float32)
    assert np.isfinite(signal.values).all()
    assert set(np.unique(usable)) <= {0.0, 1.0}
    assert not signal.values[:, usable == 0].any()
    assert all(np.ptp(column) > 0 for column in signal.values[:, usable == 1].T)
    for target in done.targets.values():
        np.testing.assert_array_equal(target.time_s, signal.time_s)
    assert done.extra_signals == {}
    assert done.sample_time_s is None
    assert done.events is native.events
    assert len(done.steps) >= 2


@pytest.mark.parametrize(("dataset", "rate_hz"), DATASETS)
def test_same_input_gives_the_same_bytes(
    sample_recording: Callable[..., Recording], dataset: str, rate_hz: float
) -> None:
    native = sample_recording(dataset)
    before = None if native.signal is None else native.signal.values.copy()
    first, second = _run(native).signal, _run(native).signal
    assert first is not None
    assert second is not None
    assert first.values.tobytes() == second.values.tobytes()
    if native.signal is not None:
        np.testing.assert_array_equal(before, native.signal.values)


def test_duration_is_kept(sample_recording: Callable[..., Recording]) -> None:
    for dataset, native_s in [("cnmfe-miniscope", 35743 / 30), ("mne-sample-eeg", 14400 / 600.614990234375)]:
        assert _run(sample_recording(dataset)).quality["duration_s"] == pytest.approx(native_s, abs=0.1)


def test_recording_of_one_second_is_kept_and_marked(sample_recording: Callable[..., Recording]) -> None:
    done = _run(sample_recording("tiny-bids-eeg"))
    assert done.quality["shorter_than_filter"] is True
    assert done.quality["n_usable"] == 63

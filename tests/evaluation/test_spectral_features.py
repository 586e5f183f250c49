"""Rest and mental arithmetic of EEGMAT are told apart in people never seen, by where and how strong rhythms are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy.signal import resample_poly

from neurofm.evaluation.attributes import Attributes, labelled
from neurofm.evaluation.spectral_features import band_power, filter_bank_tangent
from neurofm.evaluation.traits import MODELS, make_table, read_out
from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.eeg.eegmat import TASKS, eegmat_subjects
from tests.evaluation.conftest import Roles, poison, view_of

EEG = MODELS[Modality.EEG]
RATE_HZ = 100
SECONDS = 20
CHANNELS = 19


@pytest.fixture(scope="module")
def recordings(shared_data: Path) -> tuple[list[RecordingView], dict[str, Attributes]]:
    views: list[RecordingView] = []
    known: dict[str, Attributes] = {}
    for number, subject in enumerate(eegmat_subjects(shared_data)[:12]):
        for part, task in TASKS.items():
            raw = mne.io.read_raw_edf(shared_data / "eeg" / "eegmat" / f"Subject{subject}_{part}.edf", verbose="error")
            microvolts = raw.get_data(picks=np.arange(CHANNELS), stop=SECONDS * 500) * 1e6
            held = number % 3 == 0
            span = [(0, SECONDS * RATE_HZ)]
            segments: Roles = {"test" if held else "train": span}
            view = view_of(
                resample_poly(microvolts, 1, 5, axis=1).T / 10,  # kept as integers of thousandths
                modality=Modality.EEG,
                name=f"{subject}-{task}",
                channel_set="eegmat",
                kind="subject",
                calibration=span,
                **segments,
            )
            views.append(replace(view, sampling_rate_hz=float(RATE_HZ), subject=f"eegmat:{subject}"))
            known[view.name] = {"task": task}
    return views, known


def _train(views: list[RecordingView]) -> list[str]:
    return sorted({view.subject for view in views if view.roles.train})


@pytest.mark.parametrize("model", ["filter_bank_tangent", "neurofm-tangent"])
def test_states_of_unseen_people(recordings: tuple[list[RecordingView], dict[str, Attributes]], model: str) -> None:
    views, known = recordings
    found = labelled(views, known, trait="task")
    assert len(found.units) == len(views)
    made = read_out(make_table(model, EEG[model], found, train=_train(views)))
    assert len(set(made.subject)) * 2 == len(made.subject)
    right = made.predicted[0, made.truth == 0, 0] > made.predicted[0, made.truth == 1, 0]
    assert right.mean() >= 0.75  # arithmetic is likelier than rest, within a person


@pytest.mark.parametrize("model", sorted(EEG))
def test_nothing_comes_from_those_who_are_held_out(
    recordings: tuple[list[RecordingView], dict[str, Attributes]], model: str
) -> None:
    views, known = recordings[0][:12], recordings[1]
    found, changed = (
        labelled(views, known, trait="task"),
        labelled([poison(view) for view in views], known, trait="task"),
    )
    first, second = (make_table(model, EEG[model], own, train=_train(views)) for own in (found, changed))
    assert first.train_features.tobytes() == second.train_features.tobytes()
    assert first.test_features.tobytes() != second.test_features.tobytes()


def test_power_lies_in_the_band_of_a_rhythm(recordings: tuple[list[RecordingView], dict[str, Attributes]]) -> None:
    views, _ = recordings
    features = band_power(views)
    wave = 3000 * np.sin(2 * np.pi * 10 * np.arange(SECONDS * RATE_HZ) / RATE_HZ)
    louder = replace(views[0], stored=(views[0].stored[:] + wave[:, None]).astype(np.int16))
    change = (features([louder]) - features([views[0]])).reshape(5, CHANNELS).mean(axis=1)
    assert change.argmax() == 2  # alpha
    assert change[2] > change[[0, 1, 3, 4]].max() + 1


def test_a_band_that_ends_at_half_the_sampling_rate_is_left_out(
    recordings: tuple[list[RecordingView], dict[str, Attributes]],
) -> None:
    views = [replace(view, sampling_rate_hz=80.0) for view in recordings[0][:2]]
    features = filter_bank_tangent(views)(views)
    assert features.shape == (2, 4 * CHANNELS * (CHANNELS + 1) // 2)
    assert np.isfinite(features).all()

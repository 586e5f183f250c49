from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.eeg import State
from neurofm.eeg.bad_channels import BadChannelSettings, step
from neurofm.recording import Unreadable
from tests.eeg.real import eegbci, eegmat, rms, uv, with_values

SETTINGS = BadChannelSettings(
    flat_uv=0.5,
    max_flat_fraction=0.25,
    max_clipped_fraction=0.01,
    deviation_z=5.0,
    high_frequency_z=5.0,
    min_correlation=0.4,
    max_uncorrelated_fraction=0.05,
    seed=0,
)
CLEAN = "03_1"
"""A recording of EEGMAT in which no channel is bad."""


@pytest.fixture(scope="module")
def clean(shared_data: Path) -> State:
    return eegmat(shared_data, CLEAN)


def reasons(state: State) -> dict[str, str]:
    found = step(state, settings=SETTINGS)
    names, why = (str(found.quality[key]) for key in ("bad_channels", "bad_channel_reasons"))
    assert found.bad == set(found.raw.info["bads"])
    return dict(zip(names.split(", "), why.split(", "), strict=True)) if names else {}


def test_clean_channels_are_not_found(clean: State) -> None:
    found = step(clean, settings=SETTINGS)
    assert found.bad == frozenset()
    assert found.quality == {"bad_channels": "", "bad_channel_reasons": "", "bad_channel_fraction": 0.0}


def spoiled(state: State, kind: str, name: str) -> State:
    values = uv(state)
    row = state.raw.ch_names.index(name)
    noise = np.random.default_rng(0).standard_normal(values.shape[1])
    if kind == "flat":  # Its electrode came off after 28 of 40 s.
        values[row, 14000:] = values[row, 14000]
    elif kind == "saturated":  # The amplifier's range is a bit larger than the signal.
        limit = 1.5 * values[row].std()
        values[row] = np.clip(values[row], -limit, limit)
    elif kind == "not-finite":
        values[row, 700] = np.nan
    elif kind == "deviation":
        values[row] *= 4.0
    elif kind == "uncorrelated":  # Another head's signal at the right amplitude.
        values[row] = np.roll(values[row], 9000)[::-1]
    elif kind == "high-frequency":
        values[row] += 2 * rms(values[row]) * noise
    return with_values(state, values)


@pytest.mark.parametrize("name", ["F3", "Pz"])
@pytest.mark.parametrize("kind", ["flat", "saturated", "not-finite", "deviation", "uncorrelated", "high-frequency"])
def test_a_spoiled_channel_is_found_and_no_other(clean: State, kind: str, name: str) -> None:
    found = reasons(spoiled(clean, kind, name))
    assert set(found) == {name}
    if kind in {"flat", "saturated", "not-finite"}:
        assert found[name] == kind


def test_the_channel_that_was_bad_at_recording_is_found(shared_data: Path) -> None:
    # C4 of this subject has more than twice the amplitude of any other channel in both runs.
    for run in (1, 2):
        assert reasons(eegbci(shared_data, run))["C4"] == "deviation"


def test_the_reference_electrode_is_not_bad(clean: State) -> None:
    values = uv(clean)
    values[clean.raw.ch_names.index("Cz")] = 0.0
    silent = replace(with_values(clean, values), silent=frozenset({"Cz"}))
    found = step(silent, settings=SETTINGS)
    assert found.bad == frozenset()
    assert found.silent == {"Cz"}
    assert reasons(with_values(clean, values)) == {"Cz": "flat"}


def test_marked_channels_stay_bad_and_are_counted(clean: State) -> None:
    raw = clean.raw.copy()
    raw.info["bads"] = ["T3"]
    found = step(State(raw=raw, bad=frozenset({"T3"})), settings=SETTINGS)
    assert found.quality["bad_channels"] == "T3"
    assert found.quality["bad_channel_reasons"] == "marked"
    assert found.quality["bad_channel_fraction"] == pytest.approx(1 / 19)
    assert clean.raw.info["bads"] == []


def test_masked_samples_speak_against_no_channel(clean: State) -> None:
    values = uv(clean)
    masked = np.zeros(values.shape[1], dtype=np.bool_)
    masked[:9000] = True
    values[:, masked] = 0.0
    assert len(reasons_or_all_bad(with_values(clean, values))) == 19
    rest = State(raw=clean.raw.copy().crop(tmin=9000 / 500))
    assert reasons(replace(with_values(clean, values), masked=masked)) == reasons(rest)


def reasons_or_all_bad(state: State) -> list[str]:
    try:
        return list(reasons(state))
    except Unreadable:
        return list(state.raw.ch_names)


def test_all_bad_is_a_reason(clean: State) -> None:
    with pytest.raises(Unreadable, match=r"all 19 channels are bad \(Fp1 flat"):
        step(with_values(clean, uv(clean) * 1e-6), settings=SETTINGS)

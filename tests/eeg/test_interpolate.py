from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.eeg import State
from neurofm.eeg.interpolate import InterpolateSettings, step
from tests.eeg.real import eegbci, rms, uv, with_values

SETTINGS = InterpolateSettings(min_good_channels=8)


@pytest.fixture(scope="module")
def clean(shared_data: Path) -> State:
    """Eyes closed, high-passed; its own bad channels left out."""
    raw = eegbci(shared_data, 2).raw.drop_channels(["C4", "CP6", "T8", "PO7", "O1"])
    return State(raw=raw.filter(1.0, None, verbose="error"))


def without(state: State, *names: str) -> State:
    """Return the state with noise of a millivolt in place of these channels."""
    values = uv(state)
    for name in names:
        values[state.raw.ch_names.index(name)] = 1e3 * np.random.default_rng(1).standard_normal(values.shape[1])
    bad = with_values(state, values)
    bad.raw.info["bads"] = list(names)
    return replace(bad, bad=frozenset(names))


@pytest.mark.parametrize("name", ["FC3", "Cz", "Pz", "P4", "F2", "CP1", "Fpz"])
def test_a_channel_comes_back_nearer_than_its_own_sd(clean: State, name: str) -> None:
    filled = step(without(clean, name), settings=SETTINGS)
    row = clean.raw.ch_names.index(name)
    true, found = uv(clean)[row], uv(filled)[row]
    assert rms(found - true) < 0.5 * true.std()
    assert filled.raw.info["bads"] == []
    assert filled.bad == {name}
    assert filled.quality == {"interpolated_channels": name, "interpolated_fraction": pytest.approx(1 / 59)}
    others = np.arange(59) != row
    np.testing.assert_allclose(uv(filled)[others], uv(clean)[others], rtol=1e-12)


def test_a_channel_without_position_stays_bad(clean: State) -> None:
    bad = without(clean, "FC3", "Pz")
    for name in ("FC3", "O2"):  # O2 is good; it must not make the others NaN.
        bad.raw.info["chs"][clean.raw.ch_names.index(name)]["loc"][:3] = np.nan
    filled = step(bad, settings=SETTINGS)
    assert filled.raw.info["bads"] == ["FC3"]
    assert filled.bad == {"FC3", "Pz"}
    row = clean.raw.ch_names.index("Pz")
    assert rms(uv(filled)[row] - uv(clean)[row]) < 0.5 * uv(clean)[row].std()


def test_too_few_good_channels_fill_nothing(clean: State) -> None:
    few = State(raw=clean.raw.copy().pick(["Cz", "Pz", "Fz", "C3", "CP1", "Oz", "F3", "F4"]))
    filled = step(without(few, "Pz"), settings=SETTINGS)
    assert filled.raw.info["bads"] == ["Pz"]
    assert filled.quality["interpolated_channels"] == ""

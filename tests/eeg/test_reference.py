from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.eeg import State
from neurofm.eeg.reference import ReferenceKind, ReferenceSettings, step
from neurofm.recording import Unreadable
from tests.eeg.real import eegmat, uv, with_values

AVERAGE = ReferenceSettings(kind=ReferenceKind.AVERAGE)


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> State:
    """Potentials against Cz, as the HydroCel net has them."""
    state = eegmat(shared_data, "00_1")
    values = uv(state)
    against_cz = with_values(state, values - values[state.raw.ch_names.index("Cz")])
    return replace(against_cz, silent=frozenset({"Cz"}))


def test_the_silent_electrode_joins_the_average(recorded: State) -> None:
    referred = step(recorded, settings=AVERAGE)
    assert referred.silent == frozenset()
    np.testing.assert_allclose(uv(referred).mean(axis=0), 0.0, atol=1e-9)
    # What was against Cz is against the mean of all: nothing about Cz is lost.
    np.testing.assert_allclose(uv(referred), uv(recorded) - uv(recorded).mean(axis=0), atol=1e-9)
    assert uv(referred)[recorded.raw.ch_names.index("Cz")].std() > 1.0


def test_a_bad_channel_stays_out_of_the_average(recorded: State) -> None:
    values = uv(recorded)
    row = recorded.raw.ch_names.index("T5")
    values[row] = 1e4
    spoiled = with_values(recorded, values)
    spoiled.raw.info["bads"] = ["T5"]
    good = np.arange(19) != row
    referred = uv(step(spoiled, settings=AVERAGE))
    np.testing.assert_allclose(referred[good], values[good] - values[good].mean(axis=0), atol=1e-9)


def test_none_leaves_the_signal(recorded: State) -> None:
    left = step(recorded, settings=ReferenceSettings(kind=ReferenceKind.NONE))
    np.testing.assert_array_equal(uv(left), uv(recorded))
    assert left.silent == {"Cz"}
    assert left.steps[-1].params == {"kind": "none"}


def test_one_good_channel_has_no_average(recorded: State) -> None:
    raw = recorded.raw.copy().pick(["Fp1", "Fp2"])
    raw.info["bads"] = ["Fp2"]
    with pytest.raises(Unreadable, match="1 of 2 channels are good"):
        step(State(raw=raw), settings=AVERAGE)

"""What is measured of units, and which are set aside: on the real session A2929, and with faults put into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError
from scipy.stats import spearmanr

from neurofm.catalog import read_yaml
from neurofm.preprocess import Common
from neurofm.preprocess._units import UnitFlags, UnitLimit, measure_units
from neurofm.preprocess.spikes import ModalitySettings, preprocess
from neurofm.recording import Recording, Spikes, Unreadable

PARAMS = read_yaml(Path(__file__).parents[2] / "params.yaml")["preprocess"]["spikes"]
DEFAULTS = ModalitySettings.parse(PARAMS, where="params.yaml", mend="-")


@pytest.fixture(scope="module")
def native(sample_recording: Callable[..., Recording]) -> Recording:
    return sample_recording("a2929-hd")


@pytest.fixture(scope="module")
def spikes(native: Recording) -> Spikes:
    assert native.spikes is not None
    return native.spikes


@pytest.fixture(scope="module")
def measured(spikes: Spikes) -> dict[str, npt.NDArray[np.float64]]:
    return measure_units(spikes, n_units=15, isi_violation_ms=1.5, presence_block_s=60.0)


def _with(recording: Recording, **columns: npt.NDArray[np.float64]) -> Recording:
    return replace(recording, channels=replace(recording.channels, quality=columns))


def test_every_measure_equals_that_of_one_unit_after_the_other(
    spikes: Spikes, measured: dict[str, npt.NDArray[np.float64]]
) -> None:
    for unit in range(15):
        train = spikes.time_s[spikes.channel == unit]
        ticks = np.rint(train * 1e6).astype(np.int64)  # the file has whole microseconds
        near = np.subtract.outer(ticks, ticks[:1])[:, 0]
        assert measured["rate_hz"][unit] == len(train) / 1200
        assert measured["isi_violation_fraction"][unit] == pytest.approx((np.diff(ticks) < 1500).mean())
        pairs = sum(int((near[lag:] - near[:-lag] < 1500).sum()) for lag in range(1, 12))
        left = 1 - pairs * 1200 / (len(train) ** 2 * 0.0015)
        assert measured["contamination"][unit] == pytest.approx(1 - np.sqrt(max(left, 0)))
        blocks = np.histogram(train, bins=20, range=(0, 1200))[0]
        assert measured["presence_fraction"][unit] == (blocks > 0).mean()
        assert measured["drift"][unit] == pytest.approx(spearmanr(blocks, np.arange(20)).statistic)


def test_two_neurons_in_one_unit_are_seen(spikes: Spikes, measured: dict[str, npt.NDArray[np.float64]]) -> None:
    # Units 2 and 5 are clean. Half of unit 5's spikes, a quarter of an hour away in time, are given to unit 2.
    taken = np.flatnonzero(spikes.channel == 5)[::2]
    time_s = spikes.time_s.copy()
    time_s[taken] = (time_s[taken] + 900) % 1200
    channel = spikes.channel.copy()
    channel[taken] = 2
    order = np.argsort(time_s, kind="stable")
    mixed = replace(spikes, time_s=time_s[order], channel=channel[order])
    found = measure_units(mixed, n_units=15, isi_violation_ms=1.5, presence_block_s=60.0)["contamination"][2]
    assert measured["contamination"][[2, 5]].max() < 0.02
    share = len(taken) / (channel == 2).sum()
    # One stranger keeps its own refractory period: only pairs of the two violate, 2 f (1 - f) of all.
    assert found == pytest.approx(1 - np.sqrt(1 - 2 * share * (1 - share)), abs=0.05)


def test_the_settings_of_the_project_keep_every_unit_of_the_sample(native: Recording, common: Common) -> None:
    done = preprocess(native, settings=DEFAULTS, common=common)
    quality = done.quality
    assert (quality["n_usable"], quality["units_excluded"], quality["unit_exclusions"]) == (15, 0, "")
    assert quality["unit_limits_not_measured"] == ("presence_ratio, isi_violations, amplitude_cutoff, label, good")
    assert (quality["units_drifting"], quality["units_absent"], quality["units_silent"]) == (1, 0, 0)
    assert quality["rate_hz_median"] == pytest.approx(3.918, abs=1e-3)
    assert (quality["targets_present"], quality["behaviour"]) == ("head_direction, position", True)
    assert "excluded_reason" not in quality


def test_units_beyond_the_archives_limits_are_set_aside_and_listed(native: Recording, common: Common) -> None:
    violations, cutoff = np.zeros(15), np.zeros(15)
    violations[[1, 4]] = 0.8, 3.0
    cutoff[[4, 7, 9]] = 0.2, 0.5, np.nan
    allen = _with(native, isi_violations=violations, amplitude_cutoff=cutoff)
    done = preprocess(allen, settings=DEFAULTS, common=common)
    assert done.signal is not None
    assert np.flatnonzero(done.channels.quality["excluded"]).tolist() == [1, 4, 7]
    assert np.flatnonzero(done.channels.quality["usable"] == 0).tolist() == [1, 4, 7]
    assert not done.signal.values[:, [1, 4, 7]].any()
    assert done.quality["unit_exclusions"] == (
        "2 by isi_violations more than 0.5 (0.8 to 3); 2 by amplitude_cutoff more than 0.1 (0.2 to 0.5)"
    )
    # Exact times stay, so that other limits need no reading of the archive again.
    assert done.spikes is not None
    assert np.isin([1, 4, 7], done.spikes.channel).all()


@pytest.mark.parametrize("known_by", ["label", "noise_cutoff", "slidingRP_viol"])
def test_ibl_is_judged_by_its_label_and_not_by_allens_limits(native: Recording, common: Common, known_by: str) -> None:
    presence = np.full(15, 0.6)
    columns = {known_by: np.ones(15), "presence_ratio": presence}
    if known_by == "label":
        columns["label"][[4, 7, 9]] = 2 / 3, 1 / 3, np.nan
    done = preprocess(_with(native, **columns), settings=DEFAULTS, common=common)
    label = known_by == "label"
    assert np.flatnonzero(done.channels.quality["excluded"]).tolist() == ([4, 7] if label else [])
    assert done.quality["unit_exclusions"] == ("2 by label less than 1 (0.3333 to 0.6667)" if label else "")
    assert str(done.quality["unit_limits_not_measured"]).startswith("presence_ratio (IBL's is another measure), isi_")
    # The same column of any other archive is held to the limit.
    other = preprocess(_with(native, presence_ratio=presence), settings=DEFAULTS, common=common)
    assert other.quality["units_excluded"] == 15


def test_the_archives_column_goes_before_our_own(native: Recording, common: Common) -> None:
    presence = np.ones(15)
    presence[3] = 0.5
    done = preprocess(_with(native, presence_ratio=presence, drift=presence), settings=DEFAULTS, common=common)
    np.testing.assert_array_equal(done.channels.quality["drift"], presence)
    np.testing.assert_array_equal(done.channels.quality["presence_ratio"], presence)
    assert np.flatnonzero(done.channels.quality["excluded"]).tolist() == [3]
    assert done.quality["presence_fraction_median"] == 1.0


def test_a_unit_that_is_lost_half_way_is_flagged_and_kept(native: Recording, spikes: Spikes, common: Common) -> None:
    kept = (spikes.channel != 6) | (spikes.time_s < 400)
    lost = replace(native, spikes=replace(spikes, time_s=spikes.time_s[kept], channel=spikes.channel[kept]))
    settings = DEFAULTS.model_copy(update={"unit_limits": {}})
    quality = preprocess(lost, settings=settings, common=common).channels.quality
    assert (quality["absent"][6], quality["usable"][6]) == (1.0, 1.0)
    assert quality["presence_fraction"][6] == pytest.approx(7 / 20)
    wide = settings.model_copy(update={"flags": UnitFlags(min_presence_fraction=0.3, max_drift=0.3)})
    flagged = preprocess(lost, settings=wide, common=common).channels.quality
    assert (flagged["absent"][6], flagged["drifting"][6]) == (0.0, 1.0)


def test_too_few_units_keep_a_recording_out_with_the_number(native: Recording, common: Common) -> None:
    good = np.zeros(15)
    good[3] = 1
    done = preprocess(_with(native, good=good), settings=DEFAULTS, common=common)
    assert done.quality["excluded_reason"] == "usable units 1, less than 2 (min_units)"


def test_a_session_without_behaviour_is_kept_and_marked(native: Recording, common: Common) -> None:
    done = preprocess(replace(native, targets={}), settings=DEFAULTS, common=common)
    assert (done.quality["targets_present"], done.quality["behaviour"]) == ("", False)
    assert "excluded_reason" not in done.quality


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            lambda s: {"time_s": s.time_s[::-1].copy()},
            r"spike times go back, from 1199\.97 s to 1199\.\d+ s \(number 1 of",
        ),
        (
            lambda s: {"time_s": np.where(np.arange(len(s.time_s)) == 9, np.nan, s.time_s)},
            "1 of 98794 spike times are no numbers",
        ),
        (lambda s: {"time_s": s.time_s - 30}, r"\d+ of 98794 spikes lie outside of the observation, 0 to 1200 s"),
        (lambda s: {"stop_s": 900.0}, r"spikes lie outside .* more than 0\.001 of them \(max_outside_fraction\)"),
        (lambda s: {"stop_s": 0.0}, "the observation ends at 0 s, and begins at 0 s"),
        (lambda s: {"channel": s.channel + 1}, r"\d+ spikes belong to no unit of the table, which has 15"),
        (lambda s: {"channel": s.channel[:-1]}, "98794 spike times, but 98793 spikes have a unit"),
        (lambda s: {"time_s": s.time_s[:0], "channel": s.channel[:0]}, "no unit has a spike"),
    ],
)
def test_impossible_spikes_are_refused_in_words(
    native: Recording, spikes: Spikes, common: Common, fault: Callable[[Spikes], dict[str, Any]], words: str
) -> None:
    broken = replace(native, spikes=replace(spikes, **fault(spikes)))
    with pytest.raises(Unreadable, match=words):
        preprocess(broken, settings=DEFAULTS, common=common)


def test_single_spikes_outside_are_taken_out_and_counted(native: Recording, spikes: Spikes, common: Common) -> None:
    time_s = np.concatenate([[-0.4, -0.1], spikes.time_s, [1200.01]])
    channel = np.concatenate([[0, 1], spikes.channel, [2]])
    outside = replace(native, spikes=replace(spikes, time_s=time_s, channel=channel))
    done = preprocess(outside, settings=DEFAULTS, common=common)
    whole = preprocess(native, settings=DEFAULTS, common=common)
    assert (done.quality["spikes_outside"], whole.quality["spikes_outside"]) == (3, 0)
    assert done.spikes is not None
    np.testing.assert_array_equal(done.spikes.time_s, spikes.time_s)
    assert done.signal is not None
    assert whole.signal is not None
    np.testing.assert_array_equal(done.signal.values, whole.signal.values)


def test_a_unit_without_spikes_is_not_usable(native: Recording, spikes: Spikes, common: Common) -> None:
    kept = spikes.channel != 6
    silent = replace(native, spikes=replace(spikes, time_s=spikes.time_s[kept], channel=spikes.channel[kept]))
    done = preprocess(silent, settings=DEFAULTS, common=common)
    assert done.quality["units_silent"] == 1
    assert done.channels.quality["usable"][6] == 0
    assert np.isnan(done.channels.quality["drift"][6])


def test_a_limit_needs_a_bound() -> None:
    with pytest.raises(ValidationError, match="`min`, `max` or both"):
        UnitLimit()

"""Counts per bin against the exact times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from neurofm.preprocess import Common
from neurofm.preprocess._units import Exclude
from neurofm.preprocess.spikes import ModalitySettings, bin_counts, preprocess
from neurofm.recording import Modality, Recording, Spikes, Unreadable
from tests.preprocess.conftest import MakeRecording

SETTINGS = ModalitySettings(bin_ms=20, isi_violation_ms=1.5, presence_block_s=60.0)


def _spikes(time_s: list[float], channel: list[int], *, start_s: float = 0.0, stop_s: float = 1.0) -> Spikes:
    return Spikes(time_s=np.array(time_s), channel=np.array(channel, dtype=np.int64), start_s=start_s, stop_s=stop_s)


def test_counts_equal_a_histogram_in_whole_units_of_time(sample_recording: Callable[..., Recording]) -> None:
    spikes = sample_recording("a2929-hd").spikes
    assert spikes is not None
    counts, overflow = bin_counts(spikes, n_units=15, bin_ms=20)
    assert counts.shape == (60_000, 15)
    assert len(overflow) == 0
    # The file's times are whole microseconds: 20 000 to a bin, and the histogram's edges are exact.
    ticks = np.rint(spikes.time_s * 1e6).astype(int)
    np.testing.assert_allclose(ticks / 1e6, spikes.time_s, rtol=0, atol=1e-9)
    for unit in range(15):
        expected = np.histogram(ticks[spikes.channel == unit], bins=np.arange(60_001) * 20_000 - 0.5)[0]
        np.testing.assert_array_equal(counts[:, unit], expected)


@pytest.mark.parametrize(
    ("time_s", "row"),
    [(0.0, 0), (0.0199999, 0), (0.02, 1), (0.58, 29), (0.60, 30), (0.9999, 49)],
)
@pytest.mark.parametrize("start_s", [0.0, 670.6407, 1e6])
def test_spike_on_an_edge_belongs_to_the_bin_that_begins_there(time_s: float, row: int, start_s: float) -> None:
    counts, _ = bin_counts(_spikes([start_s + time_s], [0], start_s=start_s, stop_s=start_s + 1), n_units=1, bin_ms=20)
    assert np.flatnonzero(counts).tolist() == [row]


def test_only_whole_bins_are_counted() -> None:
    counts, _ = bin_counts(_spikes([0.01, 0.045], [0, 0], stop_s=0.05), n_units=1, bin_ms=20)
    assert counts.tolist() == [[1], [0]]


def test_overflow_is_clipped_marked_and_told(sample_recording: Callable[..., Recording], common: Common) -> None:
    native = sample_recording("a2929-hd")
    assert native.spikes is not None
    spikes = native.spikes
    # An artefact: 300 spikes of unit 3 within a bin of the real recording.
    time_s = np.concatenate([spikes.time_s, np.full(300, 100.001)])
    channel = np.concatenate([spikes.channel, np.full(300, 3)])
    order = np.argsort(time_s, kind="stable")
    stormy = replace(native, spikes=replace(spikes, time_s=time_s[order], channel=channel[order]))
    done = preprocess(stormy, settings=SETTINGS, common=common)
    assert done.signal is not None
    assert done.valid is not None
    assert done.signal.values[5000, 3] == 255
    assert np.flatnonzero(~done.valid).tolist() == [5000]
    assert (done.quality["overflow_bins"], done.quality["overflow_units"]) == (1, native.channels.id[3])
    assert "excluded_reason" not in done.quality
    strict = SETTINGS.model_copy(update={"exclude": Exclude(max_overflow_fraction=0.0)})
    reason = preprocess(stormy, settings=strict, common=common).quality["excluded_reason"]
    assert str(reason).startswith("share of bins with more than 255 spikes 1.667e-05, more than 0")


def test_targets_are_taken_at_the_middle_of_the_bins(
    sample_recording: Callable[..., Recording], common: Common
) -> None:
    native = sample_recording("a2929-hd")
    done = preprocess(native, settings=SETTINGS, common=common)
    for name in ("head_direction", "position"):
        target, aligned = native.targets[name], done.targets[name].values
        expected = [np.interp(700.0 + 0.01, target.time_s, column) for column in target.values.T]
        np.testing.assert_allclose(aligned[700 * 50], expected, atol=1e-4)
        # Tracking began at 670.64 s.
        assert np.isnan(aligned[: 670 * 50]).all()


@pytest.mark.parametrize("parts", [{}, {"spikes": _spikes([0.001], [0], stop_s=0.01)}])
def test_impossible_recording(make_recording: MakeRecording, common: Common, parts: dict[str, Any]) -> None:
    with pytest.raises(Unreadable, match="made/rec"):
        preprocess(make_recording(Modality.SPIKES, None, **parts), settings=SETTINGS, common=common)


def test_bin_width_must_be_positive() -> None:
    with pytest.raises(ValidationError, match="bin_ms"):
        ModalitySettings(bin_ms=0, isi_violation_ms=1.5, presence_block_s=60.0)

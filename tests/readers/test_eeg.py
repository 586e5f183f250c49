"""EEG from FIF files and BIDS trees."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mne
import mne_bids
import numpy as np
import pytest

from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import SHARED_CLOCK, Clock, Modality, Recording, Unreadable

Source = Callable[..., ReaderInput]


@pytest.fixture(scope="module")
def fif(sample_source: Source) -> Recording:
    return read_recording("fif", sample_source("mne-sample-eeg"), {"event_labels": {"1": "auditory/left"}})


@pytest.fixture(scope="module")
def bids(sample_recording: Callable[..., Recording]) -> Recording:
    return sample_recording("tiny-bids-eeg")


def test_fif_gives_the_eeg_channels_in_volts(fif: Recording, sample_source: Source) -> None:
    raw = mne.io.read_raw_fif(sample_source("mne-sample-eeg").path(), verbose="error")
    assert fif.signal is not None
    assert fif.signal.values.shape == (14400, 60)
    np.testing.assert_array_equal(fif.signal.values[:, 3], raw.get_data("EEG 004")[0])
    assert fif.signal.units == "V"
    assert fif.signal.sampling_rate_hz == pytest.approx(600.615, abs=1e-3)


def test_electrodes_lie_on_a_head(fif: Recording, bids: Recording) -> None:
    for recording in (fif, bids):
        radius = np.linalg.norm(recording.channels.position, axis=1)
        assert recording.channels.position_unit == "m"
        assert recording.channels.space == "head"
        assert np.all((radius > 0.05) & (radius < 0.2))


def test_events_count_from_the_start_of_the_file(fif: Recording) -> None:
    assert fif.events is not None
    assert len(fif.events.label) == 31
    # The file begins at sample 25800 of the acquisition; the first stimulus is at 27977.
    assert fif.events.onset_s[0] == pytest.approx((27977 - 25800) / 600.614990234375)
    assert fif.events.label[:4] == ("2", "3", "auditory/left", "4")


def test_a_shared_clock_reads_0_at_the_event_that_is_named(fif: Recording, sample_source: Source) -> None:
    source = sample_source("mne-sample-eeg")
    assert fif.clock == Clock(id="mne-sample-eeg/sub-sample_task-audiovisual")
    in_scanner = replace(source, clock="lab")
    recording = read_recording("fif", in_scanner, {"clock_event": "3"})
    assert recording.clock.id == f"{SHARED_CLOCK}lab/mne-sample:sample//audiovisual/"
    assert recording.events is not None
    first_s = recording.events.onset_s[recording.events.label.index("3")]
    assert recording.clock.offset_s == -first_s < 0
    with pytest.raises(Unreadable, match="no event 'R128', which `clock_event`"):
        read_recording("fif", in_scanner, {"clock_event": "R128"})


def test_bids_side_files_are_heeded(bids: Recording) -> None:
    assert bids.signal is not None
    assert bids.signal.values.shape == (5000, 64)
    bad = dict(zip(bids.channels.id, bids.channels.quality["marked_bad"], strict=True))
    assert [channel for channel, flag in bad.items() if flag] == ["PO10"]
    assert bids.scalars == {"age": 29, "sex": "F", "hand": "A", "line_freq_hz": 60.0}
    assert bids.events is not None
    assert dict(zip(bids.events.label, bids.events.onset_s, strict=True)) == {
        "start_experiment": 0.0,
        "show_stimulus": 0.2,
    }


def test_edf_in_a_bids_tree_of_the_users(shared_data: Path, source_of: Source, tmp_path: Path) -> None:
    raw = mne.io.read_raw_edf(shared_data / "eeg" / "mne_io" / "test.edf", verbose="error")
    raw.set_channel_types(dict.fromkeys(raw.ch_names, "eeg"), on_unit_change="ignore")
    where = mne_bids.BIDSPath(subject="07", task="rest", root=tmp_path)
    mne_bids.write_raw_bids(raw, where, verbose="error")
    main = next(tmp_path.glob("sub-07/eeg/*_eeg.edf"))
    recording = read_recording("bids", source_of(main, Modality.EEG, root=tmp_path), {})
    assert recording.signal is not None
    np.testing.assert_allclose(recording.signal.values, raw.get_data().T, atol=1e-9)
    # No electrodes.tsv: no positions, and none invented.
    assert np.isnan(recording.channels.position).all()
    assert recording.channels.space == "unknown"


def test_channel_type_that_is_not_there(sample_source: Source) -> None:
    with pytest.raises(Unreadable, match=r"test_raw\.fif: no 'seeg' channel; it has .*eeg"):
        read_recording("fif", sample_source("mne-sample-eeg"), {"picks": "seeg"})


@pytest.mark.parametrize("kept", [0, 5000, 10_000, 3_000_000])
def test_truncated_fif(sample_source: Source, source_of: Source, tmp_path: Path, kept: int) -> None:
    damaged = tmp_path / "damaged_raw.fif"
    damaged.write_bytes(sample_source("mne-sample-eeg").path().read_bytes()[:kept])
    with pytest.raises(Unreadable, match=r"damaged_raw\.fif"):
        read_recording("fif", source_of(damaged, Modality.EEG), {})


@pytest.mark.parametrize(("suffix", "kept"), [(".vhdr", 0), (".vhdr", 300), (".eeg", 0)])
def test_truncated_brainvision(sample_source: Source, tmp_path: Path, suffix: str, kept: int) -> None:
    source = sample_source("tiny-bids-eeg")
    root = tmp_path / "tree"
    shutil.copytree(source.root, root)
    damaged = (root / source.entry.files["main"]).with_suffix(suffix)
    damaged.write_bytes(damaged.read_bytes()[:kept])
    copy = ReaderInput(dataset="made", modality=Modality.EEG, species="-", root=root, entry=source.entry)
    with pytest.raises(Unreadable, match=r"sub-01_ses-eeg_task-rest_eeg\.vhdr"):
        read_recording("bids", copy, {})


def test_name_that_is_not_bids(sample_source: Source, source_of: Source, tmp_path: Path) -> None:
    source = sample_source("tiny-bids-eeg")
    copy = tmp_path / "somebody.vhdr"
    shutil.copy(source.path(), copy)
    with pytest.raises(Unreadable, match=r"somebody\.vhdr"):
        read_recording("bids", source_of(copy, Modality.EEG), {})

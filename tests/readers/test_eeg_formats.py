"""Every format of EEG and MEG against MNE itself, in BIDS trees that mne-bids wrote."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import mne_bids
import numpy as np
import pytest
import scipy.io

from neurofm.readers import ReaderInput, outside_inputs, read_recording
from neurofm.recording import Modality, Recording, Unreadable
from neurofm.shards import Provenance, read_shard, write_shard
from tests.eeg.eegmat import ELECTRODES

Source = Callable[..., ReaderInput]
FORMATS = {
    "mne_io/test.edf": 5,
    "mne_io/test.bdf": 1,  # of the stimulus channel: there are no annotations, and so no events.tsv
    "mne_io/test.vhdr": 13,
    "eeglab_sample/eeglab_data.set": 154,
    "eegbci_S003/S003R01.edf": 1,
}
"""How many events each has."""


def written(root: Path, raw: mne.io.BaseRaw, **where: Any) -> Path:
    """Write `raw` as BIDS and return the main file."""
    path = mne_bids.BIDSPath(root=root, subject="01", task="seen", **where)
    raw.info["subject_info"] = None
    mne_bids.write_raw_bids(raw, path, verbose="error")
    endings = (".edf", ".bdf", ".vhdr", ".set", ".fif")
    (main,) = (file for file in root.glob("sub-01/*/*") if file.suffix in endings)
    return main


@pytest.mark.parametrize("name", list(FORMATS))
def test_values_names_and_places_are_mnes(name: str, shared_data: Path, source_of: Source, tmp_path: Path) -> None:
    raw = mne.io.read_raw(shared_data / "eeg" / name, verbose="error")
    placed = any(np.isfinite(channel["loc"][:3]).all() and channel["loc"][:3].any() for channel in raw.info["chs"])
    main = written(tmp_path, raw)
    recording = read_recording("bids", source_of(main, Modality.EEG, root=tmp_path), {})
    assert recording.signal is not None
    chosen = raw.copy().pick("eeg", exclude=())
    assert recording.channels.id == tuple(chosen.ch_names)
    np.testing.assert_allclose(recording.signal.values, chosen.get_data().T, rtol=0, atol=1e-12)
    assert recording.signal.sampling_rate_hz == raw.info["sfreq"]
    assert np.isfinite(recording.channels.position).any() == placed
    if placed:
        truth = np.array([channel["loc"][:3] for channel in chosen.info["chs"]])
        known = np.isfinite(recording.channels.position).all(axis=1)
        assert known.sum() >= 30
        np.testing.assert_allclose(recording.channels.position[known], truth[known], atol=1e-6)
    assert recording.events is not None
    assert len(recording.events.label) == FORMATS[name]


@pytest.mark.parametrize("name", list(FORMATS))
def test_files_outside_bids_are_mnes(name: str, shared_data: Path, source_of: Source) -> None:
    raw = mne.io.read_raw(shared_data / "eeg" / name, verbose="error")
    recording = read_recording("eeg_files", source_of(shared_data / "eeg" / name, Modality.EEG), {})
    assert recording.signal is not None
    chosen = raw.copy().pick("eeg", exclude=())
    assert recording.channels.id == tuple(chosen.ch_names)
    np.testing.assert_allclose(recording.signal.values, chosen.get_data().T, rtol=0, atol=1e-12)
    assert recording.signal.sampling_rate_hz == raw.info["sfreq"]
    own = len(raw.annotations) + (len(mne.find_events(raw, verbose="error")) if "stim" in raw else 0)
    assert (0 if recording.events is None else len(recording.events.label)) == own


def test_electrodes_of_an_edf_file_outside_bids(shared_data: Path, source_of: Source) -> None:
    path = shared_data / "eeg" / "eegmat" / "Subject00_1.edf"
    options = {
        "montage": "standard_1020",
        "rename": {f"EEG {name}": name for name in ELECTRODES} | {"ECG ECG": "ECG", "EEG A2-A1": "A2-A1"},
        "types": {"ECG": "ecg", "A2-A1": "misc"},
    }
    recording = read_recording("eeg_files", source_of(path, Modality.EEG), options)
    assert recording.channels.id == ELECTRODES
    assert np.isfinite(recording.channels.position).all()
    assert recording.scalars["montage"] == "standard_1020"
    # Without `types` the electrocardiogram would be an electrode.
    assert len(read_recording("eeg_files", source_of(path, Modality.EEG), {}).channels) == 21


def test_a_suffix_of_another_format_is_refused(shared_data: Path, source_of: Source) -> None:
    path = shared_data / "eeg" / "eegmat" / "subject-info.csv"
    with pytest.raises(Unreadable, match=r"subject-info\.csv: suffix '\.csv' is none of \.edf, \.bdf, \.vhdr, \.set"):
        read_recording("eeg_files", source_of(path, Modality.EEG), {})


def test_eeglab_keeps_the_positions_and_responses(shared_data: Path, source_of: Source, tmp_path: Path) -> None:
    raw = mne.io.read_raw_eeglab(shared_data / "eeg" / "eeglab_sample" / "eeglab_data.set", verbose="error")
    main = written(tmp_path, raw)
    recording = read_recording("bids", source_of(main, Modality.EEG, root=tmp_path), {})
    assert main.with_suffix(".fdt").is_file()
    assert recording.events is not None
    assert recording.events.label.count("square") == 80
    assert recording.events.label.count("rt") == 74
    # mne-bids writes the sample's own time.
    np.testing.assert_allclose(recording.events.onset_s, np.sort(raw.annotations.onset), atol=0.5 / 128)


def test_template_for_eegbci_by_names_that_are_nearly_standard(
    shared_data: Path, source_of: Source, tmp_path: Path
) -> None:
    raw = mne.io.read_raw_edf(shared_data / "eeg" / "eegbci_S003" / "S003R02.edf", verbose="error")
    main = written(tmp_path, raw)
    options = {"rename": {name: name.rstrip(".") for name in raw.ch_names}, "montage": "standard_1005"}
    recording = read_recording("bids", source_of(main, Modality.EEG, root=tmp_path), options)
    expected = raw.copy()
    mne.datasets.eegbci.standardize(expected)
    expected.set_montage("colin27_1005")
    truth = np.array([channel["loc"][:3] for channel in expected.info["chs"]])
    np.testing.assert_allclose(recording.channels.position, truth, atol=1e-12)
    assert recording.scalars["montage"] == "standard_1005"


def test_positions_of_the_side_file_win_over_the_template(sample_source: Source, sample_recording: Any) -> None:
    plain = sample_recording("tiny-bids-eeg")
    told = read_recording("bids", sample_source("tiny-bids-eeg"), {"montage": "standard_1020"})
    np.testing.assert_array_equal(told.channels.position, plain.channels.position)
    assert "montage" not in told.scalars


def test_hydrocel_net_for_the_names_of_hbn(shared_data: Path, source_of: Source, tmp_path: Path) -> None:
    """Real samples under HBN's names, with HBN's real side files: its recordings are not here."""
    side = shared_data / "eeg" / "hbn_r1_metadata_ds005505"
    label = "sub-NDARAG143ARJ_task-contrastChangeDetection_run-1"
    folder = tmp_path / "sub-NDARAG143ARJ" / "eeg"
    folder.mkdir(parents=True)
    for kind in ("eeg.json", "channels.tsv", "events.tsv"):
        (folder / f"{label}_{kind}").write_bytes((side / "sub-NDARAG143ARJ" / "eeg" / f"{label}_{kind}").read_bytes())
    (tmp_path / "participants.tsv").write_bytes((side / "participants.tsv").read_bytes())
    stated = json.loads((folder / f"{label}_eeg.json").read_text())
    some = mne.io.read_raw_edf(shared_data / "eeg" / "eegmat" / "Subject01_1.edf", preload=True, verbose="error")
    wanted = int(stated["RecordingDuration"] * some.info["sfreq"])
    repeated = np.tile(some.get_data(), (7, -(-wanted // some.n_times)))[:129, :wanted]
    names = [*(f"E{i + 1}" for i in range(128)), "Cz"]
    main = folder / f"{label}_eeg.set"
    eeg = {"data": repeated.astype(np.float32) * 1e6, "nbchan": 129, "pnts": wanted, "trials": 1, "xmin": 0.0}
    eeg |= {"srate": some.info["sfreq"], "chanlocs": np.array([(name,) for name in names], dtype=[("labels", object)])}
    scipy.io.savemat(main, {"EEG": eeg | {"event": [], "epoch": []}})

    extra = ("participants.tsv",)
    source = source_of(main, Modality.EEG, root=tmp_path, extra=extra, subject="hbn:NDARAG143ARJ")
    recording = read_recording("bids", source, {"montage": "GSN-HydroCel-129"})
    truth = mne.channels.make_standard_montage("GSN-HydroCel-129")
    assert len(recording.channels) == 129
    assert np.isfinite(recording.channels.position).all()
    assert set(recording.channels.id) == set(truth.ch_names)
    assert recording.scalars["reference"] == "Cz"
    assert recording.scalars["line_freq_hz"] == 60.0
    assert isinstance(recording.scalars["p_factor"], float)

    with (folder / f"{label}_events.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    events = recording.events
    assert events is not None
    assert set(events.columns) == {"sample", "value", "event_code", "feedback"}
    outside = recording.quality.get("events_outside", 0)
    assert isinstance(outside, int)
    assert len(events.label) + outside == len(rows)
    feedback = [row["feedback"] for row in rows if row["feedback"] != "n/a"]
    assert [text for text in events.columns["feedback"] if text] == feedback
    assert {"smiley_face", "non_target"} <= set(feedback)
    np.testing.assert_array_equal(events.columns["sample"], [float(row["sample"]) for row in rows[: len(events.label)]])

    _its_own_trials(source, samples=wanted)

    # Ten seconds of the signal: what is kept of the events does not depend on it.
    assert recording.signal is not None
    short = replace(recording, signal=replace(recording.signal, values=recording.signal.values[:5000]))
    kept = through_a_shard(short, tmp_path / "a.zarr.zip").events
    assert kept is not None
    assert kept.columns["feedback"] == events.columns["feedback"]
    np.testing.assert_array_equal(kept.columns["sample"], events.columns["sample"])


def _its_own_trials(source: ReaderInput, *, samples: int) -> None:
    named = source.entry.model_copy(update={"task": "contrastChangeDetection", "run": "1"})
    source = replace(source, entry=named)
    own = read_recording("bids", source, {"montage": "GSN-HydroCel-129", "hbn": {}})
    assert own.quality["trials"] == 24
    assert {"response_time", "response_correct"} <= set(own.targets)
    assert own.events is not None
    assert set(own.events.label) == {"left_target", "right_target"}
    assert own.signal is not None
    assert len(own.signal.values) < samples
    assert list(outside_inputs("bids", source, {"hbn": {}})) == ["lists of excluded participants"]


def through_a_shard(recording: Recording, path: Path) -> Recording:
    provenance = Provenance(archive="-", source_id="-", version="-", files=(), licence="-", citation="-", libraries={})
    write_shard(recording, provenance=provenance, path=path)
    return read_shard(path).recording


@pytest.fixture(scope="module")
def meg_tree(tmp_path_factory: pytest.TempPathFactory, sample_source: Source) -> Path:
    """The sample's MEG and EEG as BIDS by mne-bids, with its stimuli as events."""
    root = tmp_path_factory.mktemp("meg")
    raw = mne.io.read_raw_fif(sample_source("mne-sample-eeg").path(), verbose="error")
    raw.info["line_freq"] = 60
    raw.info["subject_info"] = None
    where = mne_bids.BIDSPath(root=root, subject="01", task="audiovisual", datatype="meg")
    stimuli = mne.find_events(raw, shortest_event=1, verbose="error")
    codes = {str(code): int(code) for code in np.unique(stimuli[:, 2])}
    mne_bids.write_raw_bids(raw, where, events=stimuli, event_id=codes, verbose="error")
    return root


@pytest.mark.parametrize("kind", [("mag", "T", 102), ("grad", "T/m", 204), ("eeg", "V", 60)], ids=lambda kind: kind[0])
@pytest.mark.parametrize("reader", ["fif", "bids"])
def test_one_kind_of_meg_channel_at_a_time(
    kind: tuple[str, str, int], reader: str, meg_tree: Path, sample_source: Source, source_of: Source
) -> None:
    picks, unit, count = kind
    original = sample_source("mne-sample-eeg")
    (main,) = meg_tree.glob("sub-01/meg/*_meg.fif")
    source = original if reader == "fif" else source_of(main, Modality.EEG, root=meg_tree)
    recording = read_recording(reader, source, {"picks": picks})
    raw = mne.io.read_raw_fif(original.path(), verbose="error")
    chosen = raw.copy().pick(picks, exclude=())
    assert recording.signal is not None
    assert recording.signal.units == unit
    assert recording.signal.values.shape == (14400, count)
    np.testing.assert_allclose(recording.signal.values, chosen.get_data().T, rtol=1e-12)
    bad = recording.channels.quality["marked_bad"] > 0
    assert [name for name, is_bad in zip(recording.channels.id, bad, strict=True) if is_bad] == [
        name for name in raw.info["bads"] if name in chosen.ch_names
    ]
    assert recording.channels.space == "head"
    radius_m = np.linalg.norm(recording.channels.position, axis=1)
    assert ((radius_m > 0.05) & (radius_m < 0.2)).all()
    assert recording.events is not None
    assert len(recording.events.label) == 31, "the side file's events, not those of the stimulus channel again"
    assert recording.events.onset_s[0] == pytest.approx((27977 - 25800) / 600.614990234375, abs=1e-3)


@pytest.mark.parametrize("reader", ["fif", "bids"])
def test_both_kinds_of_meg_channel_together(
    reader: str, meg_tree: Path, sample_source: Source, source_of: Source
) -> None:
    original = sample_source("mne-sample-eeg")
    (main,) = meg_tree.glob("sub-01/meg/*_meg.fif")
    source = original if reader == "fif" else source_of(main, Modality.MEG, root=meg_tree)
    recording = read_recording(reader, source, {"picks": "meg"})
    assert recording.signal is not None
    assert recording.signal.units == "T, T/m"
    for kind, flag in (("mag", 0.0), ("grad", 1.0)):
        own = recording.channels.quality["gradiometer"] == flag
        chosen = mne.io.read_raw_fif(original.path(), verbose="error").pick(kind, exclude=())
        assert [name for name, is_own in zip(recording.channels.id, own, strict=True) if is_own] == chosen.ch_names
        np.testing.assert_allclose(recording.signal.values[:, own], chosen.get_data().T, rtol=1e-12)


def test_sensors_lie_on_their_sides_of_the_head(sample_source: Source) -> None:
    recording = read_recording("fif", sample_source("mne-sample-eeg"), {"picks": "mag"})
    place = dict(zip(recording.channels.id, recording.channels.position, strict=True))
    # Vectorview: 0111 is at the left temple, 1421 at the right, 2111 and 2121 at the back.
    assert place["MEG 0111"][0] < -0.05 < 0.05 < place["MEG 1421"][0]
    assert place["MEG 2121"][1] < -0.03

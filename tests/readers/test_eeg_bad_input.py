"""Real recordings, each spoiled in one way: one clear reason, or a note in the recording's quality."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from neurofm.errors import UserError
from neurofm.readers import ReaderInput, read_recording, reader_options
from neurofm.recording import Modality, Recording, Unreadable
from tests.eeg.eegmat import OPTIONS, write_eegmat

Source = Callable[..., ReaderInput]
HEADER, SIGNALS = 256, 22
"""Bytes of the fixed part of an EDF header, and signals of EEGMAT's files (one of them annotations)."""
NAME = r"sub-01_task-arithmetic_eeg\.edf"


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A BIDS dataset to be spoiled."""

    root: Path
    source_of: Source
    main: Path

    def side(self, ending: str) -> Path:
        """Return a side file of the recording: ``channels.tsv``."""
        return self.main.with_name(self.main.name.replace("eeg.edf", ending))

    def read(self, **options: object) -> Recording:
        source = self.source_of(self.main, Modality.EEG, root=self.root)
        return read_recording("bids", source, OPTIONS | options)

    def spoil(self, at: int, new: bytes) -> None:
        """Write bytes over the main file's own."""
        content = bytearray(self.main.read_bytes())
        content[at : at + len(new)] = new
        self.main.write_bytes(content)

    def spoil_text(self, ending: str, old: str, new: str) -> None:
        path = self.side(ending)
        text = path.read_text(encoding="utf-8-sig")
        assert old in text
        path.write_text(text.replace(old, new))

    def spoil_json(self, **values: object) -> None:
        path = self.side("eeg.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    return write_eegmat(tmp_path_factory.mktemp("eegmat"), shared_data=shared_data, subjects=["01"])


@pytest.fixture
def tree(whole: Path, tmp_path: Path, source_of: Source) -> Tree:
    root = tmp_path / "bids"
    shutil.copytree(whole, root)
    return Tree(root=root, source_of=source_of, main=root / "sub-01" / "eeg" / "sub-01_task-arithmetic_eeg.edf")


def test_whole_it_is_read_without_a_remark(tree: Tree) -> None:
    recording = tree.read()
    assert len(recording.channels) == 19
    assert not recording.quality


def test_zero_length(tree: Tree) -> None:
    tree.main.write_bytes(b"")
    with pytest.raises(Unreadable, match=rf"{NAME}: the file is empty"):
        tree.read()


@pytest.mark.parametrize(
    ("dimension", "size"), [("V", "too large by about 1e6"), ("mV", "too large by about 1e3"), ("nV", "small")]
)
def test_wrong_unit_names_the_factor(tree: Tree, dimension: str, size: str) -> None:
    at = HEADER + (16 + 80) * SIGNALS
    if dimension == "nV":
        # MNE knows no nV; the same by 1e-3 in the physical range.
        for field in (104, 112):
            for signal in range(19):
                place = HEADER + field * SIGNALS + 8 * signal
                value = float(tree.main.read_bytes()[place : place + 8]) / 1000
                tree.spoil(place, f"{value:.5g}".ljust(8)[:8].encode())
    else:
        tree.spoil(at, dimension.encode().ljust(8) * 19)
    with pytest.raises(Unreadable, match=rf"{NAME}: wrong unit: its EEG has a median SD of .* uV, .*{size}"):
        tree.read()


def test_rates_of_header_and_side_file_differ(tree: Tree) -> None:
    tree.spoil_json(SamplingFrequency=512)
    with pytest.raises(Unreadable, match=rf"{NAME}: sampled at 500 Hz by its header, at 512 Hz by its side file"):
        tree.read()
    tree.spoil_json(SamplingFrequency=499.99)
    assert tree.read().signal is not None


def test_one_name_twice_in_edf(tree: Tree) -> None:
    tree.spoil(HEADER + 16, b"EEG Fp1".ljust(16))
    with pytest.raises(Unreadable, match=rf"{NAME}: more than one channel is called EEG Fp1$"):
        tree.read()


def test_one_name_twice_in_the_side_file_and_by_rename(tree: Tree) -> None:
    rename = {**OPTIONS["rename"], "EEG Fp2": "Fp1"}
    with pytest.raises(Unreadable, match=rf"{NAME}: more than one channel is called Fp1 after `rename`"):
        tree.read(rename=rename)
    tree.spoil_text("channels.tsv", "EEG Fp2", "EEG Fp1")
    with pytest.raises(Unreadable, match=r"Duplicate channel names found in .*channels\.tsv"):
        tree.read()


@pytest.mark.parametrize("kind", ["brainvision", "eeglab"])
def test_one_name_twice_in_other_formats(kind: str, shared_data: Path, tmp_path: Path, source_of: Source) -> None:
    folder = tmp_path / "sub-1" / "eeg"
    folder.mkdir(parents=True)
    eeg = shared_data / "eeg"
    if kind == "brainvision":
        main, twice = folder / "sub-1_task-x_eeg.vhdr", "FP1"
        for ending in ("eeg", "vmrk"):
            shutil.copy(eeg / "mne_io" / f"test.{ending}", folder)
        text = (eeg / "mne_io" / "test.vhdr").read_text(encoding="latin-1")
        main.write_text(text.replace("Ch2=FP2", "Ch2=FP1"), encoding="latin-1")
    else:
        main, twice = folder / "sub-1_task-x_eeg.set", "FPz"
        content = scipy.io.loadmat(eeg / "eeglab_sample" / "eeglab_data.set")
        content["EEG"]["chanlocs"][0, 0]["labels"][0, 1] = np.array(["FPz"])
        scipy.io.savemat(main, {"EEG": content["EEG"]})
        shutil.copy(eeg / "eeglab_sample" / "eeglab_data.fdt", folder)
    with pytest.raises(Unreadable, match=rf"{main.name}: more than one channel is called {twice}$"):
        read_recording("bids", source_of(main, Modality.EEG, root=tmp_path), {})


def test_data_file_of_eeglab_is_missing(shared_data: Path, tmp_path: Path, source_of: Source) -> None:
    main = tmp_path / "sub-1" / "eeg" / "sub-1_task-x_eeg.set"
    main.parent.mkdir(parents=True)
    shutil.copy(shared_data / "eeg" / "eeglab_sample" / "eeglab_data.set", main)
    with pytest.raises(Unreadable, match=r"sub-1_task-x_eeg\.set: not readable, .*eeglab_data\.fdt"):
        read_recording("bids", source_of(main, Modality.EEG, root=tmp_path), {})


def test_discontinuous_edf(tree: Tree) -> None:
    tree.spoil(192, b"EDF+D")
    # Many devices call a recording discontinuous that has no gap.
    assert tree.read().signal is not None
    content = tree.main.read_bytes()
    begin = HEADER * (SIGNALS + 1)
    step = (len(content) - begin) // int(content[236:244])
    record = begin + 10 * step
    found = content.index(b"+10\x14\x14", record)
    assert record < found < record + step, "the record's annotations say when it began"
    tree.spoil(found, b"+25\x14\x14")
    with pytest.raises(Unreadable, match=rf"{NAME}: discontinuous: it stops at 10 s and goes on at 25 s \(2 gaps"):
        tree.read()


def test_file_that_ends_before_its_header_says(tree: Tree) -> None:
    content = tree.main.read_bytes()
    tree.main.write_bytes(content[: len(content) // 2])
    recording = tree.read()
    assert recording.signal is not None
    assert recording.quality["cut_short"] is True
    lost = recording.quality["missing_end_s"]
    assert lost == pytest.approx(30 - len(recording.signal.values) / 500, abs=1.0)


def test_channels_and_description_missing_are_said_to_be_unknown(tree: Tree) -> None:
    for ending in ("channels.tsv", "eeg.json"):
        tree.side(ending).unlink()
    recording = tree.read()
    assert recording.quality == {"missing_sidecars": "channels.tsv, eeg.json", "not_in_montage": 2}
    assert "line_freq_hz" not in recording.scalars
    assert "reference" not in recording.scalars
    assert len(recording.channels) == 21, "EDF does not say which signal is no EEG"
    recording = tree.read(types={"ECG": "ecg", "A2-A1": "misc"})
    assert len(recording.channels) == 19
    assert "not_in_montage" not in recording.quality


def test_side_file_that_lacks_a_channel(tree: Tree) -> None:
    path = tree.side("channels.tsv")
    path.write_text("".join(line for line in path.open(encoding="utf-8-sig") if not line.startswith("ECG ECG")))
    recording = tree.read()
    # What the side file does not tell remains EEG, and the count says that somebody should look.
    assert recording.quality == {"described_channels": 20, "not_in_montage": 1}
    assert recording.channels.id[-1] == "ECG"


def test_electrodes_without_their_space(sample_source: Source, tmp_path: Path) -> None:
    source = sample_source("tiny-bids-eeg")
    root = tmp_path / "tree"
    shutil.copytree(source.root, root)
    (root / "sub-01" / "ses-eeg" / "eeg" / "sub-01_ses-eeg_coordsystem.json").unlink()
    copy = ReaderInput(dataset="made", modality=Modality.EEG, species="-", root=root, entry=source.entry)
    recording = read_recording("bids", copy, {})
    assert recording.quality["missing_sidecars"] == "coordsystem.json"
    assert np.isnan(recording.channels.position).all()


def test_description_that_is_no_json(tree: Tree) -> None:
    tree.side("eeg.json").write_text("{")
    with pytest.raises(Unreadable, match=r"sub-01_task-arithmetic_eeg\.json: not readable"):
        tree.read()
    tree.side("eeg.json").write_text("[]")
    with pytest.raises(Unreadable, match=r"sub-01_task-arithmetic_eeg\.json: expected named values"):
        tree.read()


EVENTS = "onset\tduration\ttrial_type\tvalue\tanswer\n"


def test_events_past_the_end_are_counted_and_left_out(tree: Tree) -> None:
    rows = (
        "-3\t0\tbefore\t1\ta",
        "5\tn/a\tseen\t2\tn/a",
        "n/a\t0\tnever\t3\tb",
        "29.5\t2\tseen\t4\tc",
        "75\t0\tlate\t5\td",
    )
    tree.side("events.tsv").write_text(EVENTS + "\n".join(rows) + "\n")
    recording = tree.read()
    assert recording.quality == {"events_outside": 2, "events_without_onset": 1}
    events = recording.events
    assert events is not None
    assert events.label == ("seen", "seen")
    np.testing.assert_array_equal(events.onset_s, [5, 29.5])
    np.testing.assert_array_equal(events.columns["value"], [2, 4])
    assert events.columns["answer"] == ("", "c")


def test_rows_without_a_type_keep_their_place(tree: Tree) -> None:
    tree.side("events.tsv").write_text(EVENTS + "1\t0\tn/a\t7\tx\n2\t0\tseen\t8\ty\n3\t0\tseen\tn/a\tz\n")
    events = tree.read(event_labels={"seen": "visual"}).events
    assert events is not None
    assert events.label == ("7", "visual", "visual")
    np.testing.assert_array_equal(events.columns["value"], [7, 8, np.nan])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (EVENTS + "soon\t0\ta\t1\tx\n", r"'soon' is no time in seconds"),
        (EVENTS + "1\t0\ta\t1\tx\n2\t0\ta\n", r"line 3 has 3 columns, the first 5"),
        ("start\tduration\n1\t0\n", r"its columns are start, duration; expected `onset`"),
        ("onset\tduration\tonset\n1\t0\t1\n", r"each name once"),
        ("", "the file is empty"),
    ],
)
def test_tables_of_events_that_cannot_be_read(tree: Tree, table: str, said: str) -> None:
    tree.side("events.tsv").write_text(table)
    with pytest.raises(Unreadable, match=rf"sub-01_task-arithmetic_events\.tsv: .*{said}"):
        tree.read()


def test_all_channels_are_bad(tree: Tree) -> None:
    tree.spoil_text("channels.tsv", "\tgood", "\tbad")
    with pytest.raises(Unreadable, match=rf"{NAME}: all 19 eeg channels are marked bad"):
        tree.read()


def test_montage_of_another_cap(tree: Tree) -> None:
    # It has one name in common: Cz.
    with pytest.raises(Unreadable, match=rf"{NAME}: 1 of its 19 channels \(.*Fp2.* the montage GSN-HydroCel-129 \(E1"):
        tree.read(montage="GSN-HydroCel-129")


def test_channels_that_the_montage_does_not_place_are_counted(tree: Tree) -> None:
    recording = tree.read(types={"A2-A1": "eeg"})
    assert recording.quality == {"not_in_montage": 1}
    assert np.isnan(recording.channels.position[recording.channels.id.index("A2-A1")]).all()


def test_names_that_the_file_lacks(tree: Tree) -> None:
    with pytest.raises(Unreadable, match=rf"{NAME}: reader option `types` names channels that it lacks: EKG; it has"):
        tree.read(types={"EKG": "ecg"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"montage": "GSN-Hydrocel-192"}, "there is no montage 'GSN-Hydrocel-192'; near: GSN-HydroCel-129"),
        ({"montage": "standart_1020"}, "near: standard_1020"),
        ({"picks": "megs"}, r"there is no kind of channels to pick 'megs'; near: meg"),
        ({"picks": "EEG"}, "there is no kind of channels to pick 'EEG'; near: eeg"),
        ({"types": {"ECG ECG": "ekg"}}, "there is no channel type 'ekg'; near: eog, emg"),
    ],
)
@pytest.mark.parametrize("reader", ["bids", "fif"])
def test_options_that_mne_does_not_know(reader: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        reader_options(reader, options, where="x.yaml")

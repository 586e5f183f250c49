"""EEGMAT from an archive of OpenNeuro's shape to recordings: manifest, fetch, reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
import pytest

from neurofm.fetch import fetch_files
from neurofm.fetch.ledger import DatasetKey, Ledger
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Manifest, Recording
from neurofm.sources import build_manifest
from tests.eeg.eegmat import ELECTRODES, Served, eegmat_entry, eegmat_subjects, served_eegmat, write_eegmat


@dataclass(frozen=True, kw_only=True)
class Fetched:
    served: Served
    manifest: Manifest
    raw: Path

    def recording(self, index: int) -> Recording:
        entry = eegmat_entry()
        source = ReaderInput(
            dataset=entry.id,
            modality=entry.modality,
            species=entry.species,
            root=self.raw,
            entry=self.manifest.recordings[index],
        )
        return read_recording(entry.reader, source, entry.reader_options)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Fetched]:
    home = tmp_path_factory.mktemp("eegmat")
    subjects = ("01", "03")
    with served_eegmat(home / "archive", shared_data=shared_data, subjects=subjects) as served:
        root = home / "project"
        (root / "data" / "catalog").mkdir(parents=True)
        manifest = build_manifest(eegmat_entry(), root=root, site=served.site)
        who = DatasetKey(dataset="eegmat", archive="openneuro", version="1.0.0")
        work = root / ".neurofm"
        with Ledger.open(work / "ledger.sqlite") as ledger:
            summary = fetch_files(
                manifest.files,
                who=who,
                folder=home / "raw",
                ledger=ledger,
                site=served.site,
                work=work,
                title="fetch",
            )
        assert not summary.failed
        assert not summary.quarantined
        yield Fetched(served=served, manifest=manifest, raw=home / "raw")


def test_what_was_published_is_what_is_read(fetched: Fetched, shared_data: Path) -> None:
    assert [(one.subject, one.task) for one in fetched.manifest.recordings] == [
        ("eegmat:01", "arithmetic"),
        ("eegmat:01", "rest"),
        ("eegmat:03", "arithmetic"),
        ("eegmat:03", "rest"),
    ]
    for index, (subject, part) in enumerate((("01", 2), ("01", 1), ("03", 2), ("03", 1))):
        recording = fetched.recording(index)
        original = shared_data / "eeg" / "eegmat" / f"Subject{subject}_{part}.edf"
        raw = mne.io.read_raw_edf(original, verbose="error")
        assert recording.channels.id == ELECTRODES, "neither heart nor ears are EEG"
        assert recording.signal is not None
        np.testing.assert_array_equal(recording.signal.values, raw.get_data([f"EEG {name}" for name in ELECTRODES]).T)


def test_side_files_and_options_are_heeded(fetched: Fetched) -> None:
    recording = fetched.recording(1)
    assert recording.scalars == {
        "age": 18,
        "sex": "F",
        "subtractions": 29.35,
        "good_counter": 1,
        "reference": "linked ears",
        "line_freq_hz": 50.0,
        "montage": "standard_1020",
    }
    place = dict(zip(recording.channels.id, recording.channels.position, strict=True))
    assert np.isfinite(recording.channels.position).all()
    assert recording.channels.space == "head"
    # x runs to the right, y to the front, z up (MNE's head coordinates).
    assert place["T3"][0] < -0.05 < 0.05 < place["T4"][0]
    assert place["O1"][1] < -0.05 < 0.05 < place["Fp1"][1]
    assert place["Cz"][2] == max(z for _, _, z in place.values())
    assert not recording.quality


def test_all_subjects_can_be_had(tmp_path: Path, shared_data: Path) -> None:
    subjects = eegmat_subjects(shared_data)
    assert len(subjects) == 24
    root = write_eegmat(tmp_path, shared_data=shared_data, subjects=subjects[-1:])
    (rest,) = root.glob("*/eeg/*rest_eeg.edf")
    assert rest.read_bytes() == (shared_data / "eeg" / "eegmat" / f"Subject{subjects[-1]}_1.edf").read_bytes()

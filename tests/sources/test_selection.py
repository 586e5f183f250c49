"""A part of a dataset's subjects: the same every time, the larger part containing the smaller."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from neurofm.catalog import load_entry
from neurofm.recording import Manifest, ManifestFile, ManifestRecording
from neurofm.sources import build_manifest
from neurofm.sources.selection import of_subjects

ROOT = Path(__file__).resolve().parents[2]
DIGEST = f"sha256:{'0' * 64}"


def manifest_of(subjects: int, *, sessions: int = 2) -> Manifest:
    """Each session reads its own file, its subject's table and the table of all."""
    names = [(f"{number:03d}", session) for number in range(subjects) for session in range(sessions)]
    paths = ["participants.tsv", *(f"{subject}/table.tsv" for subject, session in names if not session)]
    paths += [f"{subject}/{session}.nwb" for subject, session in names]
    return Manifest(
        dataset="d",
        archive="dandi",
        source_id="000001",
        version="1",
        files=tuple(ManifestFile(path=path, size=1, digest=DIGEST, origin=f"s3://b/{path}") for path in sorted(paths)),
        recordings=tuple(
            ManifestRecording(
                id=f"sub-{subject}_ses-{session}",
                subject=f"lab:{subject}",
                session=str(session),
                files={"main": f"{subject}/{session}.nwb"},
                extra=("participants.tsv", f"{subject}/table.tsv"),
            )
            for subject, session in names
        ),
    )


def subjects_of(manifest: Manifest) -> set[str]:
    return {recording.subject for recording in manifest.recordings}


def test_larger_parts_contain_smaller_ones() -> None:
    whole = manifest_of(20)
    parts = [of_subjects(whole, max_subjects=number) for number in (1, 3, 10, 20, 50)]
    assert [len(subjects_of(part)) for part in parts] == [1, 3, 10, 20, 20]
    for smaller, larger in pairwise(parts):
        assert subjects_of(smaller) <= subjects_of(larger)
    assert parts[-1] == whole
    assert of_subjects(whole, max_subjects=None) == whole


def test_the_choice_is_fixed_for_ever() -> None:
    # As coreutils sort them: for i in 000 .. 019; do printf lab:$i | sha256sum; done | sort
    assert subjects_of(of_subjects(manifest_of(20), max_subjects=3)) == {"lab:003", "lab:004", "lab:011"}


def test_all_sessions_of_a_chosen_subject_and_only_their_files_stay() -> None:
    part = of_subjects(manifest_of(20), max_subjects=2)
    chosen = sorted(subject.removeprefix("lab:") for subject in subjects_of(part))
    assert [recording.id for recording in part.recordings] == [
        f"sub-{subject}_ses-{session}" for subject in chosen for session in range(2)
    ]
    own = [f"{subject}/{name}" for subject in chosen for name in ("0.nwb", "1.nwb", "table.tsv")]
    assert [file.path for file in part.files] == [*own, "participants.tsv"]
    assert set(part.by_path) == {*own, "participants.tsv"}


@pytest.mark.parametrize("dataset", ["hcp-rest", "gw-rest"])
def test_of_a_real_dataset(dataset: str) -> None:
    entry = load_entry(dataset, root=ROOT)
    whole, part = (build_manifest(entry, root=ROOT, max_subjects=number) for number in (None, 3))
    assert len(subjects_of(part)) == 3
    assert len(part.files) == 3
    assert {file.path for file in part.files} < {file.path for file in whole.files}

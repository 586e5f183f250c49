"""The catalogue's entries of OpenNeuro: their globs and patterns on names as the datasets have them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from neurofm.catalog import ArchiveSource, CatalogEntry, OpenNeuroSource, load_entry
from neurofm.recording import ManifestRecording
from neurofm.sources import is_pinned, recordings_of
from neurofm.sources.listing import chosen

PROJECT = Path(__file__).resolve().parents[2]
OURS = ("openneuro", "openneuro-derivatives")
ENTRIES = [load_entry(path.stem, root=PROJECT) for path in sorted((PROJECT / "data" / "catalog").glob("*.yaml"))]
RELEASES = [f"hbn-r{number}" for number in range(1, 12)]
SUBJECT = "sub-NDARAC904DMU"


def recordings(entry: CatalogEntry, paths: list[str]) -> tuple[ManifestRecording, ...]:
    source = entry.source
    assert isinstance(source, ArchiveSource)
    left = list(chosen(sorted(paths), include=source.include, exclude=source.exclude))
    return recordings_of(left, entry.recordings, namespace=entry.subject_namespace, where=entry.id)


def test_releases_are_all_there_and_share_their_subjects() -> None:
    hbn = {entry.id: entry for entry in ENTRIES if entry.subject_namespace == "hbn"}
    assert set(hbn) == {*RELEASES, "hbn-challenge-r5", "hbn-challenge-r5-mini"}
    sources = [hbn[name].source for name in RELEASES]
    accessions = [source.accession for source in sources if isinstance(source, OpenNeuroSource)]
    assert accessions == [f"ds00{number}" for number in (*range(5505, 5513), *range(5514, 5517))]
    # As the README of each release counts them.
    assert sum(hbn[name].expect.subjects or 0 for name in RELEASES) == 3155
    assert {entry.licence for entry in hbn.values()} == {"CC-BY-SA-4.0"}


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry.source.archive in OURS], ids=lambda entry: entry.id
)
def test_versions_fix_every_byte(entry: CatalogEntry) -> None:
    assert is_pinned(entry.source)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if "challenge" in entry.id], ids=lambda entry: entry.id)
def test_the_challenges_bucket_needs_pins_and_has_both_tasks_of_the_challenges(
    entry: CatalogEntry, shared_data: Path
) -> None:
    assert not is_pinned(entry.source)
    folder = shared_data / "eeg" / "hbn_r1_metadata_ds005505"
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    signals = [
        path.replace("_eeg.json", "_eeg.bdf") for path in names if path.endswith("_eeg.json") and "/eeg/" in path
    ]
    found = recordings(entry, names + signals)
    assert Counter(recording.task for recording in found) == {
        task: sum(task in path for path in signals) for task in ("RestingState", "contrastChangeDetection")
    }
    own = {one.id: one for one in found if one.subject == "hbn:NDARAC904DMU"}
    runs = [one for one in own.values() if one.task == "contrastChangeDetection"]
    assert sorted(one.run for one in runs) == ["1", "2", "3"]
    side = f"{SUBJECT}/eeg/{SUBJECT}_task-contrastChangeDetection_run-1_events.tsv"
    assert {"participants.tsv", "task-contrastChangeDetection_events.json", side} < set(
        own[f"{SUBJECT}_task-contrastChangeDetection_run-1"].extra
    )


@pytest.mark.parametrize("name", RELEASES)
def test_of_a_release_rest_is_taken(name: str, shared_data: Path) -> None:
    folder = shared_data / "eeg" / "hbn_r1_metadata_ds005505"
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    signals = [
        path.replace("_eeg.json", "_eeg.set") for path in names if path.endswith("_eeg.json") and "/eeg/" in path
    ]
    found = recordings(load_entry(name, root=PROJECT), names + signals)
    assert Counter(recording.task for recording in found) == {"RestingState": sum("Rest" in path for path in signals)}
    first = found[0]
    stem = f"{SUBJECT}/eeg/{SUBJECT}_task-RestingState"
    assert first.id == f"{SUBJECT}_task-RestingState"
    assert first.files == {"main": f"{stem}_eeg.set"}
    assert first.extra == (
        "dataset_description.json",
        "participants.json",
        "participants.tsv",
        *(f"{stem}_{end}" for end in ("channels.tsv", "eeg.json", "events.tsv")),
        "task-RestingState_eeg.json",
        "task-RestingState_events.json",
    )


@pytest.mark.parametrize(
    ("name", "paths", "ids", "used"),
    [
        (
            "openneuro-ds004148",
            [
                *(
                    f"sub-01/ses-session{session}/eeg/sub-01_ses-session{session}_task-{task}_eeg.{kind}"
                    for session in (1, 2)
                    for task in ("eyesclosed", "eyesopen", "memory")
                    for kind in ("vhdr", "vmrk", "eeg")
                ),
                "sub-01/ses-session1/eeg/sub-01_ses-session1_electrodes.tsv",
                "derivatives/preproc/sub-01/ses-session1/eeg/sub-01_ses-session1_task-eyesclosed_eeg.vhdr",
                "participants.tsv",
            ],
            [f"sub-01_ses-session{session}_task-eyes{state}" for session in (1, 2) for state in ("closed", "open")],
            [
                "participants.tsv",
                "sub-01/ses-session1/eeg/sub-01_ses-session1_electrodes.tsv",
                "sub-01/ses-session1/eeg/sub-01_ses-session1_task-eyesclosed_eeg.eeg",
                "sub-01/ses-session1/eeg/sub-01_ses-session1_task-eyesclosed_eeg.vhdr",
                "sub-01/ses-session1/eeg/sub-01_ses-session1_task-eyesclosed_eeg.vmrk",
            ],
        ),
        (
            "openneuro-ds003775",
            [
                "sub-077/ses-t2/eeg/sub-077_ses-t2_task-resteyesc_eeg.edf",
                "sub-077/ses-t2/eeg/sub-077_ses-t2_task-resteyesc_channels.tsv",
                "sub-001/ses-t1/eeg/sub-001_ses-t1_task-resteyesc_eeg.edf",
                "derivatives/cleaned_data/sub-001/ses-t1/eeg/sub-001_ses-t1_task-resteyesc_eeg.set",
                "participants.json",
            ],
            ["sub-001_ses-t1_task-resteyesc", "sub-077_ses-t2_task-resteyesc"],
            ["participants.json", "sub-001/ses-t1/eeg/sub-001_ses-t1_task-resteyesc_eeg.edf"],
        ),
        (
            "openneuro-ds000005-fmriprep",
            [
                f"sub-01/func/sub-01_task-mixedgamblestask_run-{run}_{end}"
                for run in (1, 2)
                for end in (
                    "space-fsLR_den-91k_bold.dtseries.nii",
                    "space-fsLR_den-91k_bold.dtseries.json",
                    "space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz",
                    "desc-confounds_timeseries.tsv",
                    "desc-MELODIC_mixing.tsv",
                )
            ],
            [f"sub-01_task-mixedgamblestask_run-{run}" for run in (1, 2)],
            [
                "sub-01/func/sub-01_task-mixedgamblestask_run-1_desc-confounds_timeseries.tsv",
                "sub-01/func/sub-01_task-mixedgamblestask_run-1_space-fsLR_den-91k_bold.dtseries.json",
                "sub-01/func/sub-01_task-mixedgamblestask_run-1_space-fsLR_den-91k_bold.dtseries.nii",
            ],
        ),
        (
            "openneuro-ds000228-fmriprep",
            [
                "sub-pixar001/func/sub-pixar001_task-pixar_space-fsLR_den-91k_bold.dtseries.nii",
                "sub-pixar001/func/sub-pixar001_task-pixar_desc-confounds_timeseries.tsv",
                "sub-pixar001/anat/sub-pixar001_desc-preproc_T1w.nii.gz",
            ],
            ["sub-pixar001_task-pixar"],
            [
                "sub-pixar001/func/sub-pixar001_task-pixar_desc-confounds_timeseries.tsv",
                "sub-pixar001/func/sub-pixar001_task-pixar_space-fsLR_den-91k_bold.dtseries.nii",
            ],
        ),
        (
            "openneuro-ds002748-fmriprep",
            [
                "sub-01/func/sub-01_task-rest_space-fsLR_den-91k_bold.dtseries.nii",
                "sub-01/func/sub-01_task-rest_desc-confounds_timeseries.tsv",
                "sub-01/func/sub-01_task-rest_desc-confounds_timeseries.json",
                "dataset_description.json",
            ],
            ["sub-01_task-rest"],
            [
                "dataset_description.json",
                "sub-01/func/sub-01_task-rest_desc-confounds_timeseries.json",
                "sub-01/func/sub-01_task-rest_desc-confounds_timeseries.tsv",
                "sub-01/func/sub-01_task-rest_space-fsLR_den-91k_bold.dtseries.nii",
            ],
        ),
    ],
)
def test_what_the_first_recording_reads(name: str, paths: list[str], ids: list[str], used: list[str]) -> None:
    found = recordings(load_entry(name, root=PROJECT), paths)
    assert [recording.id for recording in found] == ids
    assert sorted((*found[0].files.values(), *found[0].extra)) == used

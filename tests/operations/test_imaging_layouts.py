"""Folders of calcium imaging results are told by their files' names and a look inside."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.errors import UserError
from neurofm.ingest.recording import reader_input
from neurofm.operations.dataset import add_dataset
from neurofm.readers import read_recording, reader_module, reader_options
from neurofm.recording import Manifest, Modality, Unreadable
from neurofm.sources import build_manifest, recordings_of
from tests.readers.ophys_layouts import (
    FRAMES,
    Miniscope,
    copy_minian,
    real_miniscope,
    write_caiman,
    write_cnmfe_v5,
    write_cnmfe_v73,
    write_inscopix,
    write_stamps,
    write_suite2p,
)

PROJECT = Path(__file__).resolve().parents[2]
TERMS = {"licence": "unpublished", "citation": "Doe lab", "species": "Mus musculus", "dataset_id": "mine"}
TIMES = np.arange(FRAMES) / 30.0


@pytest.fixture(scope="module")
def miniscope(sample_raw: Callable[[str], Path]) -> Miniscope:
    return real_miniscope(sample_raw("cnmfe-miniscope") / "A0634-210127.nwb")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "data" / "catalog").mkdir(parents=True)
    (root / "params.yaml").write_text("datasets: {}\nlocal: {}\n")
    return root


def _added(folder: Path, project: Path, **facts: Any) -> Manifest:
    entry = add_dataset(folder, root=project, **(TERMS | facts))
    return build_manifest(load_entry(entry.id, root=project), root=project)


def _cells(manifest: Manifest, project: Path) -> list[int]:
    """Read every recording as the entry says, and count its cells."""
    entry = load_entry(manifest.dataset, root=project)
    root = Path(getattr(entry.source, "path", ""))
    inputs = [reader_input(entry, recording, root=root) for recording in manifest.recordings]
    return [len(read_recording(entry.reader, one, entry.reader_options).channels) for one in inputs]


def test_the_real_minian_tree_of_one_animal(project: Path, shared_data: Path) -> None:
    folder = shared_data / "calcium" / "minian_placecell_1d"
    manifest = _added(folder, project, subject="M1", options={"max_stray_timestamps": 12})
    (recording,) = manifest.recordings
    assert recording.files == {"main": "neural_data/C.zarr/.zgroup"}
    assert {"neural_timestamp.csv", "neural_data/A.zarr/A/.zarray"} <= set(recording.extra)
    assert load_entry("mine", root=project).modality is Modality.MINISCOPE
    assert _cells(manifest, project) == [10]


def test_minian_inside_folders_of_animal_and_session(project: Path, tmp_path: Path, shared_data: Path) -> None:
    for session in ("day1/My_V4_Miniscope", "day2"):
        copy_minian(shared_data / "calcium" / "minian_placecell_1d", tmp_path / "lab" / "M1" / session)
    manifest = _added(tmp_path / "lab", project, options={"max_stray_timestamps": 12})
    assert [one.id for one in manifest.recordings] == ["sub-M1_ses-day1", "sub-M1_ses-day2"]
    assert not any("day2" in path for path in manifest.recordings[0].extra)
    assert _cells(manifest, project) == [10, 10]


def test_planes_of_suite2p_are_recordings(project: Path, tmp_path: Path, sample_raw: Callable[[str], Path]) -> None:
    for plane in ("plane0", "plane1", "combined"):
        write_suite2p(tmp_path / f"lab/A0662/2022_08_08/suite2p/{plane}", sample_raw("a0662-2p") / "2022_08_08.nwb")
    with pytest.raises(UserError, match=r"planes of suite2p may be calcium or miniscope.*--modality calcium"):
        _added(tmp_path / "lab", project)
    manifest = _added(tmp_path / "lab", project, modality=Modality.CALCIUM)
    ids = [one.id for one in manifest.recordings]
    assert ids == ["sub-A0662_ses-2022_08_08_plane-0", "sub-A0662_ses-2022_08_08_plane-1"]
    first, second = _cells(manifest, project)
    assert first == second > 0


@pytest.mark.parametrize(
    ("write", "reader"),
    [
        (lambda folder, real: write_caiman(folder / "a.hdf5", real, accepted=None), "caiman"),
        (lambda folder, real: write_cnmfe_v5(folder / "a_results.mat", real), "cnmfe"),
        (lambda folder, real: write_cnmfe_v73(folder / "a_results.mat", real), "cnmfe"),
        (lambda folder, real: write_inscopix(folder / "a.csv", real, ["accepted"] * 10, TIMES), "inscopix"),
    ],
)
def test_single_files(
    project: Path, tmp_path: Path, miniscope: Miniscope, write: Callable[..., Path], reader: str
) -> None:
    folder = tmp_path / "lab" / "A0634" / "210127"
    folder.mkdir(parents=True)
    write(folder, miniscope)
    if reader != "inscopix":
        write_stamps(folder / "timeStamps.csv", TIMES)
    manifest = _added(tmp_path / "lab", project, modality=Modality.MINISCOPE)
    assert load_entry("mine", root=project).reader == reader
    assert [one.id for one in manifest.recordings] == ["sub-A0634_ses-210127"]
    assert len(manifest.recordings[0].extra) == 1
    assert _cells(manifest, project) == [10]


def test_a_tree_without_animals_needs_a_subject(project: Path, shared_data: Path) -> None:
    with pytest.raises(UserError, match=r"minian data sets do not say whose they are .*--subject LABEL"):
        _added(shared_data / "calcium" / "minian_placecell_1d", project)


def test_a_wrong_modality_is_refused(project: Path, shared_data: Path) -> None:
    with pytest.raises(UserError, match=r"modality spikes was asked for"):
        _added(shared_data / "calcium" / "minian_placecell_1d", project, subject="M1", modality=Modality.SPIKES)


def test_tables_of_other_kinds_are_not_taken(project: Path, tmp_path: Path, shared_data: Path) -> None:
    with pytest.raises(UserError, match="tables of your own need a mapping"):
        _added(shared_data / "calcium" / "park2024_v1_gratings", project, subject="M1")
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(UserError, match=r"broken\.mat: not readable"):
        _added(tmp_path / "lab", project, subject="M1")


def test_without_the_option_the_real_tree_says_what_to_do(project: Path, shared_data: Path) -> None:
    manifest = _added(shared_data / "calcium" / "minian_placecell_1d", project, subject="M1")
    with pytest.raises(Unreadable, match="max_stray_timestamps: 12"):
        _cells(manifest, project)


def test_the_documented_entries_are_valid_and_find_their_files() -> None:
    text = (PROJECT / "docs" / "formats" / "calcium.md").read_text()
    entries = [
        CatalogEntry.parse(YAML(typ="safe").load(block), where="docs", mend="-")
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    ]
    paths = {
        "minian": ["M1/d1/minian/C.zarr/.zgroup", "M1/d1/minian/C.zarr/C/0.0", "M1/d1/timeStamps.csv"],
        "suite2p": ["M1/d1/suite2p/plane0/F.npy", "M1/d1/suite2p/plane0/ops.npy", "M1/d1/suite2p/plane0/stat.npy"],
    }
    assert [entry.reader for entry in entries] == ["minian", "suite2p"]
    for entry in entries:
        reader_options(entry.reader, entry.reader_options, where="docs")
        (one,) = recordings_of(paths[entry.reader], entry.recordings, namespace="doe-lab", where="docs")
        assert len(one.extra) == 2
    options = {field for name in ("minian", "suite2p", "caiman", "cnmfe", "inscopix") for field in _fields(name)}
    assert not {field for field in options if f"`{field}`" not in text}


def _fields(name: str) -> set[str]:
    return set(reader_module(name).Options.model_fields)

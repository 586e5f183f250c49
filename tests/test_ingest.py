"""One recording's trouble costs that recording: the rest is done, the stage says what failed and how to mend it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.ingest.dataset import ingest_dataset, quality_report, refuse_too_many_failures
from neurofm.params import load_params
from neurofm.recording import Manifest, Modality, UnitStatus
from neurofm.shards import read_shard
from neurofm.sources import build_manifest
from neurofm.units import UnitSummary
from tests.streamed import Threads

PROJECT = Path(__file__).resolve().parent.parent
PREPROCESS = load_params(PROJECT).preprocess


@dataclass(frozen=True)
class Lab:
    """Three real subjects in a folder of a lab's own."""

    folder: Path
    out: Path

    def entry(self) -> CatalogEntry:
        return CatalogEntry.parse(
            {
                "id": "lab",
                "title": "Movie watching",
                "modality": "fmri",
                "reader": "tables",
                "reader_options": {"variable": "", "axes": "time_channel", "tr_s": 2.0, "atlas": "AAL"},
                "source": {"archive": "local", "path": str(self.folder)},
                "recordings": {"pattern": r"sub-(?P<subject>[^_]+)_.*\.npy"},
                "subject_namespace": "lab",
                "species": "Homo sapiens",
                "licence": "PDDL-1.0",
                "redistribute": True,
                "citation": "Richardson 2018",
            },
            where="test",
            mend="-",
        )

    def ingest(self) -> tuple[Manifest, UnitSummary]:
        entry = self.entry()
        manifest = build_manifest(entry, root=self.out)
        summary = ingest_dataset(
            entry,
            manifest,
            raw=self.folder,
            shards=self.out / "shards",
            receipts=self.out / "receipts.jsonl",
            work=self.out / "work",
            settings=PREPROCESS.of(Modality.FMRI),
            common=PREPROCESS.common,
            executor=Threads(),
        )
        return manifest, summary


@pytest.fixture
def lab(tmp_path: Path, shared_data: Path) -> Lab:
    folder = tmp_path / "lab"
    folder.mkdir()
    source = shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries"
    for path in sorted(source.glob("*AAL_timeseries.npy"))[:3]:
        shutil.copy(path, folder)
    return Lab(folder, tmp_path)


def test_a_damaged_file_costs_only_its_recording(lab: Lab) -> None:
    victim = sorted(lab.folder.glob("*.npy"))[1]
    victim.write_bytes(victim.read_bytes()[:500])
    manifest, summary = lab.ingest()
    (failed,) = summary.failed
    assert len(list((lab.out / "shards").iterdir())) == 2
    with pytest.raises(UserError, match=rf"1 of 3 recordings failed .*{failed}: .*{victim.name}"):
        refuse_too_many_failures("lab", summary, max_failed_fraction=0.0)
    refuse_too_many_failures("lab", summary, max_failed_fraction=0.4)
    report = quality_report("lab", manifest, summary, shards=lab.out / "shards")
    assert report["recordings"][failed]["status"] == "failed"
    assert victim.name in report["recordings"][failed]["reason"]


def test_a_mended_file_alone_is_done(lab: Lab) -> None:
    victim = sorted(lab.folder.glob("*.npy"))[1]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:500])
    lab.ingest()
    before = {path: path.stat().st_mtime_ns for path in (lab.out / "shards").iterdir()}
    victim.write_bytes(whole)
    _, summary = lab.ingest()
    assert summary.ran == 1
    assert not summary.failed
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_constant_and_missing_channels_are_marked_and_kept_out(lab: Lab) -> None:
    victim = min(lab.folder.glob("*.npy"))
    series = np.load(victim)
    series[:, 4] = 1.5
    series[:, 9] = np.nan
    np.save(victim, series)
    _, summary = lab.ingest()
    assert not summary.failed
    usable = read_shard(min((lab.out / "shards").iterdir())).usable
    assert np.flatnonzero(~usable).tolist() == [4, 9]


def test_a_recording_that_left_the_folder_leaves_the_shards(lab: Lab) -> None:
    lab.ingest()
    min(lab.folder.glob("*.npy")).unlink()
    _, summary = lab.ingest()
    assert (summary.ran, len(summary.statuses)) == (0, 2)
    assert len(list((lab.out / "shards").iterdir())) == 2


def test_a_file_changed_after_the_manifest_is_not_believed(lab: Lab) -> None:
    entry = lab.entry()
    manifest = build_manifest(entry, root=lab.out)
    victim = sorted(lab.folder.glob("*.npy"))[2]
    victim.write_bytes(victim.read_bytes() + b"x")
    summary = ingest_dataset(
        entry,
        manifest,
        raw=lab.folder,
        shards=lab.out / "shards",
        receipts=lab.out / "receipts.jsonl",
        work=lab.out / "work",
        settings=PREPROCESS.of(Modality.FMRI),
        common=PREPROCESS.common,
        executor=Threads(),
    )
    (failed,) = summary.failed
    assert summary.statuses[failed] is UnitStatus.UNAVAILABLE
    assert "its digest differs" in summary.reasons[failed]


def test_a_shard_says_where_it_comes_from(lab: Lab) -> None:
    manifest, _ = lab.ingest()
    shard = read_shard(min((lab.out / "shards").iterdir()))
    main = manifest.recordings[0].files["main"]
    assert {"path": main, "digest": manifest.by_path[main].digest} in shard.attrs["source"]["files"]
    assert shard.attrs["licence"] == "PDDL-1.0"
    assert {"nilearn", "numpy", "zarr"} <= set(shard.attrs["pipeline"]["libraries"])
    assert shard.attrs["quality"]["quantisation_error_sd"] <= 0.01

"""The tables, from real recordings and known metrics."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import get_args

import numpy as np

from neurofm.catalog import CatalogEntry, HttpSource, ListedSource, LocalSource, RegistrySource, load_entry
from neurofm.files import write_json
from neurofm.recording import Channels, Clock, Modality, Recording, Signal, Target
from neurofm.report.archives import ARCHIVES, archive_name
from neurofm.report.excerpts import choose_excerpt
from neurofm.report.flow import trace
from neurofm.report.inputs import read_inputs
from neurofm.report.tables import Origin, left_out, origins, quality_tables, totals
from neurofm.shards import Provenance, write_shard
from tests.report.conftest import PROJECT, read_json


def test_totals_count_what_was_read_and_what_is_used(finished: Path, entries: list[CatalogEntry]) -> None:
    found = {total.modality: total for total in totals(read_inputs(root=finished, datasets=entries))}
    assert list(found) == ["Spikes", "fMRI", "EEG"]
    assert (found["fMRI"].recordings, found["fMRI"].subjects) == (1, 1), "the damaged one does not count"
    assert (found["EEG"].datasets, found["EEG"].recordings, found["EEG"].used) == (2, 2, 1)
    assert found["Spikes"].duration == "20 min"


def test_left_out_gives_every_reason(finished: Path, entries: list[CatalogEntry]) -> None:
    rows = {(row.dataset, row.recording): row for row in left_out(read_inputs(root=finished, datasets=entries))}
    assert rows["hcp-rest", "sub-broken"].consequence == "not read (failed)"
    assert rows["hcp-rest", "sub-broken"].reason == "broken.mat: truncated"
    tiny = next(row for (dataset, _), row in rows.items() if dataset == "tiny-bids-eeg")
    assert tiny.consequence == "not used"
    alone = next(row for (dataset, name), row in rows.items() if dataset == "hcp-rest" and name != "sub-broken")
    assert alone.consequence == "learned from, not scored"


def test_long_tables_say_how_much_they_hide(project: Path, entries: list[CatalogEntry]) -> None:
    path = project / "metrics" / "quality" / "hcp-rest.json"
    content = read_json(path)
    used = next(name for name, recording in content["recordings"].items() if recording["status"] == "succeeded")
    content["recordings"] |= {f"sub-{number:03d}": content["recordings"][used] for number in range(20)}
    write_json(path, content)
    tables = quality_tables(read_inputs(root=project, datasets=entries), most=5)
    table = next(table for table in tables if table.dataset == "hcp-rest")
    assert len(table.rows) == 5
    assert table.hidden == 22 - 5
    assert table.whole_at == "metrics/quality/hcp-rest.json"
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_origins_carry_digests_and_terms(finished: Path, entries: list[CatalogEntry]) -> None:
    spikes, fmri = (origin for origin in _origins(finished, entries) if origin.dataset in _CHECKED)
    digest = "sha256:a329216d2108dac0fff3fd3326c99f52f1bec6c354c2cdb330978e558caeb1f2"
    assert spikes.files == (("A2929-200711.nwb", digest),)
    assert (len(fmri.files), fmri.hidden_files) == (3, 4)
    assert not fmri.redistribute
    manifest = (finished / "data" / "manifests" / "hcp-rest.json").read_bytes()
    assert fmri.manifest == hashlib.md5(manifest, usedforsecurity=False).hexdigest()
    assert len(fmri.shards) == 64


def _origins(root: Path, entries: list[CatalogEntry]) -> list[Origin]:
    inputs = read_inputs(root=root, datasets=entries)
    traced = [trace(entry, inputs, root=root) for entry in inputs.entries]
    return origins(inputs, traced, excerpts={}, most=3)


_CHECKED = ("a2929-hd", "hcp-rest")


def test_every_kind_of_source_has_a_name_on_the_page() -> None:
    kinds = {
        str(get_args(source.model_fields["archive"].annotation)[0])
        for source in (RegistrySource, LocalSource, HttpSource, *get_args(ListedSource))
    }
    assert set(ARCHIVES) == kinds
    for path in sorted((PROJECT / "data" / "catalog").glob("*.yaml")):
        entry = load_entry(path.stem, root=PROJECT)
        named = archive_name(entry)
        assert "{" not in named
        assert named.rstrip(", ") == named


def test_a_digest_that_nobody_published_is_said_in_words(project: Path, entries: list[CatalogEntry]) -> None:
    path = project / "data" / "manifests" / "a2929-hd.json"
    content = read_json(path)
    content["files"][0]["digest"] = "first-use"
    write_json(path, content)
    (origin,) = (origin for origin in _origins(project, entries) if origin.dataset == "a2929-hd")
    ((_, digest),) = origin.files
    assert digest == "none published; taken at first use, in data/receipts/a2929-hd.jsonl"


def test_a_digest_that_was_not_checked_is_said_in_words(project: Path, entries: list[CatalogEntry]) -> None:
    path = project / "data" / "manifests" / "a2929-hd.json"
    content = read_json(path)
    whole = content["files"][0]["digest"]
    content["files"][0]["digest"] = f"groups:general,units@{whole}"
    write_json(path, content)
    (origin,) = (origin for origin in _origins(project, entries) if origin.dataset == "a2929-hd")
    ((_, digest),) = origin.files
    assert digest == f"{whole} of the whole file, not checked: only its groups general, units came"


def _shard(path: Path, *, measured_from: int) -> None:
    samples, rate = 100, 10.0
    heading = np.full((samples, 2), np.nan, dtype=np.float32)
    heading[measured_from:] = (1.0, 0.0)
    recording = Recording(
        dataset="d",
        subject="lab:1",
        session="",
        run="",
        task="",
        species="Mus musculus",
        modality=Modality.SPIKES,
        channels=Channels(id=("a",), position=np.full((1, 3), np.nan), position_unit=""),
        clock=Clock(id="d/1"),
        signal=Signal(values=np.ones((samples, 1), dtype=np.uint8), sampling_rate_hz=rate, units="count"),
        targets={
            "speed": Target(values=np.ones((samples, 1)), unit="m/s", columns=("v",), time_s=np.arange(samples) / rate),
            "heading": Target(values=heading, unit="1", columns=("cos", "sin"), time_s=np.arange(samples) / rate),
        },
    )
    terms = {"licence": "CC0", "citation": "none", "libraries": {}}
    provenance = Provenance(archive="local", source_id="x", version="1", files=(), **terms)  # type: ignore[arg-type]  # mixed values
    write_shard(recording, provenance=provenance, path=path)


def test_the_excerpt_is_where_the_angle_was_measured(tmp_path: Path) -> None:
    _shard(tmp_path / "b.zarr.zip", measured_from=55)
    _shard(tmp_path / "c.zarr.zip", measured_from=0)
    excerpt = choose_excerpt(tmp_path, preferred=frozenset(), seconds=2.0)
    assert excerpt is not None
    assert (excerpt.recording, excerpt.target) == ("b", "heading")
    assert (excerpt.start, excerpt.stop) == (55, 75)
    preferred = choose_excerpt(tmp_path, preferred=frozenset({"c"}), seconds=1e6)
    assert preferred is not None
    assert (preferred.recording, preferred.start, preferred.stop) == ("c", 0, 100)


def test_a_dataset_without_shards_has_no_excerpt(tmp_path: Path) -> None:
    assert choose_excerpt(tmp_path / "absent", preferred=frozenset(), seconds=1.0) is None

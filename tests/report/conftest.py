"""A project whose shards are real recordings and whose metrics are small and known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.evaluation.difference import Difference, Differences
from neurofm.evaluation.examples import Example, write_examples
from neurofm.evaluation.row import Row
from neurofm.files import write_json
from neurofm.params import Params, load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import read_recording
from neurofm.readers.input import ReaderInput
from neurofm.report.settings import ReportSettings
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.sources import build_manifest
from neurofm.splits import Candidate, make_splits

PROJECT = Path(__file__).resolve().parents[2]
DATASETS = ("a2929-hd", "hcp-rest", "mne-sample-eeg", "tiny-bids-eeg")


@pytest.fixture(scope="session")
def params() -> Params:
    return load_params(PROJECT)


@pytest.fixture(scope="session")
def settings(params: Params) -> ReportSettings:
    return params.report


@pytest.fixture(scope="session")
def entries() -> list[CatalogEntry]:
    return [load_entry(dataset, root=PROJECT) for dataset in DATASETS]


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    sample_raw: Callable[[str], Path],
    params: Params,
    entries: list[CatalogEntry],
) -> Path:
    """Root of a project in which every stage before the report has run. Tests that change it copy it."""
    root = tmp_path_factory.mktemp("finished")
    candidates = []
    for entry in entries:
        candidates += _ingest(entry, root=root, raw=sample_raw(entry.id), params=params)
    windows = params.windows.window_samples
    make_splits(candidates, settings=params.split, window_samples=windows).write(root / "data" / "splits.json")
    rows = [row.model_dump() for entry in entries[:3] for row in scores_of(entry.id, entry.modality.value)]
    write_json(root / "metrics" / "scoreboard.json", rows)
    write_json(root / "metrics" / "pretrain.json", {"folds": [_fold(0), _fold(1)]})
    write_examples([_example(root)], root / "reports" / "reconstructions.npz")
    differences = [difference(dataset=entry.id, modality=entry.modality.value) for entry in entries[:3]]
    write_json(
        root / "metrics" / "differences.json",
        Differences(comparisons=3, differences=tuple(differences)).model_dump(mode="json"),
    )
    return root


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of `finished` that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "project"))


def _ingest(entry: CatalogEntry, *, root: Path, raw: Path, params: Params) -> list[Candidate]:
    """Write the shard of the dataset's first recording, its manifest and its quality."""
    manifest = build_manifest(entry, root=PROJECT)
    write_json(root / "data" / "manifests" / f"{entry.id}.json", manifest.model_dump(mode="json"))
    unit = manifest.recordings[0]
    source = ReaderInput(dataset=entry.id, modality=entry.modality, species=entry.species, root=raw, entry=unit)
    recording = preprocess_recording(
        read_recording(entry.reader, source, dict(entry.reader_options)),
        settings=getattr(params.preprocess, entry.modality.value),
        common=params.preprocess.common,
    )
    path = root / "data" / "shards" / entry.id / f"{unit.id}.zarr.zip"
    provenance = Provenance(
        archive=entry.source.archive,
        source_id=manifest.source_id,
        version=manifest.version,
        files=(),
        licence=entry.licence,
        citation=entry.citation,
        libraries={},
    )
    write_shard(recording, provenance=provenance, path=path)
    shard = read_shard(path)
    described: dict[str, Any] = {
        "status": "succeeded",
        "reason": "",
        "subject": unit.subject,
        "duration_s": len(shard.stored) / shard.sampling_rate_hz,
        "channels": shard.stored.shape[1],
        "usable_channels": int(shard.usable.sum()),
        "quality": dict(shard.recording.quality),
    }
    damaged = {"status": "failed", "reason": "broken.mat: truncated", "subject": "hcp:broken"}
    recordings = {unit.id: described} | ({"sub-broken": damaged} if entry.id == "hcp-rest" else {})
    quality = {"dataset": entry.id, "recordings": recordings}
    write_json(root / "metrics" / "quality" / f"{entry.id}.json", quality)
    candidate = Candidate(
        dataset=entry.id,
        recording=unit.id,
        subject=unit.subject,
        modality=entry.modality,
        samples=len(shard.stored),
        sampling_rate_hz=shard.sampling_rate_hz,
        support_s=shard.support_s,
    )
    return [candidate]


def score(**changes: Any) -> Row:
    """One row of a scoreboard."""
    row: dict[str, Any] = {
        "dataset": "ds",
        "modality": "eeg",
        "task": "masked_reconstruction",
        "metric": "R2",
        "unit": "share of variance",
        "higher_is_better": True,
        "split": "3-fold time blocks",
        "model": "neurofm",
        "seed": 1,
        "value": 0.5,
        "null": 0.0,
        "ci_low": 0.45,
        "ci_high": 0.55,
        "ci_unit": "time block",
        "n": 9,
    }
    return Row.model_validate(row | changes)


def scores_of(dataset: str, modality: str) -> list[Row]:
    """A small scoreboard of one dataset, in which the ridge is ahead of us."""
    values = {"neurofm": 0.5, "neurofm-linear-core": 0.48, "ridge": 0.52, "null": 0.0}
    return [
        score(dataset=dataset, modality=modality, model=model, value=value, ci_low=value - 0.05, ci_high=value + 0.05)
        for model, value in values.items()
    ]


def difference(**changes: Any) -> Difference:
    """One row of metrics/differences.json."""
    row: dict[str, Any] = {
        "name": "ds/masked_reconstruction/R2",
        "dataset": "ds",
        "modality": "eeg",
        "task": "masked_reconstruction",
        "metric": "R2",
        "unit": "share of variance",
        "split": "3-fold time blocks",
        "ours": "neurofm",
        "baseline": "ridge",
        "value": -0.02,
        "ci_low": -0.03,
        "ci_high": -0.01,
        "ci_unit": "time block",
        "n": 9,
        "p": 0.004,
        "p_holm": 0.012,
    }
    return Difference.model_validate(row | changes)


def _fold(number: int) -> dict[str, Any]:
    curve = [
        {"step": step, "train": {"eeg": 1.0 / (step + 1)}, "validation": {"eeg": 1.1 / (step + 1), "fmri": None}}
        for step in range(0, 30, 10)
    ]
    return {
        "fold": number,
        "steps": 30,
        "best_step": 20,
        "parameters": 1234,
        "residual_gain": {"eeg": 0.5},
        "curve": curve,
    }


def _example(root: Path) -> Example:
    (path,) = (root / "data" / "shards" / "mne-sample-eeg").glob("*.zip")
    shard = read_shard(path)
    truth = shard.values(0, 200)[:, :5].astype(np.float64)
    return Example(
        dataset="mne-sample-eeg",
        recording=path.name.removesuffix(".zarr.zip"),
        modality="eeg",
        fold=0,
        sampling_rate_hz=shard.sampling_rate_hz,
        start_s=0.0,
        channels=shard.recording.channels.id[:5],
        unit="SD",
        truth=truth,
        reconstructions={"neurofm": truth * 0.9, "ridge": truth * 0.8},
    )


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())

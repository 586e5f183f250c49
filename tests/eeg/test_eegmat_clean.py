"""EEGMAT from an archive of OpenNeuro's shape through the tier ``clean`` into shards: alpha falls in arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurofm.catalog import read_yaml
from neurofm.fetch import fetch_dataset
from neurofm.ingest.dataset import ingest_dataset, quality_report
from neurofm.ingest.recording import ingest
from neurofm.preprocess import Common
from neurofm.preprocess.eeg import ModalitySettings
from neurofm.recording import Modality
from neurofm.shards import read_shard
from neurofm.sources import build_manifest
from neurofm.units import UnitsSite, open_executor
from tests.eeg.eegmat import eegmat_entry, eegmat_subjects, served_eegmat

PROJECT = Path(__file__).resolve().parents[2]
OCCIPITAL = ("O1", "O2")


def relative_alpha(path: Path) -> float:
    """Return the power from 8 to 13 Hz over that from 2 to 40 Hz, mean of the occipital channels; of valid samples."""
    shard = read_shard(path)
    columns = [shard.recording.channels.id.index(name) for name in OCCIPITAL]
    values = shard.values()[:, columns].astype(np.float64)
    values[~shard.valid] = 0.0
    power = np.abs(np.fft.rfft(values - values.mean(axis=0), axis=0)) ** 2
    hz = np.fft.rfftfreq(len(values), 1 / shard.sampling_rate_hz)
    alpha, whole = ((low <= hz) & (hz < high) for low, high in ((8, 13), (2, 40)))
    return float((power[alpha].sum(axis=0) / power[whole].sum(axis=0)).mean())


@pytest.mark.long
def test_occipital_alpha_falls_from_rest_to_arithmetic(tmp_path: Path, shared_data: Path) -> None:
    params = read_yaml(PROJECT / "params.yaml")["preprocess"]
    settings = ModalitySettings.parse(params["eeg"] | {"tier": "clean"}, where="params.yaml", mend="-")
    entry, root = eegmat_entry(), tmp_path / "project"
    (root / "data" / "catalog").mkdir(parents=True)
    work, shards = root / ".neurofm", root / "shards"
    with served_eegmat(tmp_path / "archive", shared_data=shared_data) as served:
        manifest = build_manifest(entry, root=root, site=served.site)
        fetched = fetch_dataset(entry, manifest, raw=root / "raw", work=work, site=served.site)
        assert not fetched.failed
    site = UnitsSite(workers=2)
    summary = ingest_dataset(
        entry,
        manifest,
        raw=root / "raw",
        shards=shards,
        receipts=root / "receipts.jsonl",
        work=work,
        settings=settings,
        common=Common.parse(params["common"], where="params.yaml", mend="-"),
        executor=open_executor(ingest, site=site, modality=Modality.EEG, running=work / "receipts" / entry.id),
    )
    assert summary.failed == (), summary.reasons
    subjects = eegmat_subjects(shared_data)
    assert len(summary.statuses) == 2 * len(subjects) == 48

    falls = [
        relative_alpha(shards / f"sub-{one}_task-arithmetic.zarr.zip")
        < relative_alpha(shards / f"sub-{one}_task-rest.zarr.zip")
        for one in subjects
    ]
    assert np.mean(falls) >= 0.75

    told = quality_report(entry.id, manifest, summary, shards=shards)["recordings"]
    measured = {name: one["quality"] for name, one in told.items()}
    for quality in measured.values():
        assert {"bad_channels", "asr_removed_variance_fraction", "rejected_fraction", "time_shift_ms"} <= set(quality)
        assert abs(quality["time_shift_ms"]) < 1000 / settings.rate_hz / 2
        assert 0 <= quality["asr_removed_variance_fraction"] < 0.9
    left_out = {name: quality["excluded_reason"] for name, quality in measured.items() if "excluded_reason" in quality}
    assert len(left_out) <= 2, left_out

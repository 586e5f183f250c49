"""The sample's recordings as units of work, for benchmarks: ``python -m benchmarks.sample WORKERS TIMES``."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.fetch import fetch_dataset
from neurofm.ingest.plan import UnitPlan
from neurofm.ingest.recording import IngestTask, ingest
from neurofm.params import load_params
from neurofm.sources import build_manifest
from neurofm.units import LocalExecutor, ReceiptBook, Unit, run_units

PROJECT = Path(__file__).resolve().parents[1]


def sample_units(shards: Path) -> Iterator[Unit[IngestTask]]:
    """Yield the units of all datasets of params.yaml; their files are brought first."""
    params = load_params(PROJECT)
    for dataset in {**params.datasets, **params.streamed}:
        entry = load_entry(dataset, root=PROJECT)
        manifest = build_manifest(entry, root=PROJECT)
        raw = PROJECT / ".neurofm" / "test-raw" / dataset
        fetch_dataset(entry, manifest, raw=raw, work=PROJECT / ".neurofm")
        plan = UnitPlan(
            entry=entry,
            manifest=manifest,
            raw=raw,
            shards=shards / dataset,
            settings=params.preprocess.of(entry.modality),
            common=params.preprocess.common,
        )
        plan.remove_strangers()
        for recording in manifest.recordings:
            yield plan.unit(recording, taken={})


def main(workers: int, times: int) -> None:
    """Preprocess the sample so many times over and print the seconds."""
    with tempfile.TemporaryDirectory(prefix="bench-sample-") as name:
        folder = Path(name)
        units = [
            replace(unit, id=f"{unit.id}-{number}")
            for number in range(times)
            for unit in sample_units(folder / str(number))
        ]
        executor: LocalExecutor[IngestTask] = LocalExecutor(ingest, workers=workers)
        book = ReceiptBook(folder / "receipts.jsonl", running=folder / "running")
        began = time.perf_counter()
        summary = run_units(units, executor=executor, book=book, title=f"sample, {workers} workers")
        took = time.perf_counter() - began
        if summary.failed:
            raise SystemExit(f"failed: {summary.reasons}")
        print(json.dumps(took))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

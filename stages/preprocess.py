"""Stage `preprocess`: every recording of one dataset becomes a shard."""

import sys
from pathlib import Path

from neurofm.catalog import LocalSource, load_entry
from neurofm.files import write_json
from neurofm.ingest.dataset import ingest_dataset, quality_report, refuse_too_many_failures
from neurofm.ingest.recording import ingest
from neurofm.operations.stage import stage_run
from neurofm.params import load_params, load_site
from neurofm.sources import read_manifest
from neurofm.units import open_executor


def main(dataset: str) -> None:
    """Fill ``data/shards/<dataset>/`` and say how each recording ended."""
    settings, site = load_params(dataset=dataset, groups=("datasets", "local")).preprocess, load_site()
    entry, manifest = load_entry(dataset), read_manifest(Path(f"data/manifests/{dataset}.json"))
    raw = Path(entry.source.path) if isinstance(entry.source, LocalSource) else Path(f"data/raw/{dataset}")
    summary = ingest_dataset(
        entry,
        manifest,
        raw=raw,
        shards=Path(f"data/shards/{dataset}"),
        receipts=Path(f"data/receipts/{dataset}.jsonl"),
        work=Path(".neurofm"),
        settings=settings.of(entry.modality),
        common=settings.common,
        executor=open_executor(
            ingest, site=site, modality=entry.modality, running=Path(f".neurofm/receipts/{dataset}")
        ),
    )
    report = quality_report(dataset, manifest, summary, shards=Path(f"data/shards/{dataset}"))
    write_json(Path(f"metrics/quality/{dataset}.json"), report)
    print(f"{dataset}: {summary.ran} recordings preprocessed, {summary.whole} whole already")
    refuse_too_many_failures(dataset, summary, max_failed_fraction=settings.max_failed_fraction)


if __name__ == "__main__":
    with stage_run("preprocess", sys.argv[1]):
        main(sys.argv[1])

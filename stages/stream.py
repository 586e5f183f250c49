"""Stage `stream`: every recording of one dataset becomes a shard; its raw files are here only meanwhile."""

import sys
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.catalog.terms import require_terms
from neurofm.files import write_json
from neurofm.ingest.dataset import quality_report
from neurofm.ingest.recording import ingest
from neurofm.operations.stage import stage_run
from neurofm.params import load_params, load_site
from neurofm.sources import read_manifest
from neurofm.stream import refuse_failures, stream_dataset
from neurofm.units import open_executor


def main(dataset: str) -> None:
    """Fill ``data/shards/<dataset>/`` and say how each recording ended."""
    settings, site = load_params(dataset=dataset, groups=("streamed",)).preprocess, load_site()
    entry, manifest = load_entry(dataset), read_manifest(Path(f"data/manifests/{dataset}.json"))
    require_terms(entry)
    summary = stream_dataset(
        entry,
        manifest,
        shards=Path(f"data/shards/{dataset}"),
        receipts=Path(f"data/receipts/{dataset}.jsonl"),
        work=Path(".neurofm"),
        settings=settings.of(entry.modality),
        common=settings.common,
        executor=open_executor(
            ingest, site=site, modality=entry.modality, running=Path(f".neurofm/receipts/{dataset}")
        ),
        budget_bytes=round(site.disk_budget_gb * 1e9),
        site=site.fetch,
    )
    report = quality_report(dataset, manifest, summary.units, shards=Path(f"data/shards/{dataset}"))
    write_json(Path(f"metrics/quality/{dataset}.json"), report)
    print(f"{dataset}: {summary.units.ran} recordings to do, {summary.fetched_files} files fetched and removed again")
    refuse_failures(dataset, summary, max_failed_fraction=settings.max_failed_fraction)


if __name__ == "__main__":
    with stage_run("stream", sys.argv[1]):
        main(sys.argv[1])

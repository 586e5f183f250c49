"""Stage `download`: every file of one dataset's manifest, verified."""

import sys
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.catalog.terms import require_terms
from neurofm.fetch import fetch_dataset
from neurofm.operations.stage import stage_run
from neurofm.params import load_params, load_site
from neurofm.sources import read_manifest


def main(dataset: str) -> None:
    """Fill ``data/raw/<dataset>/``."""
    load_params(dataset=dataset, groups=("datasets", "bids"))  # Everything is validated before anything starts.
    entry = load_entry(dataset)
    require_terms(entry)
    manifest = read_manifest(Path(f"data/manifests/{dataset}.json"))
    summary = fetch_dataset(
        entry, manifest, raw=Path(f"data/raw/{dataset}"), work=Path(".neurofm"), site=load_site().fetch
    )
    print(
        f"{dataset}: {summary.fetched_files} files fetched, {summary.kept_files} there already, "
        f"{len(summary.quarantined)} quarantined; {summary.requests} requests"
    )


if __name__ == "__main__":
    with stage_run("download", sys.argv[1]):
        main(sys.argv[1])

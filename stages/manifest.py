"""Stage `manifest`: the pinned, checksummed file list of one dataset."""

import sys
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.catalog.terms import require_terms
from neurofm.operations.stage import stage_run
from neurofm.params import WITH_ENTRIES, load_params, load_site
from neurofm.sources import build_manifest, write_manifest


def main(dataset: str) -> None:
    """Write ``data/manifests/<dataset>.json``."""
    max_subjects = load_params(dataset=dataset, groups=WITH_ENTRIES).max_subjects_of(dataset)
    entry = load_entry(dataset)
    require_terms(entry)
    manifest = build_manifest(entry, root=Path(), site=load_site().fetch, max_subjects=max_subjects)
    write_manifest(manifest, Path(f"data/manifests/{dataset}.json"))
    print(f"{dataset}: {len(manifest.recordings)} recordings in {len(manifest.files)} files")


if __name__ == "__main__":
    with stage_run("manifest", sys.argv[1]):
        main(sys.argv[1])

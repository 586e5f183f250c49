"""Stage `manifest`: the pinned, checksummed file list of one dataset."""

import sys
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.errors import exit_on_user_error
from neurofm.params import load_params
from neurofm.sources import build_manifest, write_manifest


def main(dataset: str) -> None:
    """Write ``data/manifests/<dataset>.json``."""
    load_params()  # Everything is validated before anything starts.
    manifest = build_manifest(load_entry(dataset), root=Path())
    write_manifest(manifest, Path(f"data/manifests/{dataset}.json"))
    print(f"{dataset}: {len(manifest.recordings)} recordings in {len(manifest.files)} files")


if __name__ == "__main__":
    with exit_on_user_error():
        main(sys.argv[1])

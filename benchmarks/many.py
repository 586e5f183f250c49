"""Peak memory of reading, planning and walking a manifest of many files: ``python -m benchmarks.many FOLDER FILES``.

The manifest and the (small) files are made by a process of their own, so that this one only does what a stage does.
"""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
from pathlib import Path

from neurofm.fetch import DatasetKey, Ledger, fetch_files
from neurofm.fetch.hosts import FetchSite
from neurofm.recording import Manifest, ManifestFile, ManifestRecording
from neurofm.sources import read_manifest, write_manifest

_RUNS = 5


def main(folder: Path, files: int, *, make: bool) -> None:
    """Make the files, or walk them and print the peak in 10^6 bytes."""
    if make:
        _make(folder, files)
        return
    subprocess.run([sys.executable, "-m", "benchmarks.many", str(folder), str(files), "make"], check=True)
    manifest = read_manifest(folder / "many.json")
    who = DatasetKey(dataset="many", archive="s3", version="1")
    with Ledger.open(folder / "work" / "ledger.sqlite") as ledger:
        ledger.plan(who, manifest.files)
        summary = fetch_files(
            manifest.files,
            who=who,
            folder=folder / "raw",
            ledger=ledger,
            site=FetchSite(offline=True),
            work=folder / "work",
        )
    assert summary.kept_files == files, summary
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def _make(folder: Path, count: int) -> None:
    files = []
    for number in range(count):
        content = str(number).encode()
        path = f"sub-{number // _RUNS:06d}/eeg/sub-{number // _RUNS:06d}_task-rest_run-{number % _RUNS}_eeg.set"
        place = folder / "raw" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        origin = f"s3://openneuro.org/ds000001/{path}"
        version_id = hashlib.md5(content, usedforsecurity=False).hexdigest()
        files.append(ManifestFile(path=path, size=len(content), digest=digest, origin=origin, version_id=version_id))
    recordings = tuple(
        ManifestRecording(
            id=f"sub-{number:06d}",
            subject=f"many:{number:06d}",
            files={"main": files[number * _RUNS].path},
            extra=tuple(file.path for file in files[number * _RUNS + 1 : (number + 1) * _RUNS]),
        )
        for number in range(count // _RUNS)
    )
    manifest = Manifest(
        dataset="many", archive="s3", source_id="many", version="1", files=tuple(files), recordings=recordings
    )
    write_manifest(manifest, folder / "many.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), make=sys.argv[3:] == ["make"])

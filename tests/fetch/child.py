"""Fetches in a process of their own, to be killed, watched or run twice: ``python -m tests.fetch.child SPEC``.

SPEC is JSON with a list of ``jobs`` (`tests.servers.fixtures.Fetching.job`). After each one a line of JSON stands on
stdout: its summary, or the error that a user would read. All that libraries log goes to stderr.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neurofm.errors import UserError
from neurofm.fetch import fetch_files
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.ledger import DatasetKey, Ledger
from neurofm.recording import ManifestFile


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do one fetch."""
    work = Path(job["work"])
    with Ledger.open(work / "ledger.sqlite") as ledger:
        summary = fetch_files(
            [ManifestFile.model_validate(file) for file in job["files"]],
            who=DatasetKey(**job["who"]),
            folder=Path(job["raw"]),
            ledger=ledger,
            site=FetchSite.model_validate_json(json.dumps(job["site"])),
            work=work,
            title=f"fetch {job['who']['dataset']}",
        )
    return asdict(summary)


def main(spec: Path) -> None:
    """Do the fetches of `spec`."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    content = json.loads(spec.read_text())
    print("ready", flush=True)  # noqa: T201
    if start := content.get("start"):
        while not Path(start).exists():
            time.sleep(0.001)
    for job in content["jobs"]:
        try:
            said = run(job)
        except UserError as error:
            # As with --debug: whoever reads a traceback must not find a secret in it either.
            traceback.print_exc()
            said = {"error": str(error)}
        print(json.dumps(said), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))

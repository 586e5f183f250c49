"""A process that runs a container, for tests that end it: ``python -m tests.integration.containers.caller FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from neurofm.containers import Image, Job, Limits, Mount, find_engine, run

SCRIPT = r"""
for signal in INT TERM; do trap "echo $signal > told; exit 7" $signal; done
echo $$ > started
while :; do sleep 0.05; done
"""

if __name__ == "__main__":
    folder, image = Path(sys.argv[1]), sys.argv[2]
    job = Job(
        image=Image(name="base", run_by=image, digest=image),
        command=("sh", "-c", SCRIPT),
        mounts=(Mount(source=folder, writable=True),),
        workdir=folder,
        limits=Limits(grace_s=5),
    )
    run(job, engine=find_engine(), log=folder / "log")

"""How every stage script starts and ends: a user's mistake is one line, and what the stage cost is written down."""

from __future__ import annotations

import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurofm.containers import image_inside
from neurofm.errors import exit_on_user_error
from neurofm.files import write_json
from neurofm.operations.in_container import run_stage_inside
from neurofm.params import load_site
from neurofm.settings import Settings

OUTSIDE = frozenset({"derivatives"})
"""Stages that are never run in the project's image: they start containers themselves."""
COSTS = Path(".neurofm/stages")
"""Folder of what each stage cost when it last ran here; beside the pipeline, so that no digest depends on it."""


class StageCost(Settings):
    """What one stage cost when it last ran here, successful or not."""

    stage: str
    dataset: str = ""
    succeeded: bool
    began: float
    """Seconds since 1970."""
    seconds: float
    """Of its whole process, with Python's start: on a small dataset that is most of it."""
    cpu_s: float
    """Of the stage and of the processes that it waited for; tasks of a cluster are not among them."""
    peak_mb: float
    """Peak resident memory of its largest process, MiB."""
    host: str
    container: str = ""
    """Digest of the image in which it ran; empty where that was none. Like `host`, it changes no byte of a result."""


@contextmanager
def stage_run(stage: str, dataset: str = "") -> Iterator[None]:
    """Run the body of a stage script; where site.yaml asks for it, by running the script anew in the project's image.

    Parameters
    ----------
    stage, dataset
        Which stage of ``dvc.yaml``, and of which dataset where there is one per dataset.

    Raises
    ------
    SystemExit
        With code 2 after one line, for a mistake that the user can mend; with 130 after Ctrl-C; with the script's own
        code, after it ran in a container.
    """
    with exit_on_user_error():
        if stage not in OUTSIDE and not image_inside() and (site := load_site()).container:
            raise SystemExit(run_stage_inside(stage, site=site, log=COSTS / f"{name_of(stage, dataset)}.log"))
    age = _process_age_s()
    began, started = time.time() - age, time.monotonic() - age
    succeeded = False
    with exit_on_user_error():
        try:
            yield
            succeeded = True
        finally:
            used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            cost = StageCost(
                stage=stage,
                dataset=dataset,
                succeeded=succeeded,
                began=began,
                seconds=round(time.monotonic() - started, 3),
                cpu_s=round(sum(one.ru_utime + one.ru_stime for one in used), 3),
                peak_mb=round(max(one.ru_maxrss for one in used) / 1024, 1),
                host=socket.gethostname(),
                container=image_inside(),
            )
            write_json(COSTS / f"{name_of(stage, dataset)}.json", cost.model_dump())


def _process_age_s() -> float:
    """Return for how long this process has been running; 0 where the system does not tell."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, IndexError, ValueError):
        return 0.0


def name_of(stage: str, dataset: str = "") -> str:
    """Return what DVC calls a stage: ``preprocess@gw-rest``."""
    return f"{stage}@{dataset}" if dataset else stage


def script_name(stage: str) -> str:
    """Return a stage of DVC's as its script knows it: ``manifest_local@rest`` is ``manifest@rest``."""
    name, at, dataset = stage.partition("@")
    return f"{re.sub('_(local|streamed|bids)$', '', name)}{at}{dataset}"


def read_costs(root: Path) -> dict[str, StageCost]:
    """Return what each stage cost when it last ran here, by its name in DVC; those that are damaged are left out."""
    costs: dict[str, StageCost] = {}
    for path in sorted((root / COSTS).glob("*.json")):
        try:
            costs[path.stem] = StageCost.model_validate_json(path.read_bytes())
        except ValueError:
            continue  # Written by another version: the next run writes it anew.
    return costs

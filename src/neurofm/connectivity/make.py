"""Make: matrices of every fMRI recording, and what they are worth as a group."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from neurofm.catalog import CatalogEntry
from neurofm.connectivity.group import Member, group_of
from neurofm.connectivity.makers import Maker, maker_of
from neurofm.connectivity.matrices import connect
from neurofm.connectivity.settings import ConnectivitySettings
from neurofm.files import write_json
from neurofm.progress import Progressing
from neurofm.recording import Modality, Unreadable
from neurofm.shards import read_shard

_SUFFIX = ".zarr.zip"


@dataclass(frozen=True, kw_only=True)
class DatasetConnectivity:
    """What was made of one dataset."""

    dataset: str
    facts: Mapping[str, Any]
    """Its entry in ``metrics/connectivity.json``."""
    left_out: Mapping[str, str]
    """Why, by recording."""


def make_connectivity(
    entries: Sequence[CatalogEntry], *, shards: Path, out: Path, metrics: Path, settings: ConnectivitySettings
) -> list[DatasetConnectivity]:
    """Write ``<dataset>/<recording>.npz`` and ``<dataset>.npz`` (the group) under `out`, and the metrics.

    A recording that preprocessing excluded, or that gives no matrix, is left out with its reason; the others go on.

    Parameters
    ----------
    entries
        Catalogue entries of the datasets that take part; only fMRI is looked at.
    shards
        ``data/shards``.
    out
        ``data/connectivity``; what was there is replaced.
    metrics
        ``metrics/connectivity.json``.
    settings
        `connectivity` in params.yaml.
    """
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    chosen = [entry.id for entry in entries if entry.modality is Modality.FMRI]
    paths = {dataset: sorted((shards / dataset).glob(f"*{_SUFFIX}")) for dataset in chosen}
    # One thread: how a product of matrices is cut among threads decides its last digits.
    total = sum(map(len, paths.values()))
    with Progressing("connectivity", total=total, unit="recordings") as progress, threadpool_limits(1):
        made = [_dataset(dataset, paths[dataset], out=out, settings=settings, progress=progress) for dataset in chosen]
    write_json(metrics, {one.dataset: {**one.facts, "left_out": dict(one.left_out)} for one in made})
    return made


def _dataset(
    dataset: str, paths: Sequence[Path], *, out: Path, settings: ConnectivitySettings, progress: Progressing
) -> DatasetConnectivity:
    members: list[Member] = []
    left_out: dict[str, str] = {}
    makers: Counter[Maker] = Counter()
    for path in paths:
        recording = path.name.removesuffix(_SUFFIX)
        try:
            shard = read_shard(path, extra=True)
            makers[maker_of(shard.recording.steps)] += 1
            if reason := shard.recording.quality.get("excluded_reason"):
                left_out[recording] = str(reason)
            else:
                found = connect(shard, settings=settings, where=path.name)
                found.write(out / dataset / f"{recording}.npz")
                members.append(Member.of(shard, found))
        except Unreadable as problem:
            left_out[recording] = str(problem)
        except np.linalg.LinAlgError as problem:
            left_out[recording] = f"{path.name}: its covariance has no inverse ({problem})"
        progress.advance(note=recording)
    group = group_of(members, settings=settings)
    group.write(out / f"{dataset}.npz")
    made_by = {
        one.title: {"recordings": count, "names": list(one.names), "description": one.description}
        for one, count in sorted(makers.items(), key=lambda item: item[0].title)
    }
    facts = {**group.facts(), "made_by": made_by}
    return DatasetConnectivity(dataset=dataset, facts=facts, left_out=left_out)

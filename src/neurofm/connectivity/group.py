"""Group: the connectivity of all recordings of a dataset, and its quality."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.connectivity.matrices import BEFORE, CORRELATION, Connectivity
from neurofm.connectivity.qcfc import NULL_BINS, Estimate, QcFc, change, qc_fc
from neurofm.connectivity.settings import ConnectivitySettings
from neurofm.files import write_atomic
from neurofm.recording import Target
from neurofm.shards import Shard

Float32s = npt.NDArray[np.float32]

FD = "framewise_displacement"
_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Member:
    """What the group needs of one recording."""

    subject: str
    parcels: tuple[str, ...]
    position: npt.NDArray[np.float64]
    """[parcel, 3]; NaN where not known."""
    fd_mm: float
    """Mean framewise displacement; NaN where not known."""
    after: Float32s
    """[edge] correlation, of the lower triangle without its diagonal; NaN where a parcel is not usable."""
    before: Float32s | None
    """[edge] the same before cleaning."""

    @classmethod
    def of(cls, shard: Shard, found: Connectivity) -> Member:
        """Take what the group needs of a shard and its matrices."""
        before = found.matrices.get(BEFORE)
        return cls(
            subject=shard.recording.subject,
            parcels=found.parcels,
            position=shard.recording.channels.position.astype(np.float64),
            fd_mm=mean_fd(shard.recording.quality, shard.recording.noise),
            after=_edges(found.matrices[CORRELATION]),
            before=None if before is None else _edges(before),
        )


def mean_fd(quality: Mapping[str, Any], noise: Mapping[str, Target]) -> float:
    """Return a recording's mean framewise displacement, mm, over all its volumes; NaN where it is not known."""
    said = quality.get("fd_mean_mm")
    if isinstance(said, int | float):
        return float(said)
    if FD in noise and np.isfinite(noise[FD].values).any():
        return float(np.nanmean(noise[FD].values))
    return float("nan")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Connectivity of a dataset's recordings that share a parcel table."""

    members: tuple[Member, ...]
    """[recording] of the commonest parcel table."""
    others: int
    """Recordings with other parcels, which the group's figures leave out."""
    qcfc: Mapping[str, QcFc] = field(default_factory=dict)
    """By name of the matrix; empty where `why_not` says why."""
    measured: int = 0
    """Recordings that QC-FC was measured on."""
    why_not: str = ""
    """Why there is no QC-FC."""

    def write(self, path: Path) -> None:
        """Write as ``.npz``: mean correlations and QC-FC as [parcel, parcel], and the histogram of the null."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        if self.members:
            arrays["parcels"] = np.array(self.members[0].parcels, dtype=np.str_)
        for name, rows in self.correlations().items():
            arrays[f"mean_{name}"] = _square(_mean(rows), diagonal=1.0)
        for name, one in self.qcfc.items():
            arrays[f"qcfc_{name}"] = _square(one.r, diagonal=np.nan)
            arrays[f"null_{name}"] = one.null_counts.astype(np.float32)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, bins=NULL_BINS.astype(np.float32), **arrays)
        write_atomic(path, buffer.getvalue())

    def correlations(self) -> dict[str, list[Float32s]]:
        """Return the edges of every recording by the matrix's name; those before cleaning only if all have them."""
        if not self.members:
            return {}
        found = {CORRELATION: [one.after for one in self.members]}
        before = [one.before for one in self.members if one.before is not None]
        return found | ({BEFORE: before} if len(before) == len(self.members) else {})

    def facts(self) -> dict[str, Any]:
        """Return numbers for ``metrics/connectivity.json``."""
        facts: dict[str, Any] = {
            "recordings": len(self.members) + self.others,
            "other_parcels": self.others,
            "subjects": len({one.subject for one in self.members}),
            "parcels": len(self.members[0].parcels) if self.members else 0,
        }
        for name, rows in self.correlations().items():
            value = float(np.nanmedian([np.nanmedian(np.abs(row)) for row in rows]))
            facts[f"median_abs_{name}"] = rounded(value)
        if self.why_not:
            return {**facts, "qcfc": {"why_not": self.why_not}}
        after, before = self.qcfc[CORRELATION], self.qcfc.get(BEFORE)
        told: dict[str, Any] = {"recordings": self.measured, "after": _described(after)}
        if before is not None:
            told["before"] = _described(before)
            told["change"] = dict(zip(("value", "ci_low", "ci_high"), map(rounded, change(after, before)), strict=True))
        return {**facts, "qcfc": told}


@dataclass(frozen=True, kw_only=True)
class GroupArrays:
    """What `Group.write` wrote, by name of the matrix (``correlation``, ``correlation_uncleaned``)."""

    mean: Mapping[str, Float32s]
    """[parcel, parcel] correlation, the mean over recordings; NaN where none has it."""
    qcfc: Mapping[str, Float32s]
    """[parcel, parcel] NaN on the diagonal and where too few recordings have the edge."""
    null: Mapping[str, Float32s]
    """[bin] mean number of edges per permutation."""
    bins: Float32s
    """[bin + 1] edges of the null's histogram."""


def read_group(path: Path) -> GroupArrays:
    """Read what `Group.write` wrote."""
    with np.load(path, allow_pickle=False) as arrays:

        def named(kind: str) -> dict[str, Float32s]:
            return {name.removeprefix(kind): arrays[name] for name in arrays.files if name.startswith(kind)}

        return GroupArrays(mean=named("mean_"), qcfc=named("qcfc_"), null=named("null_"), bins=arrays["bins"])


def group_of(members: Sequence[Member], *, settings: ConnectivitySettings) -> Group:
    """Put recordings together and measure QC-FC, where enough of them have framewise displacement."""
    if not members:
        return Group(members=(), others=0, why_not="no recording has a matrix")
    common, _ = Counter(one.parcels for one in members).most_common(1)[0]
    same = tuple(one for one in members if one.parcels == common)
    group = Group(members=same, others=len(members) - len(same))
    moved = [one for one in same if np.isfinite(one.fd_mm)]
    why_not = ""
    if len(moved) < settings.min_recordings_qcfc:
        why_not = (
            f"{len(moved)} recordings with framewise displacement, QC-FC needs {settings.min_recordings_qcfc} "
            "(connectivity.min_recordings_qcfc)"
        )
    elif np.ptp([one.fd_mm for one in moved]) == 0:
        why_not = f"mean framewise displacement is the same in all {len(moved)} recordings"
    elif len(common) < 2 or not _shared(moved, least=settings.min_recordings_qcfc).any():
        why_not = f"no edge is known in {settings.min_recordings_qcfc} recordings"
    if why_not:
        return Group(members=same, others=group.others, why_not=why_not)
    fd = np.array([one.fd_mm for one in moved])
    distance = _distance(moved[0].position)
    qcfc = {CORRELATION: qc_fc(np.stack([one.after for one in moved]), fd, distance=distance, settings=settings)}
    before = [one.before for one in moved if one.before is not None]
    if len(before) == len(moved):
        qcfc[BEFORE] = qc_fc(np.stack(before), fd, distance=distance, settings=settings)
    return Group(members=same, others=group.others, qcfc=qcfc, measured=len(moved))


def rounded(value: float) -> float | None:
    """Keep four digits: the last ones differ from processor to processor. None stands for what is not known."""
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None


def _described(one: QcFc) -> dict[str, Any]:
    def values(estimate: Estimate) -> Iterator[tuple[str, float | None]]:
        for name, value in asdict(estimate).items():
            yield name, rounded(value)

    return {"edges": int(np.isfinite(one.r).sum()), **{n: dict(values(e)) for n, e in sorted(one.estimates.items())}}


def _shared(members: Sequence[Member], *, least: int) -> npt.NDArray[np.bool_]:
    count = np.sum([np.isfinite(one.after) for one in members], axis=0)
    return np.asarray(count >= least)


def _edges(matrix: Float32s) -> Float32s:
    return matrix[np.tril_indices(len(matrix), k=-1)]


def _square(edges: npt.NDArray[np.floating], *, diagonal: float) -> Float32s:
    """[edge] back to [parcel, parcel]."""
    parcels = round((1 + (1 + 8 * len(edges)) ** 0.5) / 2)
    matrix = np.full((parcels, parcels), diagonal, dtype=np.float32)
    rows, columns = np.tril_indices(parcels, k=-1)
    matrix[rows, columns] = matrix[columns, rows] = edges
    return matrix


def _mean(rows: Sequence[Float32s]) -> npt.NDArray[np.float64]:
    """Average over the recordings that have an edge; NaN for edges that none has."""
    total = np.zeros(len(rows[0]))
    count = np.zeros(len(rows[0]))
    for row in rows:
        known = np.isfinite(row)
        total[known] += row[known]
        count += known
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count > 0, total / count, np.nan), dtype=np.float64)


def _distance(position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    rows, columns = np.tril_indices(len(position), k=-1)
    return np.asarray(np.linalg.norm(position[rows] - position[columns], axis=1), dtype=np.float64)

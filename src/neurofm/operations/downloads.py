"""What would be downloaded from the package index, said before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurofm.catalog import CatalogEntry, RegistrySource
from neurofm.fetch import is_whole, package_path


@dataclass(frozen=True, kw_only=True)
class PlannedDownload:
    """One package of which datasets need files."""

    filename: str
    size: int
    """Bytes."""
    datasets: tuple[str, ...]
    already_there: bool
    """Nothing has to come over the network: the package is kept, or all wanted files are in place."""


def download_plan(entries: Iterable[CatalogEntry], *, root: Path) -> list[PlannedDownload]:
    """Return the packages that the datasets need, largest first; each is downloaded once.

    Parameters
    ----------
    entries
        Catalogue entries; those of local folders need no download.
    root
        The project's root, under which ``.neurofm/packages`` and ``data/raw`` are looked at, digests and all.
    """
    users: dict[str, list[tuple[str, RegistrySource]]] = {}
    for entry in entries:
        if isinstance(entry.source, RegistrySource):
            users.setdefault(entry.source.filename, []).append((entry.id, entry.source))
    plan = [
        PlannedDownload(
            filename=filename,
            size=wanted[0][1].size,
            datasets=tuple(dataset for dataset, _ in wanted),
            already_there=_package_is_there(wanted[0][1], root=root)
            or all(_files_are_there(dataset, source, root=root) for dataset, source in wanted),
        )
        for filename, wanted in users.items()
    ]
    return sorted(plan, key=lambda download: (-download.size, download.filename))


def plan_lines(plan: Sequence[PlannedDownload]) -> list[str]:
    """Render a plan as lines of text, the total first."""
    to_come = [download for download in plan if not download.already_there]
    if not to_come:
        return ["Nothing to download: every file of the datasets is here."]
    total_mb = sum(download.size for download in to_come) / 1e6
    lines = [f"To download: {total_mb:.1f} MB in {len(to_come)} packages from the package index"]
    for download in plan:
        note = ", already here" if download.already_there else ""
        lines.append(f"  {download.size / 1e6:6.1f} MB  {download.filename} ({', '.join(download.datasets)}){note}")
    return lines


def _package_is_there(source: RegistrySource, *, root: Path) -> bool:
    return is_whole(package_path(source, work=root / ".neurofm"), size=source.size, sha256=source.sha256)


def _files_are_there(dataset: str, source: RegistrySource, *, root: Path) -> bool:
    raw = root / "data" / "raw" / dataset
    return all(is_whole(raw / file.path, size=file.size, sha256=file.sha256) for file in source.files)

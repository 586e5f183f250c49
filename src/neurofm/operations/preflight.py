"""What a run costs, said before it starts: downloads, disk, hours, price, and what would stop it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table

from neurofm.catalog import (
    CatalogEntry,
    CrcnsSource,
    LocalSource,
    RegistrySource,
    S3Source,
    groups_wanted,
    load_entry,
)
from neurofm.catalog.terms import require_terms
from neurofm.derivatives.dataset import DERIVATIVES, chosen_participants, surroundings_of
from neurofm.derivatives.methods import method_of
from neurofm.errors import UserError
from neurofm.fetch.ledger import FileState, Ledger
from neurofm.fetch.origins import crcns_login
from neurofm.fetch.signing import Signer
from neurofm.fetch.surroundings import Surroundings
from neurofm.ingest.recording import reader_input
from neurofm.operations.downloads import PlannedDownload
from neurofm.operations.extent import Extent, extent_of, extent_of_folder
from neurofm.operations.status import LEDGER
from neurofm.operations.tables import count_text, hours_text, is_wide, name_cell, size_text, table
from neurofm.params import GROUPS, Dataset, Params, Site
from neurofm.readers import outside_inputs, reader_options, reads_outside
from neurofm.recording import Modality, UnitStatus
from neurofm.sources import is_pinned, read_manifest
from neurofm.sources.local import how_to_get, is_folder
from neurofm.units import ExecutorName, read_receipts
from neurofm.units.slurm_queue import require_slurm, would_refuse

_KEPT = {"datasets": "raw kept", "streamed": "streamed", "local": "read in place"}
"""What happens to raw files, by group."""
RAW = Path("data/raw")
COPIES = 2
"""DVC's cache holds a second copy of what is kept, where the filesystem cannot share blocks."""
_SHARD_SHARE = {
    Modality.SPIKES: 0.15,
    Modality.CALCIUM: 0.08,
    Modality.MINISCOPE: 0.05,
    Modality.FMRI: 0.01,
    Modality.EEG: 0.06,
    Modality.MEG: 0.09,
}
"""Bytes of shards per byte of raw files, measured on the sample datasets (the largest of each modality)."""
_SHARD_SHARE_OF_READER = {"tables": 0.4}
"""The same for formats that hold little else than what goes into the shard."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one dataset will cost. None is what nobody knows before."""

    dataset: str
    archive: str
    group: str
    """`datasets`, `streamed` or `local`."""
    files: int | None
    to_come: int | None
    """Bytes over the network."""
    kept: int | None
    """Bytes that stay: shards, and raw files under `datasets`; what a remote would hold."""
    passing: int | None
    """Most bytes that raw files of a streamed dataset take on the way; one dataset is streamed after the other."""
    raw_bytes: int | None
    """Of the raw files of all recordings that take part, wherever they are."""
    recordings: int | None
    shards: int | None
    """Bytes of all shards, those that are not made yet by their usual share."""
    raw_missing: int | None
    shards_missing: int | None
    """Bytes of `kept` that are not on this disk yet: raw files, and shards."""
    about: bool
    """The figures are the catalogue's expectations or were scaled, not counted."""
    at_most: bool = False
    """Only chosen groups of its files come, and what these take nobody knows before: sizes are of whole files."""
    problems: tuple[str, ...] = ()
    """Why a run could not succeed, each with its mend."""

    @property
    def missing(self) -> int | None:
        """Bytes of `kept` that are not on this disk yet."""
        return (
            None if self.raw_missing is None or self.shards_missing is None else self.raw_missing + self.shards_missing
        )

    @property
    def peak(self) -> int | None:
        """Most bytes on this disk at any time: what is kept, DVC's copy of it, and raw files in passing."""
        return None if self.kept is None or self.passing is None else self.kept * COPIES + self.passing


def forecast(
    params: Params, plan: Sequence[PlannedDownload], *, site: Site, root: Path, look_for_problems: bool = True
) -> list[Forecast]:
    """Foretell what each dataset of ``params.yaml`` costs, in their order; nothing is asked and nothing fetched.

    Sizes are those of the manifest where there is one, else of the pins, else what the catalogue expects.

    Parameters
    ----------
    params
        Which datasets.
    plan
        Packages to download (`download_plan`); one that serves several datasets counts with the first.
    site
        Bandwidth, price, disk budget.
    root
        The project's root.
    look_for_problems
        Whether readers, terms and logins are tried, which takes seconds; without, only sizes are told.
    """
    packages = {item.datasets[0]: item.size for item in plan if not item.already_there}
    return [
        _forecast(
            load_entry(dataset, root=root),
            group,
            chosen,
            site=site,
            root=root,
            packages=packages,
            made={DERIVATIVES / name for name in params.derivatives},
            look_for_problems=look_for_problems,
        )
        for group in GROUPS
        for dataset, chosen in getattr(params, group).items()
    ]


def disk_problem(forecasts: Sequence[Forecast], *, root: Path) -> str:
    """Say if what is still to be written does not fit on this disk; empty if it does, or nobody knows."""
    needed = _together([item.missing for item in forecasts], [item.passing for item in forecasts])
    free = shutil.disk_usage(root).free
    if needed <= free:
        return ""
    most = "at most " if any(item.at_most for item in forecasts) else ""
    return (
        f"disk: {most}{size_text(needed)} will be written here, {size_text(free)} are free. Mend: free some disk, take "
        "fewer subjects (`max_subjects`), move large datasets to `streamed`, or lower `disk_budget_gb` in site.yaml"
    )


def executor_problems(params: Params, *, site: Site) -> list[str]:
    """Say why recordings could not be worked on where site.yaml has it; Slurm is asked, and given nothing."""
    if site.executor is not ExecutorName.SLURM:
        return []
    try:
        require_slurm()
    except UserError as error:
        return [str(error)]
    reasons = {
        modality: would_refuse(site.slurm, site.slurm.of(modality))
        for modality in sorted({chosen.modality for chosen in params.all_datasets.values()})
    }
    return [
        f"site.yaml: Slurm would not take what `slurm` asks for {modality}: {reason}. Mend: correct it; "
        "`sinfo` and docs/cluster.md tell what it may say"
        for modality, reason in reasons.items()
        if reason
    ]


def derivatives_problems(params: Params, *, site: Site, root: Path) -> list[str]:
    """Say why participants could not be preprocessed: folder, names, licence, templates, engine, image.

    Where all have succeeded nothing is needed; if they are not up to date after all, their stage says the same.
    """
    problems = []
    here = surroundings_of(root, engine=site.engine, fmriprep_docker=site.fmriprep_docker)
    made = {str(RAW / name) for name in params.bids}
    for name, chosen in params.derivatives.items():
        try:
            if chosen.bids not in made or (root / chosen.bids).is_dir():
                wanted = {f"sub-{participant.label}" for participant in chosen_participants(chosen, root=root)}
                receipts = read_receipts(root / "data" / "receipts" / f"{name}.jsonl")
                done = {unit for unit, receipt in receipts.items() if receipt.status is UnitStatus.SUCCEEDED}
                if wanted <= done:
                    continue
            method_of(chosen).require(chosen, here, runs_here=site.executor is ExecutorName.LOCAL)
        except UserError as error:
            problems.append(f"derivatives.{name}: {error}")
    return problems


def reference_problems(params: Params) -> list[str]:
    """Say which published models could not be trained beside ours, before hours go into what comes first."""
    if not params.evaluate.references:
        return []
    from neurofm.evaluation.references import check_references  # noqa: PLC0415  # Loads torch.

    try:
        check_references(params.evaluate)
    except UserError as error:
        return [str(error)]
    return []


def _together(kept: Sequence[int | None], passing: Sequence[int | None]) -> int:
    """Return the bytes that all datasets take on this disk, as far as they are known."""
    return sum(size or 0 for size in kept) * COPIES + max((size or 0 for size in passing), default=0)


def forecast_table(forecasts: Sequence[Forecast], *, site: Site, width: int) -> Table:
    """Render what a run costs, with totals; what nobody knows is ``?`` and makes the totals lower bounds."""
    right: Literal["right"] = "right"
    numbers = (("files", right), ("to come", right), ("disk", right), ("hours", right), ("per month", right))
    wide = is_wide(width)
    made = table(*(("dataset", "archive", "raw files") if wide else ("dataset",)), *numbers, width=width)
    for item in forecasts:
        facts = (item.archive, _KEPT[item.group])
        made.add_row(
            *((item.dataset, *facts) if wide else (name_cell(item.dataset, f"{', '.join(facts)}", width=width),)),
            f"{'~' if item.about and item.files is not None else ''}{count_text(item.files)}",
            _at_most(size_text(item.to_come, about=item.about and bool(item.to_come)), item),
            _at_most(size_text(item.peak, about=True), item),
            _at_most(hours_text(_hours(item.to_come, site)), item),
            _price_text(item.kept, site),
        )
    to_come = sum(item.to_come or 0 for item in forecasts)
    made.add_section()
    made.add_row(
        *(("all", "", "") if wide else ("all",)),
        _at_least(count_text(sum(item.files or 0 for item in forecasts)), [item.files for item in forecasts]),
        _at_least(size_text(to_come), [item.to_come for item in forecasts]),
        _at_least(
            size_text(_together([item.kept for item in forecasts], [item.passing for item in forecasts])),
            [item.peak for item in forecasts],
        ),
        _at_least(hours_text(_hours(to_come, site)), [item.to_come for item in forecasts]),
        _at_least(_price_text(sum(item.kept or 0 for item in forecasts), site), [item.kept for item in forecasts]),
        style="bold",
    )
    return made


def legend(forecasts: Sequence[Forecast], *, site: Site) -> str:
    """Say what the table's figures rest on."""
    rates = f"hours at {site.bandwidth_mb_s:g} MB/s, {site.price_per_gb_month:g} per GB and month"
    lines = [f"{rates} (site.yaml). disk: shards by their usual share, and DVC's copy of all that is kept."]
    if any(item.group == "streamed" for item in forecasts):
        lines.append(f"Raw files of streamed datasets never take more than {site.disk_budget_gb:g} GB.")
    if any(item.at_most for item in forecasts):
        lines.append("<: at most; only chosen groups of these files come (`source.groups`), sizes are of whole files.")
    if any(item.about for item in forecasts):
        lines.append("~: what the catalogue expects, not counted.")
    if any(item.to_come is None or item.kept is None for item in forecasts):
        lines.append("?: not known before the manifest is made.")
    return " ".join(lines)


def _forecast(
    entry: CatalogEntry,
    group: str,
    chosen: Dataset,
    *,
    site: Site,
    root: Path,
    packages: Mapping[str, int],
    made: Container[Path],
    look_for_problems: bool,
) -> Forecast:
    problems = list(_problems(entry, made=made, site=site, root=root)) if look_for_problems else []
    try:
        extent = extent_of(entry, root=root).of_subjects(chosen.max_subjects)
        if extent.basis != "manifest" and _is_there(entry, made=made, root=root):
            extent = extent_of_folder(entry, root=root, max_subjects=chosen.max_subjects)
    except UserError as error:
        problems.append(str(error))
        extent = Extent(files=None, bytes=None, basis="unknown")
    to_come = _to_come(entry, extent, group=group, root=root, packages=packages)
    budget = round(site.disk_budget_gb * 1e9)
    raw = {"datasets": extent.bytes, "streamed": 0, "local": 0}[group]
    passing = 0 if group != "streamed" else None if to_come is None else min(to_come, budget)
    shards_here = _folder_size(root / "data" / "shards" / entry.id)
    shards = shards_here or (None if extent.bytes is None else round(extent.bytes * _shard_share(entry)))
    kept = None if raw is None or shards is None else raw + shards
    raw_missing = to_come if group == "datasets" else 0
    shards_missing = 0 if shards_here else shards
    return Forecast(
        dataset=entry.id,
        archive=entry.source.archive,
        group=group,
        files=extent.files,
        to_come=to_come,
        kept=kept,
        passing=passing,
        raw_bytes=extent.bytes,
        shards=shards,
        recordings=extent.recordings,
        raw_missing=raw_missing,
        shards_missing=shards_missing if raw_missing is not None else None,
        about=extent.basis == "entry",
        at_most=bool(groups_wanted(entry.source)),
        problems=tuple(problems),
    )


def _is_there(entry: CatalogEntry, *, made: Container[Path], root: Path) -> bool:
    """Whether a dataset is a folder of the user's that can be counted: not one that a stage may still be filling."""
    source = entry.source
    return isinstance(source, LocalSource) and Path(source.path) not in made and is_folder(root / source.path)


def _problems(entry: CatalogEntry, *, made: Container[Path], site: Site, root: Path) -> Iterator[str]:
    """Yield every reason for which a run of this dataset could not succeed."""
    where = f"data/catalog/{entry.id}.yaml"
    source = entry.source
    checks: list[Callable[[], object]] = [
        lambda: _require_reader(entry, root=root),
        lambda: require_terms(entry),
        lambda: _require_credentials(entry, site=site),
    ]
    for check in checks:
        try:
            check()
        except UserError as error:
            yield f"{entry.id}: {str(error).removeprefix(f'{entry.id}: ')}"
    if not is_pinned(source):
        yield f"{where}: version {source.version!r} can change at any time. Mend: neurofm catalog pin {entry.id}"
    made_here = isinstance(source, LocalSource) and Path(source.path) in made
    if isinstance(source, LocalSource) and not made_here and not is_folder(root / source.path):
        yield f"{where}: {root / source.path} is not a folder. Mend: {how_to_get(source)}"


def _require_reader(entry: CatalogEntry, *, root: Path) -> None:
    """Refuse what the reader will refuse: its options and, once there is a manifest, an atlas that is not here."""
    reader_options(entry.reader, entry.reader_options, where=f"data/catalog/{entry.id}.yaml: reader_options")
    manifest = root / "data" / "manifests" / f"{entry.id}.json"
    if reads_outside(entry.reader) and manifest.is_file():
        for recording in read_manifest(manifest).recordings[:1]:
            source = reader_input(entry, recording, root=root / "data" / "raw" / entry.id)
            outside_inputs(entry.reader, source, entry.reader_options)


def _require_credentials(entry: CatalogEntry, *, site: Site) -> None:
    """Refuse where a login is wanted and there is none; the variables to set are named."""
    source, hosts = entry.source, site.fetch.hosts
    if isinstance(source, CrcnsSource):
        crcns_login(site.fetch, Surroundings())
    if isinstance(source, S3Source) and hosts.place(source.bucket).signed:
        Signer().headers("GET", hosts.object_url(source.bucket, ""), region=hosts.place(source.bucket).region)


def _to_come(entry: CatalogEntry, extent: Extent, *, group: str, root: Path, packages: Mapping[str, int]) -> int | None:
    """Return the bytes that must come over the network."""
    if isinstance(entry.source, RegistrySource):
        return packages.get(entry.id, 0)
    if group == "local":
        return 0
    return None if extent.bytes is None else max(0, extent.bytes - _bytes_here(entry.id, group=group, root=root))


def _bytes_here(dataset: str, *, group: str, root: Path) -> int:
    """Return the bytes that need not come again: consumed, or verified and still there. Needs little memory."""
    path = root / LEDGER
    if not path.is_file():
        return 0
    raw = root / "data" / "raw" / dataset
    here = 0
    with Ledger.open(path) as ledger:
        for row in ledger.rows(dataset):
            consumed = row.state is FileState.CONSUMED and group == "streamed"
            if consumed or (row.state is FileState.VERIFIED and _has_size(raw / row.path, row.size)):
                here += row.size
    return here


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.zarr.zip"))


def _shard_share(entry: CatalogEntry) -> float:
    return _SHARD_SHARE_OF_READER.get(entry.reader, _SHARD_SHARE[entry.modality])


def _hours(size: int | None, site: Site) -> float | None:
    return None if size is None else size / (site.bandwidth_mb_s * 1e6) / 3600


def _price_text(size: int | None, site: Site) -> str:
    return "?" if size is None else f"{size / 1e9 * site.price_per_gb_month:,.2f}".replace(",", " ")


def _at_most(text: str, item: Forecast) -> str:
    return f"<{text}" if item.at_most and text not in {"?", "0", "0 B"} and not text.startswith("<") else text


def _at_least(text: str, values: Sequence[int | None]) -> str:
    return f">{text}" if None in values else text

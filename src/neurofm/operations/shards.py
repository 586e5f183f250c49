"""What lies in the shards: sizes and compression, chunks that are damaged, and making those again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from neurofm.errors import UserError
from neurofm.operations.tables import name_cell, size_text, table
from neurofm.params import Params
from neurofm.progress import Progressing
from neurofm.recording import Unreadable
from neurofm.shards.packed import PackedShard
from neurofm.sources import read_manifest

_SET_ASIDE = Path(".neurofm") / "damaged"


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A shard that is not whole."""

    path: Path
    """Of the shard, below the project's root."""
    reasons: tuple[str, ...]
    """One sentence each, naming recording, array and chunk."""


@dataclass(kw_only=True)
class Contents:
    """What one dataset's shards hold."""

    dataset: str
    shards: int = 0
    hours: float = 0.0
    file_bytes: int = 0
    signal_bytes: int = 0
    """Of all signals as they lie on disk."""
    decoded_bytes: int = 0
    """Of all signals in memory, 1 or 2 bytes per sample."""
    stimulus_bytes: int = 0
    """Of all frames shown, in memory, 1 byte per pixel."""
    error_sd: float = 0.0
    """Largest error of quantisation, in SDs of a channel; 0 for counts."""
    channels: set[int] = field(default_factory=set)
    unreadable: int = 0

    @property
    def ratio(self) -> float:
        """How many times smaller the signals lie on disk than in memory."""
        return self.decoded_bytes / self.signal_bytes if self.signal_bytes else 0.0


def shard_paths(params: Params, *, root: Path, dataset: str | None) -> dict[str, list[Path]]:
    """Return the shards of the datasets of params.yaml, or of one, as their manifests name them.

    Raises
    ------
    UserError
        If params.yaml has no such dataset, or nothing has been made yet.
    """
    known = [*params.datasets, *params.streamed, *params.local]
    if dataset is not None and dataset not in known:
        raise UserError(f"params.yaml has no dataset {dataset!r}.", mend=f"name one of {', '.join(known) or 'none'}")
    found: dict[str, list[Path]] = {}
    for name in [dataset] if dataset is not None else known:
        manifest = root / "data" / "manifests" / f"{name}.json"
        folder = root / "data" / "shards" / name
        if manifest.is_file() and folder.is_dir():
            recordings = read_manifest(manifest).recordings
            paths = [folder / f"{recording.id}.zarr.zip" for recording in recordings]
            found[name] = [path for path in paths if path.is_file()]
    if not any(found.values()):
        raise UserError(f"no shards of {dataset or 'any dataset'} are here.", mend="dvc repro, or neurofm pull")
    return found


def damaged_shards(paths: Sequence[Path]) -> Iterator[Damage]:
    """Read every chunk of every array of `paths` and yield the shards of which some chunk is not whole."""
    total = sum(path.stat().st_size for path in paths)
    with Progressing("shards", total=total, unit="bytes") as progress:
        for path in paths:
            reasons = tuple(_reasons(path))
            if reasons:
                yield Damage(path=path, reasons=reasons)
            progress.advance(path.stat().st_size)


def _reasons(path: Path) -> Iterator[str]:
    try:
        shard = PackedShard(path)
        shard.attributes()
        for name in shard.names:
            yield from shard.array(name).damaged()
    except Unreadable as error:
        yield str(error)


def set_aside(damage: Damage, *, root: Path) -> Path:
    """Move a damaged shard out of the dataset's folder, so that the next run makes it again; returns where it is."""
    place = root / _SET_ASIDE / damage.path.parent.name / damage.path.name
    place.parent.mkdir(parents=True, exist_ok=True)
    damage.path.replace(place)
    return place


def contents_of(dataset: str, paths: Sequence[Path]) -> Contents:
    """Sum up what `paths` hold, from their tables of contents alone."""
    found = Contents(dataset=dataset)
    for path in paths:
        try:
            shard = PackedShard(path)
            attrs, signal = shard.attributes(), shard.array("signal")
        except Unreadable:
            found.unreadable += 1
            continue
        found.shards += 1
        found.hours += signal.shape[0] / float(attrs["sampling_rate_hz"]) / 3600
        found.file_bytes += path.stat().st_size
        found.signal_bytes += signal.stored_bytes
        found.decoded_bytes += signal.decoded_bytes
        if "stimulus/frames" in shard.names:
            found.stimulus_bytes += shard.array("stimulus/frames").decoded_bytes
        found.error_sd = max(found.error_sd, float(attrs["quality"].get("quantisation_error_sd", 0.0)))
        found.channels.add(signal.shape[1])
    return found


def contents_table(contents: Sequence[Contents], *, width: int) -> Table:
    """Render what each dataset's shards hold."""
    columns = ["shards", "hours", "channels", "files", "signals", "in memory", "ratio", "error (SD)"]
    # Few datasets keep what was shown; where one does, its frames are what fills memory.
    shown = any(found.stimulus_bytes for found in contents)
    columns += ["frames"] if shown else []
    made = table("dataset", *((column, "right") for column in columns), width=width)
    for found in contents:
        low, high = min(found.channels, default=0), max(found.channels, default=0)
        made.add_row(
            name_cell(found.dataset, width=width),
            str(found.shards) + (f" ({found.unreadable} damaged)" if found.unreadable else ""),
            f"{found.hours:.2f}",
            str(low) if low == high else f"{low}-{high}",
            size_text(found.file_bytes),
            size_text(found.signal_bytes),
            size_text(found.decoded_bytes),
            f"{found.ratio:.1f}",
            f"{found.error_sd:.2g}",
            *([size_text(found.stimulus_bytes)] if shown else []),
        )
    return made

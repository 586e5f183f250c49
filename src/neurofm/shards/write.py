"""Write a recording as one Zarr v3 group in one stored zip, the same bytes for the same recording."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from neurofm.files import write_atomic
from neurofm.recording import Events, Modality, Recording, Stimulus, Target
from neurofm.shards.quantise import quantise

SCHEMA = "neurofm-recording/1"
VERSION = "3"
"""Counts the ways this module has laid out the same schema."""

CHUNK_BYTES = 131_072
"""Decoded bytes of an inner chunk, at least a row: what one read decodes. Less does not compress, more of it does not
compress better (docs/loader.md)."""
_DRAWN_FROM = frozenset({"signal", "frames"})
"""Arrays that training decodes again and again. lz4hc gives them back three times as fast as zstd 7 does: counts are 10
times smaller instead of 17 times, int16 1.66 instead of 1.8 times (`make bench-loader`, docs/loader.md). Below
level 5 blosc gives up on int16 data and stores it raw; bits instead of bytes shuffled halve the speed."""
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a recording comes from and on which terms."""

    archive: str
    source_id: str
    version: str
    files: tuple[tuple[str, str], ...]
    """(path, ``sha256:<hex>``) of every input file."""
    licence: str
    citation: str
    libraries: Mapping[str, str]
    """Versions of the libraries that touched the values."""
    container_digest: str = ""


def write_shard(recording: Recording, *, provenance: Provenance, path: Path) -> None:
    """Write `recording` to `path` (``<recording>.zarr.zip``), atomically.

    Spike counts are stored as uint8, everything else as int16 with a scale and an offset per channel.

    Raises
    ------
    ValueError
        If the recording has no signal, or its signal cannot be stored within `quantise.MAX_ERROR_SD` or does not get
        smaller by compression.
    """
    signal = recording.signal
    if signal is None:
        raise ValueError("a recording needs a signal to become a shard; preprocessing makes it")
    if recording.modality is Modality.SPIKES:
        channels = len(recording.channels)
        stored: npt.NDArray[Any] = signal.values.astype(np.uint8)
        scale, offset, error = np.ones(channels), np.zeros(channels), 0.0
    else:
        quantised = quantise(signal.values.astype(np.float64))
        stored, scale, offset, error = quantised.stored, quantised.scale, quantised.offset, quantised.max_error_sd
    samples = len(stored)
    valid = recording.valid if recording.valid is not None else np.ones(samples, dtype=np.bool_)
    row_bytes = max(1, stored[:1].nbytes)
    chunk = max(1, min(samples, CHUNK_BYTES // row_bytes))

    entries: dict[str, Buffer] = {}
    store = MemoryStore(entries)
    group = zarr.create_group(store, zarr_format=3, attributes=_attributes(recording, provenance, error))
    _array(group, "signal", stored, chunk=chunk, names=("time", "channel"))
    _refuse_raw(entries, stored)
    _array(group, "valid", valid, chunk=chunk, names=("time",))
    table = group.create_group("channels", attributes=_channel_attributes(recording))
    _array(table, "position", recording.channels.position.astype(np.float32), names=("channel", "xyz"))
    _array(table, "scale", scale, names=("channel",))
    _array(table, "offset", offset, names=("channel",))
    for name in sorted(recording.channels.quality):
        column = recording.channels.quality[name].astype(np.float32)
        _array(table, f"quality/{name}", column, names=("channel",))
    for name in sorted(recording.extra_signals):
        extra = quantise(recording.extra_signals[name].values.astype(np.float64))
        extras = group.create_group(f"extra/{name}")
        _array(extras, "signal", extra.stored, chunk=chunk, names=("time", "channel"))
        _array(extras, "scale", extra.scale, names=("channel",))
        _array(extras, "offset", extra.offset, names=("channel",))
    if recording.spikes is not None:
        observed = {"start_s": recording.spikes.start_s, "stop_s": recording.spikes.stop_s}
        spikes = group.create_group("spikes", attributes=observed)
        _array(spikes, "time_s", recording.spikes.time_s.astype(np.float64), names=("spike",))
        _array(spikes, "channel", recording.spikes.channel.astype(np.uint32), names=("spike",))
    for kind, series in (("targets", recording.targets), ("noise", recording.noise)):
        _write_series(group, kind, series, samples=samples, chunk=chunk)
    if recording.events is not None:
        _write_events(group, recording.events)
    if recording.stimulus is not None:
        _write_stimulus(group, recording.stimulus, samples=samples, chunk=chunk)
    write_atomic(path, asyncio.run(_zipped(store)))


def _refuse_raw(entries: Mapping[str, Buffer], stored: npt.NDArray[Any]) -> None:
    """Raise ValueError where the signal lies as large on disk as in memory: the codec gave up on it."""
    # A signal of less than a chunk is mostly the description of itself.
    if stored.nbytes >= CHUNK_BYTES and len(entries["signal/c/0/0"]) >= stored.nbytes:
        raise ValueError(f"compression leaves the signal's {stored.nbytes} bytes as they are")


def _write_events(group: zarr.Group, events: Events) -> None:
    """Store events: texts among the attributes, the numbers of all columns in one [event, column] array."""
    numbers = {name: column for name, column in events.columns.items() if not isinstance(column, tuple)}
    texts = {name: list(column) for name, column in events.columns.items() if isinstance(column, tuple)}
    attributes: dict[str, Any] = {"label": list(events.label)}
    # Names of columns are anybody's words, not fit for names of arrays; without columns nothing is said of them.
    attributes |= {"texts": dict(sorted(texts.items()))} if texts else {}
    attributes |= {"number_columns": sorted(numbers)} if numbers else {}
    stored = group.create_group("events", attributes=attributes)
    _array(stored, "onset_s", events.onset_s.astype(np.float64), names=("event",))
    _array(stored, "duration_s", events.duration_s.astype(np.float64), names=("event",))
    if numbers:
        values = np.column_stack([numbers[name].astype(np.float64) for name in sorted(numbers)])
        _array(stored, "numbers", values, names=("event", "column"))


def _write_series(group: zarr.Group, kind: str, series: Mapping[str, Target], *, samples: int, chunk: int) -> None:
    """Store what was measured along with the signal, one array each."""
    for name in sorted(series):
        target = series[name]
        if len(target.values) != samples:
            raise ValueError(f"{kind}/{name} has {len(target.values)} samples, the signal {samples}")
        _array(
            group,
            f"{kind}/{name}",
            target.values.astype(np.float32),
            chunk=chunk,
            names=("time", "k"),
            attributes={"unit": target.unit, "columns": list(target.columns)},
        )


def _write_stimulus(group: zarr.Group, stimulus: Stimulus, *, samples: int, chunk: int) -> None:
    """Store frames in chunks of whole frames, and for each sample the one that was seen."""
    if len(stimulus.shown) != samples:
        raise ValueError(f"the stimulus has {len(stimulus.shown)} samples, the signal {samples}")
    stored = group.create_group("stimulus")
    frame_bytes = max(1, stimulus.frames[:1].nbytes)
    frames = -(-CHUNK_BYTES // frame_bytes)
    _array(stored, "frames", stimulus.frames, chunk=frames, names=("frame", "height", "width"))
    _array(stored, "shown", stimulus.shown, chunk=chunk, names=("time",))


def _attributes(recording: Recording, provenance: Provenance, error_sd: float) -> dict[str, Any]:
    signal = recording.signal
    assert signal is not None
    return {
        "schema": SCHEMA,
        "dataset": recording.dataset,
        "subject": recording.subject,
        "session": recording.session,
        "run": recording.run,
        "task": recording.task,
        "species": recording.species,
        "modality": recording.modality.value,
        "sampling_rate_hz": signal.sampling_rate_hz,
        "start_s": signal.start_s,
        "units": signal.units,
        "licence": provenance.licence,
        "citation": provenance.citation,
        "clock": asdict(recording.clock),
        "source": {
            "archive": provenance.archive,
            "id": provenance.source_id,
            "version": provenance.version,
            "files": [{"path": path, "digest": digest} for path, digest in provenance.files],
        },
        "pipeline": {
            "steps": [asdict(step) | {"params": dict(step.params)} for step in recording.steps],
            "libraries": dict(provenance.libraries),
            "container_digest": provenance.container_digest,
            "shard_version": VERSION,
        },
        "quality": dict(recording.quality) | {"quantisation_error_sd": float(f"{error_sd:.3g}")},
        "scalars": dict(recording.scalars),
    }


def _channel_attributes(recording: Recording) -> dict[str, Any]:
    channels = recording.channels
    return {
        "id": list(channels.id),
        "region": list(channels.region),
        "position_unit": channels.position_unit,
        "space": channels.space,
    }


def _array(
    group: zarr.Group,
    name: str,
    values: npt.NDArray[Any],
    *,
    names: tuple[str, ...],
    chunk: int | None = None,
    attributes: dict[str, Any] | None = None,
) -> None:
    """Store `values` as one Zarr shard of inner chunks of `chunk` rows, compressed and checksummed."""
    rows = max(1, len(values))
    inner = (min(chunk or rows, rows), *(max(1, size) for size in values.shape[1:]))
    whole = (-(-rows // inner[0]) * inner[0], *inner[1:])
    itemsize = values.dtype.itemsize
    drawn = name.rpartition("/")[2] in _DRAWN_FROM
    blosc = (
        BloscCodec(cname="lz4hc", clevel=9, shuffle="shuffle", typesize=itemsize)
        if drawn
        else BloscCodec(cname="zstd", clevel=7, shuffle="bitshuffle" if itemsize == 1 else "shuffle", typesize=itemsize)
    )
    codecs: tuple[BytesBytesCodec, ...] = (blosc, Crc32cCodec())
    # More threads than one could cut the blocks differently.
    numcodecs.blosc.set_nthreads(1)
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=inner,
        shards=whole,
        compressors=codecs,
        fill_value=0,
        dimension_names=names,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )
    if values.size:
        array[...] = values


async def _zipped(store: MemoryStore) -> bytes:
    """All keys of `store` in one uncompressed zip: sorted entries, fixed dates and modes."""
    buffer = io.BytesIO()
    prototype = default_buffer_prototype()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for key in sorted([key async for key in store.list()]):
            content = await store.get(key, prototype)
            assert content is not None
            entry = zipfile.ZipInfo(key, date_time=_ZIP_DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content.to_bytes())
    return buffer.getvalue()

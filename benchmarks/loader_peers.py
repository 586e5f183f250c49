"""Other libraries reading the loader benchmark's windows: ``python -m benchmarks.loader_peers SETTINGS``.

Runs in the environment of one library (`benchmarks.loader_environments`) and prints JSON rows. Each gets the layout
that suits it: Zarr chunks as long as a window, HDF5 contiguous and in chunks as long as a window with the cache of
chunks off (windows come again here, but their chunks would not in a corpus that is larger than memory). Libraries that
only hand out what they were given (litdata, MosaicML, webdataset) get windows cut beforehand, one after the other, and
are iterated over in their own shuffled order: they cannot begin a window anywhere.

Libraries are imported by name inside functions, since each environment has only its own.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loader_windows import (
    BATCH,
    Array,
    Case,
    Corpus,
    Row,
    Serve,
    Timing,
    Windows,
    affordable,
    cases,
    corpora,
    forget,
    one_by_one,
    printed,
    time_round,
)

ROUNDS, COLD_ROUNDS = 5, 3
Read = Callable[[int, int, Array], None]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A library and how it stores and reads."""

    make: Callable[[Array, Path, Corpus], None]
    """Store [session, row, channel] in a folder."""
    open: Callable[[Path, Corpus], Any]
    """Return a `Read`, or for `fixed` an iterable of windows."""
    fixed: bool = False
    """Whether windows are cut beforehand."""


def make_zarr(values: Array, folder: Path, corpus: Corpus) -> None:
    """Zarr v3, one shard per recording, inner chunks of a window, lz4: written with tensorstore, which is quicker."""
    ts = import_module("tensorstore")

    for number, session in enumerate(values):
        ts.open(_zarr_spec(folder, number, corpus), create=True, delete_existing=True).result()[...] = session


def open_tensorstore(folder: Path, corpus: Corpus) -> Read:
    """One thread, no cache."""
    ts = import_module("tensorstore")

    limits = {"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 1}}
    context = ts.Context(limits | {"cache_pool": {"total_bytes_limit": 0}})
    specs = [{"driver": "zarr3", "kvstore": _store(folder, number)} for number in range(corpus.sessions)]
    arrays = [ts.open(spec, context=context).result() for spec in specs]

    def read(session: int, first: int, out: Array) -> None:
        out[...] = arrays[session][first : first + corpus.window_rows].read().result()

    return read


def open_zarr(folder: Path, corpus: Corpus) -> Read:
    """zarr-python as it is."""
    zarr = import_module("zarr")

    arrays = [zarr.open_array(_store(folder, number)["path"], mode="r") for number in range(corpus.sessions)]

    def read(session: int, first: int, out: Array) -> None:
        out[...] = arrays[session][first : first + corpus.window_rows]

    return read


def open_zarrs(folder: Path, corpus: Corpus) -> Read:
    """zarr-python with the codecs of zarrs (Rust), one thread."""
    zarr = import_module("zarr")
    import_module("zarrs")

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1})
    return open_zarr(folder, corpus)


def make_hdf5(values: Array, folder: Path, corpus: Corpus) -> None:
    """Write a file per recording, the same samples contiguous and in chunks with lzf."""
    h5py = import_module("h5py")

    for number, session in enumerate(values):
        with h5py.File(folder / f"{number:03d}.h5", "w") as file:
            file["contiguous"] = session
            chunks = (corpus.window_rows, corpus.channels)
            file.create_dataset("lzf", data=session, chunks=chunks, compression="lzf", shuffle=True)


def open_hdf5(name: str) -> Callable[[Path, Corpus], Read]:
    """Return what opens one of the two, without the cache of chunks."""

    def opened(folder: Path, corpus: Corpus) -> Read:
        h5py = import_module("h5py")

        files = [h5py.File(folder / f"{number:03d}.h5", rdcc_nbytes=0) for number in range(corpus.sessions)]
        arrays = [file[name] for file in files]

        def read(session: int, first: int, out: Array) -> None:
            out[...] = arrays[session][first : first + corpus.window_rows]

        return read

    return opened


def make_temporaldata(values: Array, folder: Path, _corpus: Corpus) -> None:
    """Write what torch_brain reads: a `temporaldata.Data` of one regular series."""
    h5py = import_module("h5py")
    temporaldata = import_module("temporaldata")

    for number, session in enumerate(values):
        series = temporaldata.RegularTimeSeries(signal=session, sampling_rate=1.0)
        data = temporaldata.Data(recording=series, domain=series.domain)
        with h5py.File(folder / f"{number:03d}.h5", "w") as file:
            data.to_hdf5(file)


def open_temporaldata(folder: Path, corpus: Corpus) -> Read:
    """Take a lazy slice of seconds, then its samples, as torch_brain's dataset does."""
    h5py = import_module("h5py")
    temporaldata = import_module("temporaldata")

    paths = [folder / f"{number:03d}.h5" for number in range(corpus.sessions)]
    recordings = [temporaldata.Data.from_hdf5(h5py.File(path), lazy=True) for path in paths]

    def read(session: int, first: int, out: Array) -> None:
        # Samples lie at whole seconds: half a second earlier begins with the sample that is meant.
        start = max(0.0, first - 0.5)
        out[...] = recordings[session].slice(start, first + corpus.window_rows - 0.5).recording.signal

    return read


def make_litdata(values: Array, folder: Path, corpus: Corpus) -> None:
    """Chunks of 150 windows, uncompressed.

    litdata 0.2.76 decodes up to 256 samples or 16 MB at a time, and where a chunk has more it does so again for each
    shuffled sample: EEG in chunks of 64 MB came at 470 windows/CPU-s.
    """
    writer = import_module("litdata.streaming.writer").BinaryWriter(str(folder), chunk_size=150)
    for number, window in enumerate(_cut(values, corpus)):
        writer.add_item(number, window)
    writer.done()
    writer.merge()


def open_litdata(folder: Path, _corpus: Corpus) -> Any:
    """Shuffled."""
    return import_module("litdata").StreamingDataset(str(folder), shuffle=True, seed=1)


def make_mosaicml(values: Array, folder: Path, corpus: Corpus) -> None:
    """MDS, shards of 64 MB, uncompressed."""
    _without_torchvision()
    streaming = import_module("streaming")
    kind = f"ndarray:{corpus.dtype}:{corpus.window_rows},{corpus.channels}"
    with streaming.MDSWriter(out=str(folder), columns={"x": kind}, size_limit=64_000_000) as writer:
        for window in _cut(values, corpus):
            writer.write({"x": window})


def open_mosaicml(folder: Path, _corpus: Corpus) -> Any:
    """Shuffled."""
    _without_torchvision()
    streaming = import_module("streaming")
    import_module("streaming.base.util").clean_stale_shared_memory()
    dataset = streaming.StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
    return _Field(dataset, "x")


def make_webdataset(values: Array, folder: Path, corpus: Corpus) -> None:
    """Tar files of 2 000 arrays."""
    webdataset = import_module("webdataset")

    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=2_000, verbose=0) as writer:
        for number, window in enumerate(_cut(values, corpus)):
            writer.write({"__key__": f"{number:08d}", "npy": window})


def open_webdataset(folder: Path, _corpus: Corpus) -> Any:
    """Files shuffled, windows through a buffer of 1 000."""
    webdataset = import_module("webdataset")

    paths = sorted(str(path) for path in folder.glob("*.tar"))
    return _Field(webdataset.WebDataset(paths, shardshuffle=len(paths)).shuffle(1_000).decode(), "npy")


PEERS = {
    "tensorstore": Peer(make=make_zarr, open=open_tensorstore),
    "zarr": Peer(make=make_zarr, open=open_zarr),
    "zarr+zarrs": Peer(make=make_zarr, open=open_zarrs),
    "h5py, contiguous": Peer(make=make_hdf5, open=open_hdf5("contiguous")),
    "h5py, lzf": Peer(make=make_hdf5, open=open_hdf5("lzf")),
    "torch_brain (temporaldata)": Peer(make=make_temporaldata, open=open_temporaldata),
    "litdata, fixed windows": Peer(make=make_litdata, open=open_litdata, fixed=True),
    "MosaicML, fixed windows": Peer(make=make_mosaicml, open=open_mosaicml, fixed=True),
    "webdataset, fixed windows": Peer(make=make_webdataset, open=open_webdataset, fixed=True),
}


def measure(who: str, case: Case, folder: Path, stored: Path) -> list[Row]:
    """Return the rows of a peer in a case."""
    peer, out = PEERS[who], case.corpus.batch()
    timing = Timing(per_cpu_s=[], per_wall_s=[])
    serve = _serve(peer, stored, case.corpus)
    _check(serve, peer, case, folder, out)
    count = affordable(serve, case.windows(0), out)
    for round_ in range(COLD_ROUNDS if case.cold else ROUNDS):
        windows = case.windows(round_)[:count]
        if case.cold:
            # What still maps a file keeps its pages.
            serve = None
            gc.collect()
            forget(stored)
            time_round(_opening(peer, stored, case.corpus), windows, out, timing)
        else:
            time_round(serve, windows, out, timing)
    return timing.rows(case, who)


def _serve(peer: Peer, stored: Path, corpus: Corpus) -> Any:
    opened = peer.open(stored, corpus)
    return _iterated(opened) if peer.fixed else one_by_one(opened)


def _opening(peer: Peer, stored: Path, corpus: Corpus) -> Serve:
    """Return a `Serve` that opens everything first."""

    def serve(windows: Windows, out: Array) -> None:
        _serve(peer, stored, corpus)(windows, out)

    return serve


def _iterated(dataset: Any) -> Serve:
    """Return a `Serve` that takes as many windows as the list has, whichever come, epoch after epoch."""

    def endless() -> Iterator[Array]:
        while True:
            yield from dataset

    stream = endless()

    def serve(windows: Windows, out: Array) -> None:
        places = list(out)
        for number, window in enumerate(islice(stream, len(windows))):
            places[number % BATCH][...] = window

    return serve


def _check(serve: Serve, peer: Peer, case: Case, folder: Path, out: Array) -> None:
    """See that windows are what the raw file holds; a fixed window is looked for among all of them."""
    corpus, windows = case.corpus, case.windows(0)[:BATCH]
    values = _values(corpus, folder)
    serve(windows, out)
    if peer.fixed:
        found = {hash(window.tobytes()) for window in _cut(values, corpus)}
        assert all(hash(window.astype(corpus.dtype).tobytes()) in found for window in out[:4]), "another window"
        return
    for window, (session, first) in zip(out, windows.tolist(), strict=True):
        np.testing.assert_array_equal(window, values[session, first : first + corpus.window_rows])


class _Field:
    """One field of what a dataset yields."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset, self._name = dataset, name

    def __iter__(self) -> Iterator[Array]:
        return (one[self._name] for one in self._dataset)


def _cut(values: Array, corpus: Corpus) -> Iterator[Array]:
    for session in values:
        for first in range(0, corpus.rows - corpus.window_rows + 1, corpus.window_rows):
            yield np.ascontiguousarray(session[first : first + corpus.window_rows])


def _values(corpus: Corpus, folder: Path) -> Array:
    shape = (corpus.sessions, corpus.rows, corpus.channels)
    return np.memmap(corpus.raw(folder), dtype=corpus.dtype, mode="r", shape=shape)


def _store(folder: Path, number: int) -> dict[str, str]:
    return {"driver": "file", "path": str(folder / f"{number:03d}.zarr")}


def _zarr_spec(folder: Path, number: int, corpus: Corpus) -> dict[str, Any]:
    shuffle = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "typesize": np.dtype(corpus.dtype).itemsize}
    inner = [{"name": "bytes"}, {"name": "blosc", "configuration": shuffle | {"blocksize": 0}}]
    sharding = {"chunk_shape": [corpus.window_rows, corpus.channels], "codecs": inner}
    return {
        "driver": "zarr3",
        "kvstore": _store(folder, number),
        "metadata": {
            "shape": [corpus.rows, corpus.channels],
            "data_type": corpus.dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [corpus.rows, corpus.channels]},
            },
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        },
    }


def _without_torchvision() -> None:
    """Stand in for torchvision, which MosaicML imports for images and which fits no CPU-only torch of the index."""
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        names = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
        for name in names:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__spec__ = ModuleSpec(name, loader=None)
        sys.modules["torchvision.datasets"].VisionDataset = object  # type: ignore[attr-defined]
        sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]


def main(settings: dict[str, Any]) -> list[Row]:
    """Store one corpus for a peer where it is not stored yet, or return the rows of its cases."""
    folder, who = Path(settings["folder"]), settings["who"]
    both = corpora(sessions=settings["sessions"], eeg_sessions=settings["eeg_sessions"])
    corpus = next(one for one in both if one.name == settings["corpus"])
    stored = Path(settings["stored"])
    if settings["make"]:
        shutil.rmtree(stored, ignore_errors=True)
        stored.mkdir(parents=True)
        PEERS[who].make(_values(corpus, folder), stored, corpus)
        return []
    chosen = [
        case
        for case in cases(*both, folder=Path(settings["folder"]))
        if case.corpus == corpus and not (PEERS[who].fixed and case.fresh)
    ]
    return [one for case in chosen for one in measure(who, case, folder, stored)]


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))

"""Codecs for shards: size against speed of decoding, on the benchmark's own recordings.

Each chunk is decoded into its place in a buffer as large as a pool, from copies in memory: what a pool does, without
the disk. One thread; medians of CPU-seconds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np

from benchmarks.loader_windows import Array, Corpus, Row, corpora, printed, row

SESSIONS, ROUNDS = 2, 3
SHUFFLES = {"shuffle": numcodecs.blosc.SHUFFLE, "bitshuffle": numcodecs.blosc.BITSHUFFLE}
LEVELS = {"zstd": (1, 3, 5, 7, 9), "lz4": (1, 5), "lz4hc": (5, 9)}
_ROWS = {"spikes": 30_000, "eeg": 30_000}
"""Of each recording: 9 and 8 MB, enough for chunks of 1 MB."""
KILOBYTES = (64, 256, 1024)
"""Sizes of a chunk."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a shard's signal could be stored with."""

    codec: str
    level: int
    shuffle: str
    chunk_kb: int
    block_kb: int = 0
    """Blosc's own blocks inside a chunk, decoded one by one; 0 leaves them to blosc."""

    def __str__(self) -> str:
        block = f", blocks of {self.block_kb} kB" if self.block_kb else ""
        return f"{self.codec}-{self.level} {self.shuffle}, {self.chunk_kb} kB{block}"


def choices(corpus: Corpus) -> Iterator[Choice]:
    """Yield what is tried; bytes of one-byte samples cannot be shuffled."""
    shuffles = ("bitshuffle",) if corpus.dtype == "uint8" else ("shuffle", "bitshuffle")
    for codec, levels in LEVELS.items():
        for level in levels:
            for shuffle in shuffles:
                for chunk_kb in KILOBYTES:
                    yield Choice(codec=codec, level=level, shuffle=shuffle, chunk_kb=chunk_kb)
    for codec, level in (("zstd", 7), ("lz4hc", 5), ("lz4hc", 9)):
        for block_kb in (64, 128, 256):
            yield Choice(codec=codec, level=level, shuffle=shuffles[0], chunk_kb=1024, block_kb=block_kb)


def measure(corpus: Corpus, folder: Path) -> list[Row]:
    """Return the rows of one corpus."""
    shape = (corpus.sessions, corpus.rows, corpus.channels)
    values = np.memmap(corpus.raw(folder), dtype=corpus.dtype, mode="r", shape=shape)
    # Far apart, so that they are recordings of different animals.
    chosen = np.ascontiguousarray(values[:: max(1, corpus.sessions // SESSIONS)][:SESSIONS, : _ROWS[corpus.name]])
    place = np.zeros_like(chosen)
    rows = []
    for choice in choices(corpus):
        began = time.process_time()
        stored, spans = _encode(chosen, choice)
        encoding = time.process_time() - began
        encoded = sum(map(len, stored))
        seconds = statistics.median(_decode_s(stored, spans, place) for _ in range(ROUNDS))
        np.testing.assert_array_equal(place, chosen)
        name = f"{corpus.name}, codec"
        rows.append(row(f"{name}, ratio", str(choice), chosen.nbytes / encoded, "times"))
        rows.append(row(f"{name}, decoding", str(choice), chosen.nbytes / seconds / 1e9, "GB/CPU-s"))
        rows.append(row(f"{name}, encoding", str(choice), chosen.nbytes / encoding / 1e6, "MB/CPU-s"))
    return rows


def _encode(values: Array, choice: Choice) -> tuple[list[bytes], list[slice]]:
    flat = values.reshape(-1, values.shape[-1])
    step = max(1, choice.chunk_kb * 1000 // flat[:1].nbytes)
    spans = [slice(first, min(first + step, len(flat))) for first in range(0, len(flat), step)]
    codec = numcodecs.blosc.Blosc(
        cname=choice.codec,
        clevel=choice.level,
        shuffle=SHUFFLES[choice.shuffle],
        blocksize=choice.block_kb * 1024,
    )
    return [bytes(codec.encode(flat[span])) for span in spans], spans


def _decode_s(stored: list[bytes], spans: list[slice], place: Array) -> float:
    flat = place.reshape(-1, place.shape[-1])
    began = time.process_time()
    for chunk, span in zip(stored, spans, strict=True):
        numcodecs.blosc.decompress(chunk, flat[span])
    return time.process_time() - began


def main(settings: dict[str, Any]) -> list[Row]:
    """Return the rows of both corpora."""
    numcodecs.blosc.set_nthreads(1)
    both = corpora(sessions=settings["sessions"], eeg_sessions=settings["eeg_sessions"])
    return [one for corpus in both for one in measure(corpus, Path(settings["folder"]))]


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))

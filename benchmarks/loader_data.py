"""Recordings for the loader benchmark, at the size of a corpus and with the statistics of real ones.

``spikes`` is made of the 13 sessions of Steinmetz et al. 2019 (10.1038/s41586-019-1787-x): per recording 300 units of
one session, counts of 20 ms, its trials in an order of their own until 600 s are full. Units stay together, so rates,
counts and correlations within a trial are real. ``eeg`` is EEGMAT (10.13026/C2JQ1P) at 200 Hz: 19 channels of each of 7
runs, 30 s of each begun at an offset of its own, turned at the ends until 600 s are full, quantised by neurofm.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.loader_windows import Array, Corpus
from neurofm.recording import Channels, Clock, Modality, Recording, Signal
from neurofm.shards.packed import PackedShard
from neurofm.shards.write import Provenance, write_shard

PROJECT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("NEUROFM_TEST_DATA", PROJECT.parent / "shared" / "data"))
STEINMETZ, EEGMAT = SHARED / "ephys" / "steinmetz2019_rds", SHARED / "eeg" / "eegmat"
_PROVENANCE = Provenance(
    archive="local", source_id="bench", version="1", files=(), licence="CC-BY-4.0", citation="-", libraries={}
)
_BINS_PER_TRIAL, _RUNS, _CHANNELS_PER_RUN, _LAP = 20, 7, 19, 6_000


def made(corpus: Corpus, folder: Path) -> bool:
    """Whether it lies there already, whole."""
    raw = corpus.raw(folder)
    return raw.is_file() and raw.stat().st_size == corpus.sessions * corpus.session_bytes


def make(corpus: Corpus, folder: Path) -> None:
    """Write the shards, and beside them what they decode to in one uncompressed file."""
    sessions = _counts(corpus) if corpus.name == "spikes" else _eeg(corpus)
    shutil.rmtree(folder / corpus.name, ignore_errors=True)
    (folder / corpus.name).mkdir(parents=True)
    part = folder / f"{corpus.name}.part"
    with part.open("wb") as raw:
        for number, values in enumerate(sessions):
            path = corpus.shard(folder, number)
            write_shard(_recording(values, corpus=corpus, number=number), provenance=_PROVENANCE, path=path)
            stored = PackedShard(path).array("signal")
            raw.write(stored.read(0, corpus.rows).tobytes())
        raw.flush()
        os.fsync(raw.fileno())
    part.rename(corpus.raw(folder))


def ratio(corpus: Corpus, folder: Path) -> float:
    """Return how many times smaller the shards are than what they hold."""
    stored = sum(corpus.shard(folder, number).stat().st_size for number in range(corpus.sessions))
    return corpus.sessions * corpus.session_bytes / stored


def _counts(corpus: Corpus) -> Iterator[Array]:
    """Yield [bin, unit] uint8 of each recording."""
    # Here, because it takes a second to import and most runs find the data made.
    import rdata  # noqa: PLC0415

    files = sorted(STEINMETZ.glob("session*.rds"))
    if not files:
        raise SystemExit(f"error: there is no {STEINMETZ}. Mend: set NEUROFM_TEST_DATA to the shared recordings")
    trials = []
    for path in files:
        spikes = np.stack([np.asarray(trial, dtype=np.uint8) for trial in rdata.read_rds(path)["spks"]])
        pairs = spikes.reshape(*spikes.shape[:2], _BINS_PER_TRIAL, 2)
        trials.append(np.ascontiguousarray(pairs.sum(axis=-1, dtype=np.uint8).transpose(0, 2, 1)))
    for number in range(corpus.sessions):
        random = np.random.default_rng(number)
        session = trials[number % len(trials)]
        units = np.sort(random.permutation(session.shape[2])[: corpus.channels])
        laps = -(-corpus.rows // (len(session) * _BINS_PER_TRIAL))
        # The same order in each lap: a trial comes again only after more rows than a chunk has, so that nothing
        # compresses because it was laid out twice.
        order = np.tile(random.permutation(len(session)), laps)
        counts = session[order][:, :, units].reshape(-1, corpus.channels)
        yield np.ascontiguousarray(counts[: corpus.rows])


def _eeg(corpus: Corpus) -> Iterator[npt.NDArray[np.float64]]:
    """Yield [sample, channel] V of each recording."""
    import mne  # noqa: PLC0415
    from scipy.signal import resample_poly  # noqa: PLC0415

    files = sorted(EEGMAT.glob("Subject*_1.edf"))
    if not files:
        raise SystemExit(f"error: there is no {EEGMAT}. Mend: set NEUROFM_TEST_DATA to the shared recordings")
    runs = []
    for path in files:
        raw = mne.io.read_raw_edf(path, verbose="error")
        runs.append(resample_poly(raw.get_data(picks=raw.ch_names[:_CHANNELS_PER_RUN]), 2, 5, axis=1).T)
    laps = -(-corpus.rows // _LAP)
    for number in range(corpus.sessions):
        random = np.random.default_rng(number)
        columns = []
        for run in random.permutation(len(runs))[:_RUNS]:
            begins = random.integers(len(runs[run]) - _LAP + 1, size=laps)
            pieces = [runs[run][begin : begin + _LAP] for begin in begins]
            columns.append(np.concatenate([piece[:: (-1) ** lap] for lap, piece in enumerate(pieces)]))
        yield np.ascontiguousarray(np.concatenate(columns, axis=1)[: corpus.rows, : corpus.channels])


def _recording(values: Array, *, corpus: Corpus, number: int) -> Recording:
    spikes = corpus.name == "spikes"
    return Recording(
        dataset="bench",
        subject=f"bench:{number:03d}",
        session="",
        run="",
        task="",
        species="-",
        modality=Modality.SPIKES if spikes else Modality.EEG,
        channels=Channels(
            id=tuple(f"c{channel:03d}" for channel in range(corpus.channels)),
            position=np.full((corpus.channels, 3), np.nan),
            position_unit="",
        ),
        clock=Clock(id=f"bench/{number:03d}"),
        signal=Signal(values=values, sampling_rate_hz=50.0 if spikes else 200.0, units="spikes" if spikes else "V"),
    )

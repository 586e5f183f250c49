"""Shards of real recordings, small enough for a pool that is smaller still."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from neurofm.recording import Channels, Clock, Events, Modality, Recording, Signal, Target
from neurofm.shards import Provenance, write_shard
from neurofm.shards.packed import PackedShard
from neurofm.splits import Segment
from neurofm.windows.policy import Policy, StoreSite
from neurofm.windows.samples import Samples
from neurofm.windows.sampling import Episode, Source
from neurofm.windows.schedule import Drawing, PoolSettings, Schedule
from neurofm.windows.signal import StoredSignal
from neurofm.windows.store import Store
from tests.pictures import film_of, stimulus_of

PROVENANCE = Provenance(
    archive="local", source_id="x", version="1", files=(), licence="CC0-1.0", citation="x", libraries={}
)
_RATE_HZ = 20.0
_SPAN_S = 200.0
_SPANS = 6
_CHILDREN = 8


@dataclass(frozen=True)
class Home:
    """Shards, and what is drawn from them."""

    shards: tuple[Path, ...]
    sources: tuple[Source, ...]
    drawing: Drawing

    def signals(self) -> list[StoredSignal]:
        """The recordings, nothing decoded yet."""
        made = []
        for path in self.shards:
            array = PackedShard(path).array("signal")
            valid = PackedShard(path).array("valid").read(0, array.shape[0]).copy()
            gain = np.linspace(0.5, 2.0, array.shape[1], dtype=np.float32)
            made.append(StoredSignal(samples=Samples(array=array, valid=valid), valid=valid, gain=gain, bias=gain - 1))
        return made

    def schedule(self, pool: PoolSettings | None = None, *, bfloat16: bool = False) -> Schedule:
        """Draw from them."""
        arrays = [PackedShard(path).array("signal") for path in self.shards]
        row_bytes = [array.shape[1] * (2 if bfloat16 else array.dtype.itemsize) for array in arrays]
        return Schedule(self.sources, row_bytes=row_bytes, drawing=self.drawing, pool=pool)

    def store(
        self,
        policy: Policy,
        *,
        pool: PoolSettings | None = None,
        folder: Path,
        bfloat16: bool = False,
        decoders: int = 0,
        signals: list[StoredSignal] | None = None,
        **kwargs: object,
    ) -> Store:
        """Keep them as a policy says."""
        return Store(
            signals or self.signals(),
            self.schedule(pool, bfloat16=bfloat16),
            site=StoreSite(policy=policy, decoders=decoders, folder=folder),
            bfloat16=bfloat16,
            **kwargs,  # type: ignore[arg-type]
        )


@pytest.fixture(scope="session")
def home(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Counts of a head-direction session in six spans, and eight children's films."""
    folder = tmp_path_factory.mktemp("pool")
    counts = _counts(shared_data / "ephys" / "neurosuite_A2929-200711")
    children = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*AAL*"))[:_CHILDREN]
    film = film_of(shared_data, frames=90)
    parts = [(Modality.SPIKES, part, _RATE_HZ) for part in np.array_split(counts, _SPANS)]
    parts += [(Modality.FMRI, np.load(child), 0.5) for child in children]
    shards, sources = [], []
    for number, (modality, values, rate_hz) in enumerate(parts):
        path = folder / f"r{number}.zarr.zip"
        _write(path, values, modality=modality, rate_hz=rate_hz, film=film if number >= _SPANS else None)
        shards.append(path)
        # Two stretches each, as training has around what it is scored on.
        half, third = len(values) // 2, len(values) // 3
        pieces = ((0, third), (third + 10, half), (half + 5, len(values)))
        first, *others = (Segment(start=start, stop=stop) for start, stop in pieces)
        episodes = (
            Episode(targets=(first, others[0]), calibration=(others[1],)),
            Episode(targets=(others[1],), calibration=(first,)),
        )
        sources.append(
            Source(
                dataset=str(modality),
                name=path.stem,
                modality=modality,
                train_samples=len(values) - 15,
                window_samples=5,
                usable=np.arange(values.shape[1]),
                episodes=episodes,
            )
        )
    drawing = Drawing(seed=3, shares={Modality.SPIKES: 0.6, Modality.FMRI: 0.4}, windows=8, hidden_fraction=(0.2, 0.5))
    return Home(tuple(shards), tuple(sources), drawing)


def _counts(session: Path) -> np.ndarray:
    """[time, unit] of both shanks: spikes in bins of 50 ms."""
    columns = []
    for shank in (1, 2):
        samples = np.loadtxt(session / f"A2929-200711.res.{shank}", dtype=np.int64) / 20_000.0
        units = np.loadtxt(session / f"A2929-200711.clu.{shank}", dtype=np.int64)[1:]
        for unit in np.unique(units[units > 1]):
            edges = np.arange(0.0, _SPANS * _SPAN_S + 1e-9, 1 / _RATE_HZ)
            columns.append(np.histogram(samples[units == unit], bins=edges)[0])
    return np.stack(columns, axis=1).astype(np.uint8)


def _write(path: Path, values: np.ndarray, *, modality: Modality, rate_hz: float, film: np.ndarray | None) -> None:
    """Write a shard with a target that is the number of the sample, and an event at every hundredth sample."""
    count = values.shape[1]
    signal = Signal(values=values, sampling_rate_hz=rate_hz, units="count")
    number = np.arange(len(values))
    recording = Recording(
        dataset=str(modality),
        subject=f"lab:{path.stem}",
        session="",
        run="",
        task="",
        species="Mus musculus",
        modality=modality,
        channels=Channels(
            id=tuple(f"c{index}" for index in range(count)),
            position=np.full((count, 3), np.nan),
            position_unit="",
        ),
        clock=Clock(id=path.stem),
        signal=signal,
        valid=number > 3,
        targets={
            "sample": Target(
                values=number[:, None].astype(np.float32), unit="sample", columns=("number",), time_s=signal.time_s
            )
        },
        events=Events(
            onset_s=signal.time_s[::100],
            duration_s=np.zeros(len(number[::100])),
            label=tuple(f"at {at}" for at in number[::100]),
        ),
        stimulus=None if film is None else stimulus_of(film, signal.time_s),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurofm.shards.write.CHUNK_BYTES", 1024)
        write_shard(recording, provenance=PROVENANCE, path=path)

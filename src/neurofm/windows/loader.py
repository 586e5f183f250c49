"""Loader: shards as an iterable data set of PyTorch, for anybody's own model.

>>> from torch.utils.data import DataLoader
>>> batches = WindowDataset(sorted(Path("data/shards").rglob("*.zarr.zip")), window_s=2.0, windows=64, seed=1)
>>> for batch in DataLoader(batches, batch_size=None):  # doctest: +SKIP
...     batch["values"]  # [window, time, channel] float32
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import IterableDataset, get_worker_info

from neurofm.errors import UserError
from neurofm.recording import Modality
from neurofm.shards.packed import PackedArray, PackedShard
from neurofm.splits import Segment
from neurofm.windows.films import Films
from neurofm.windows.policy import StoreSite
from neurofm.windows.samples import Samples, refuse_damage
from neurofm.windows.sampling import Draw, Episode, Source, refuse_absent
from neurofm.windows.schedule import Drawing, PoolSettings, Schedule
from neurofm.windows.signal import StoredSignal
from neurofm.windows.store import Store

Span = tuple[int, int]
_SHOWN = "stimulus/shown"
_SERIES_KEPT = 256
"""Recordings whose targets stay decoded: they have a few columns where the samples have hundreds."""


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """One shard, of which nothing is decoded."""

    source: Source
    signal: StoredSignal
    targets: Mapping[str, PackedArray]
    shown: PackedArray | None
    """``stimulus/shown``, [time] int32."""
    film: PackedArray | None
    onset_s: npt.NDArray[np.float64]
    labels: tuple[str, ...]
    rate_hz: float
    start_s: float


class WindowDataset(IterableDataset[dict[str, Any]]):
    """Random windows of packed shards, without end, the same for every number of processes.

    Step n is a function of `seed` and n alone. Each batch holds windows of one recording, so of one modality:

    - ``values`` [window, time, channel] float32: ``stored * scale + offset``, 0 where not valid
    - ``valid`` [window, time] bool
    - ``targets`` {name: [window, time, k] float32}, NaN where not measured
    - ``events`` per window a list of (seconds from the window's start, label)
    - with `stimulus` ``frames`` [window, time, height, width] uint8 and ``shown`` [window, time] int32, -1 and 0 where
      nothing was shown; not there for a recording without frames
    - ``visible``, ``hidden`` int64 channels to show and to hide
    - ``recording``, ``dataset``, ``modality``, ``step``, ``starts`` [window] first samples, ``sampling_rate_hz``

    Give it to a `DataLoader` with ``batch_size=None``. Decoding has processes of its own (`StoreSite.decoders`), so
    ``num_workers`` 0 or 1 is enough; with more each has a pool of its own, and batches come in the same order.

    Parameters
    ----------
    shards
        Paths or ``s3://`` addresses.
    window_s
        Length of a window, seconds. Recordings without a stretch so long are left out, and `left_out` names them.
    windows
        Windows in a step, all processes together.
    seed
        Everything that is random depends on it.
    spans
        Samples [start, stop) that may be drawn, by address as given in `shards`; everything where one is not named.
        Give the train segments here (``data/splits.json``), or the model has seen what it is tested on.
    shares
        Share of steps per modality; even where it is None.
    dataset_shares
        Weight of datasets within their modality.
    hidden_fraction
        Smallest and largest share of channels that is hidden.
    pool
        The part of everything that is drawn from at a time; None for everything.
    store
        Where decoded samples lie.
    bfloat16
        Keep samples as bfloat16, scaled.
    stimulus
        Whether batches hold the frames that were shown.
    device
        Where windows are wanted.
    rank, world_size
        Of this process among those that train together; by default what torch.distributed says.
    first_step
        Go on from there.
    steps
        Stop after so many; None never stops.
    most_damaged
        Share of all samples that may be damaged and is skipped.
    options
        fsspec's, for ``s3://`` addresses.

    Raises
    ------
    UserError
        If nothing can be drawn, a dataset with a share has no recording, or there is no room.
    Unreadable
        If a shard is no shard of this schema.
    """

    def __init__(
        self,
        shards: Sequence[Path | str],
        *,
        window_s: float,
        windows: int,
        seed: int,
        spans: Mapping[Path | str, Sequence[Span]] | None = None,
        shares: Mapping[Modality, float] | None = None,
        dataset_shares: Mapping[str, float] | None = None,
        hidden_fraction: tuple[float, float] = (0.15, 0.5),
        pool: PoolSettings | None = None,
        store: StoreSite | None = None,
        bfloat16: bool = False,
        stimulus: bool = False,
        device: str = "cpu",
        rank: int | None = None,
        world_size: int | None = None,
        first_step: int = 0,
        steps: int | None = None,
        most_damaged: float = 0.001,
        options: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        found = [
            _open(place, window_s=window_s, spans=(spans or {}).get(place), options=options or {}) for place in shards
        ]
        self.left_out = tuple(str(place) for place, one in zip(shards, found, strict=True) if one is None)
        """Shards too short for a window, or with fewer than two channels."""
        self._opened = [one for one in found if one is not None]
        sources = [one.source for one in self._opened]
        if not sources:
            raise UserError(
                f"none of {len(shards)} shards has a stretch of {window_s:g} s to draw from.",
                mend="take a shorter window_s, or other shards",
            )
        refuse_absent(dataset_shares or {}, {source.dataset for source in sources})
        self._drawing = Drawing(
            seed=seed,
            shares=shares or dict.fromkeys({source.modality for source in sources}, 1.0),
            windows=windows,
            hidden_fraction=hidden_fraction,
            dataset_shares=dataset_shares or {},
        )
        self._pool, self._site, self._bfloat16, self._device = pool, store or StoreSite(), bfloat16, device
        self._stimulus = stimulus
        self._rank, self._world_size = rank, world_size
        self.first_step, self.steps = first_step, steps
        self._most_damaged = most_damaged

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rank, world_size = self._place()
        worker = get_worker_info()
        every, first = (worker.num_workers, worker.id) if worker else (1, 0)
        signals = [one.signal for one in self._opened]
        schedule = Schedule(
            [one.source for one in self._opened],
            row_bytes=[signal.row_bytes(bfloat16=self._bfloat16) for signal in signals],
            drawing=self._drawing,
            pool=self._pool,
        )
        with ExitStack() as stack:
            # A loader's worker is beside the training already, and may have no processes of its own.
            site = self._site.model_copy(update={"decoders": 0}) if worker else self._site
            kept: dict[str, Any] = {"site": site, "device": self._device, "side_by_side": every}
            store = stack.enter_context(Store(signals, schedule, bfloat16=self._bfloat16, who="windows", **kept))
            beside = _Beside(self._opened)
            films = Films(
                [one.film if self._stimulus else None for one in self._opened], **kept, free=store.free_beside
            )
            stack.callback(films.close)
            step, damaged = self.first_step + first, 0
            stop = None if self.steps is None else self.first_step + self.steps
            while stop is None or step < stop:
                drawn, values, valid = store.at(step, rank=rank, world_size=world_size)
                samples = [signal.samples for signal in signals if isinstance(signal.samples, Samples)]
                if (count := sum(len(one.damage) for one in samples)) > damaged:
                    sys.stderr.write(refuse_damage(samples, most=self._most_damaged, who="windows"))
                    damaged = count
                batch = beside.of(drawn, values.shape[1]) | {"step": step, "values": values, "valid": valid}
                if "shown" in batch and (frames := films.frames(drawn.source, batch["shown"].numpy())) is not None:
                    batch["frames"] = frames
                yield batch
                step += every

    def _place(self) -> tuple[int, int]:
        """Rank and world size."""
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if together else 0
        world_size = torch.distributed.get_world_size() if together else 1
        return (
            rank if self._rank is None else self._rank,
            world_size if self._world_size is None else self._world_size,
        )


class _Beside:
    """What lies beside the samples of a window: targets, events, what was shown."""

    def __init__(self, opened: Sequence[_Opened]) -> None:
        self._opened = opened
        self._decoded: OrderedDict[int, dict[str, npt.NDArray[Any]]] = OrderedDict()

    def of(self, drawn: Draw, length: int) -> dict[str, Any]:
        """Cut it along the windows of a draw."""
        opened = self._opened[drawn.source]
        series = self._series(drawn.source)
        within = drawn.starts[:, None] + np.arange(length)
        cut = {name: torch.from_numpy(values[within]) for name, values in series.items()}
        shown = {"shown": cut.pop(_SHOWN)} if _SHOWN in cut else {}
        return shown | {
            "recording": opened.source.name,
            "dataset": opened.source.dataset,
            "modality": str(opened.source.modality),
            "sampling_rate_hz": opened.rate_hz,
            "starts": torch.from_numpy(drawn.starts),
            "visible": torch.from_numpy(drawn.visible),
            "hidden": torch.from_numpy(drawn.hidden),
            "targets": cut,
            "events": [_events(opened, int(start), length) for start in drawn.starts],
        }

    def _series(self, source: int) -> dict[str, npt.NDArray[Any]]:
        """All series of a recording, decoded; those of the recordings drawn last are kept."""
        if source not in self._decoded:
            opened = self._opened[source]
            arrays = dict(opened.targets) | ({_SHOWN: opened.shown} if opened.shown is not None else {})
            self._decoded[source] = {name: array.read(0, array.shape[0]) for name, array in arrays.items()}
            if len(self._decoded) > _SERIES_KEPT:
                self._decoded.popitem(last=False)
        return self._decoded[source]


def _events(opened: _Opened, start: int, length: int) -> list[tuple[float, str]]:
    begin = opened.start_s + start / opened.rate_hz
    low, high = np.searchsorted(opened.onset_s, [begin, begin + length / opened.rate_hz])
    return [(float(opened.onset_s[at] - begin), opened.labels[at]) for at in range(int(low), int(high))]


def _open(
    place: Path | str, *, window_s: float, spans: Sequence[Span] | None, options: Mapping[str, object]
) -> _Opened | None:
    """Open a shard; None where no window fits."""
    shard = PackedShard(place, **(options if isinstance(place, str) and "://" in place else {}))
    said = shard.attributes()
    array = shard.array("signal")
    rate_hz, start_s = float(said["sampling_rate_hz"]), float(said["start_s"])
    window = max(1, round(window_s * rate_hz))
    count, channels = array.shape
    usable = np.arange(channels)
    if "channels/quality/usable" in shard.names:
        usable = np.flatnonzero(shard.array("channels/quality/usable").read(0, channels) > 0)
    pieces = [(max(0, start), min(stop, count)) for start, stop in (((0, count),) if spans is None else spans)]
    segments = tuple(Segment(start=start, stop=stop) for start, stop in pieces if stop - start >= window)
    if not segments or len(usable) < 2:
        return None
    valid = shard.array("valid").read(0, count).copy()
    names = shard.names
    onset_s, labels = np.zeros(0), ()
    if "events/onset_s" in names:
        onset_s = shard.array("events/onset_s").read(0, shard.array("events/onset_s").shape[0])
        labels = tuple(shard.attributes("events")["label"])
    order = np.argsort(onset_s, kind="stable")
    return _Opened(
        source=Source(
            dataset=said["dataset"],
            name=f"{said['dataset']}/{Path(str(place)).name.removesuffix('.zarr.zip')}",
            modality=Modality(said["modality"]),
            train_samples=sum(segment.stop - segment.start for segment in segments),
            window_samples=window,
            usable=usable,
            episodes=(Episode(targets=segments, calibration=()),),
        ),
        signal=StoredSignal(
            samples=Samples(array=array, valid=valid),
            valid=valid,
            gain=shard.array("channels/scale").read(0, channels).astype(np.float32),
            bias=shard.array("channels/offset").read(0, channels).astype(np.float32),
        ),
        targets={name.removeprefix("targets/"): shard.array(name) for name in names if name.startswith("targets/")},
        shown=shard.array("stimulus/shown") if "stimulus/shown" in names else None,
        film=shard.array("stimulus/frames") if "stimulus/frames" in names else None,
        onset_s=onset_s[order],
        labels=tuple(labels[at] for at in order),
        rate_hz=rate_hz,
        start_s=start_s,
    )

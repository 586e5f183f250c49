"""Films: the frames that were shown, kept as samples are; a film shown to many animals is kept once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurofm.recording import Modality
from neurofm.shards.packed import PackedArray
from neurofm.splits import Segment
from neurofm.windows.policy import Free, StoreSite
from neurofm.windows.samples import Samples
from neurofm.windows.sampling import Draw, Episode, Source
from neurofm.windows.schedule import Drawing, Schedule
from neurofm.windows.signal import StoredSignal
from neurofm.windows.store import Store


class Films:
    """Frames of several films, uint8, under the policies of `neurofm.windows.policy`.

    Parameters
    ----------
    films
        ``stimulus/frames`` of each recording, [frame, height, width]; None for a recording without.
    site, device, side_by_side, free
        As `Store` takes them.
    """

    def __init__(
        self,
        films: Sequence[PackedArray | None],
        *,
        site: StoreSite,
        device: str = "cpu",
        side_by_side: int = 1,
        free: Callable[[Path], Free] = Free.now,
    ) -> None:
        different: dict[object, int] = {}
        arrays: list[PackedArray] = []
        self._film_of: list[int | None] = []
        for film in films:
            if film is None:
                self._film_of.append(None)
                continue
            same = (film.shape, film.fingerprint())
            if same not in different:
                different[same] = len(arrays)
                arrays.append(film)
            self._film_of.append(different[same])
        self._sizes = [(array.shape[1], array.shape[2]) for array in arrays]
        self._device = device
        self._store = (
            Store(
                [_flat(array) for array in arrays],
                Schedule(
                    [_source(array, number) for number, array in enumerate(arrays)],
                    row_bytes=[array.shape[1] * array.shape[2] for array in arrays],
                    drawing=Drawing(seed=0, shares=dict.fromkeys(Modality, 1.0), windows=1),
                    pool=None,
                ),
                site=site,
                device=device,
                side_by_side=side_by_side,
                free=free,
                who="stimulus",
            )
            if arrays
            else None
        )
        self.count = len(arrays)
        """Different films."""

    def frames(self, recording: int, shown: npt.NDArray[np.int32]) -> Tensor | None:
        """Return what was seen.

        Parameters
        ----------
        recording
            Its number.
        shown
            [window, time] frames of its film, -1 for none.

        Returns
        -------
        [window, time, height, width] uint8 on the device, 0 where none was shown; None for a recording without a film.
        """
        film = self._film_of[recording]
        if film is None or self._store is None:
            return None
        numbers, where = np.unique(np.maximum(shown, 0), return_inverse=True)
        nothing = np.zeros(0, dtype=np.int64)
        drawn = Draw(
            source=film,
            block=self._store.blocks[film],
            starts=numbers.astype(np.int64),
            hidden=nothing,
            visible=nothing,
        )
        height, width = self._sizes[film]
        stored = self._store.stored_windows(drawn).to(self._device).view(len(numbers), height, width)
        seen = stored[torch.from_numpy(where.reshape(shown.shape)).to(self._device)]
        seen[torch.from_numpy(shown < 0).to(self._device)] = 0
        return seen

    def close(self) -> None:
        """Give the memory back."""
        if self._store is not None:
            self._store.close()


def _flat(film: PackedArray) -> StoredSignal:
    """Take a frame for a sample, and each of its pixels for a channel."""
    count, height, width = film.shape
    array = replace(film, shape=(count, height * width))
    one = np.ones(1, dtype=np.float32)
    valid = np.ones(count, dtype=np.bool_)
    return StoredSignal(samples=Samples(array=array, valid=valid), valid=valid, gain=one, bias=one - 1)


def _source(film: PackedArray, number: int) -> Source:
    count = film.shape[0]
    whole = Episode(targets=(Segment(start=0, stop=count),), calibration=())
    return Source(
        dataset="",
        name=f"film {number}",
        modality=Modality.SPIKES,
        train_samples=count,
        window_samples=1,
        usable=np.arange(2),
        episodes=(whole,),
    )

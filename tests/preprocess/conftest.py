"""Settings that most tests share, and recordings of known content."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.preprocess import Common
from neurofm.recording import Channels, Clock, Modality, Recording, Signal

MakeRecording = Callable[..., Recording]


@pytest.fixture(scope="session")
def common() -> Common:
    return Common(max_nan_fraction=0.2, min_valid_fraction=0.5, max_target_gap_s=0.5)


@pytest.fixture(scope="session")
def make_recording() -> MakeRecording:
    """Return a function from a modality and [time, channel] values to a recording."""

    def make(
        modality: Modality,
        values: npt.NDArray[np.float64] | None,
        *,
        rate_hz: float = 1.0,
        units: str = "a.u.",
        n_channels: int | None = None,
        **parts: object,
    ) -> Recording:
        n = values.shape[1] if values is not None else n_channels or 1
        channels = Channels(id=tuple(f"c{i}" for i in range(n)), position=np.full((n, 3), np.nan), position_unit="")
        signal = None if values is None else Signal(values=values, sampling_rate_hz=rate_hz, units=units)
        return Recording(
            dataset="made",
            subject="test:01",
            session="",
            run="",
            task="",
            species="-",
            modality=modality,
            channels=channels,
            clock=Clock(id="made/rec"),
            signal=signal,
            **parts,  # type: ignore[arg-type]  # whatever parts a test needs
        )

    return make

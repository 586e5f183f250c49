"""What all readers share: naming damaged files, and the facts that come from the manifest, not from the file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.readers.input import ReaderInput
from neurofm.recording import (
    Channels,
    Clock,
    Confounds,
    Events,
    Recording,
    Signal,
    Spikes,
    Step,
    Stimulus,
    Target,
    Unreadable,
    reading,
)
from neurofm.recording.recording import JsonScalar


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Do as `neurofm.recording.reading`, and keep the libraries' warnings off the screen."""
    with reading(path), warnings.catch_warnings():
        # Deprecations and "should be transposed" remarks of the libraries; what matters is checked by the readers.
        warnings.simplefilter("ignore")
        yield


def build(
    source: ReaderInput,
    *,
    channels: Channels,
    signal: Signal | None = None,
    sample_time_s: npt.NDArray[np.float64] | None = None,
    stretches: npt.NDArray[np.float64] | None = None,
    extra_signals: Mapping[str, Signal] | None = None,
    spikes: Spikes | None = None,
    events: Events | None = None,
    targets: Mapping[str, Target] | None = None,
    stimulus: Stimulus | None = None,
    scalars: Mapping[str, JsonScalar] | None = None,
    quality: Mapping[str, JsonScalar] | None = None,
    confounds: Confounds | None = None,
    steps: tuple[Step, ...] = (),
) -> Recording:
    """Put what was read together with what the manifest and catalogue state about the recording.

    Raises
    ------
    Unreadable
        If there is no channel, no sample, or no finite value at all.
    """
    file = source.path().name
    if len(channels) == 0:
        raise Unreadable(f"{file}: no channel of the wanted kind")
    if signal is not None and len(signal.values) == 0:
        raise Unreadable(f"{file}: no sample")
    if signal is not None and not np.isfinite(signal.values).any():
        raise Unreadable(f"{file}: no finite value in the signal")
    entry = source.entry
    return Recording(
        dataset=source.dataset,
        subject=entry.subject,
        session=entry.session,
        run=entry.run,
        task=entry.task,
        species=source.species,
        modality=source.modality,
        channels=channels,
        # Where nothing says that two recordings were simultaneous, each has a clock of its own.
        clock=Clock(id=source.clock_id),
        signal=signal,
        sample_time_s=sample_time_s,
        stretches=stretches,
        extra_signals=extra_signals or {},
        spikes=spikes,
        events=events,
        targets=targets or {},
        stimulus=stimulus,
        scalars=scalars or {},
        quality=quality or {},
        confounds=confounds,
        steps=steps,
    )


def unknown_positions(n: int) -> npt.NDArray[np.float64]:
    """Return [n, 3] NaN: no position known."""
    return np.full((n, 3), np.nan)

"""Times of a camera's frames, as acquisition software writes them: one row per frame, with jitter and losses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import opening
from neurofm.readers.shared.nwb_ophys import nominal_rate_hz
from neurofm.readers.shared.roi import refuse_other_frames
from neurofm.recording import Unreadable


@dataclass(frozen=True, kw_only=True)
class StampLayout:
    """Which columns a kind of table has."""

    frame: str
    time: str
    unit_s: float
    """Seconds per unit of the time column."""


LAYOUTS = (
    # Miniscope DAQ software (V4), for the miniscope and for behaviour cameras alike.
    StampLayout(frame="Frame Number", time="Time Stamp (ms)", unit_s=1e-3),
    # Frames that were averaged by twos and more keep the time of the first and the last.
    StampLayout(frame="frame", time="timestamp_first", unit_s=1.0),
    StampLayout(frame="frame_index", time="unix_time", unit_s=1.0),
)


@dataclass(frozen=True, kw_only=True)
class FrameTimes:
    """When each frame of a camera was taken."""

    name: str
    """The file's, for errors."""
    frame: npt.NDArray[np.int64]
    """[row] frame numbers as the camera counts them, rising."""
    time_s: npt.NDArray[np.float64]
    """[row] rising seconds on the camera's own clock (since 1970, or since the software was started)."""
    stray: int = 0
    """How many of them were stray, and are the mean of their neighbours'."""

    def of(self, frames: npt.NDArray[np.int64], *, traces: str) -> npt.NDArray[np.float64]:
        """Return the [frame] times of the frames that were analysed.

        Every second frame, or none before the tenth, is an analysis of fewer frames; a table that goes on after the
        last analysed frame is not, because nobody knows then which frames are missing.

        Raises
        ------
        Unreadable
            If there are fewer or more timestamps than frames.
        """
        place = np.searchsorted(self.frame, frames)
        inside = place < len(self.frame)
        found = inside & (self.frame[np.where(inside, place, 0)] == frames)
        step = int(frames[-1] - frames[-2]) if len(frames) > 1 else 1
        goes_on = len(self.frame) > 0 and self.frame[-1] >= frames[-1] + step
        if not found.all() or goes_on:
            raise Unreadable(
                f"{self.name}: {len(self.frame)} timestamps (frames {_span(self.frame)}) for the {len(frames)} frames "
                f"of {traces} ({_span(frames)}); every frame needs its own"
            )
        return self.time_s[place]


def _span(frames: npt.NDArray[np.int64]) -> str:
    return f"{frames[0]} to {frames[-1]}" if len(frames) else "none"


def read_frame_times(path: Path, *, max_stray: int = 0) -> FrameTimes:
    """Read a table of timestamps (`LAYOUTS`).

    Parameters
    ----------
    path
        The ``.csv`` file.
    max_stray
        So many lone rows may have a time that does not lie between those of the rows before and after, which rise.
        Such a row gets their mean: the frame was taken in its turn, its stamp was written wrongly.

    Raises
    ------
    Unreadable
        If the table has none of the layouts, or a time is missing, repeated or goes back.
    """
    with opening(path):
        table = pd.read_csv(path, skipinitialspace=True)
    layout = next((one for one in LAYOUTS if {one.frame, one.time} <= set(table.columns)), None)
    if layout is None:
        known = "; ".join(f"{one.frame!r} and {one.time!r}" for one in LAYOUTS)
        raise Unreadable(f"{path.name}: no known table of timestamps; its columns must be {known}")
    time_s = _numbers(table[layout.time], path=path) * layout.unit_s
    frame = _numbers(table[layout.frame], path=path).astype(np.int64)
    stray = _stray(time_s)
    if len(stray) <= max_stray:
        time_s[stray] = (time_s[stray - 1] + time_s[stray + 1]) / 2
    option = (
        f"the reader option `max_stray_timestamps: {len(stray)}` gives {len(stray)} lone ones their neighbours' mean"
    )
    refuse_unrising(time_s, where=path.name, mend=option if len(stray) > max_stray else "")
    refuse_unrising(frame.astype(np.float64), where=path.name, what="frame numbers")
    return FrameTimes(name=path.name, frame=frame, time_s=time_s, stray=len(stray))


def _stray(time_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the rows whose time does not lie between those of the rows before and after, which do rise."""
    before, here, after = time_s[:-2], time_s[1:-1], time_s[2:]
    return np.flatnonzero((before < after) & ~((before < here) & (here < after))) + 1


def refuse_unrising(time_s: npt.NDArray[np.float64], *, where: str, what: str = "timestamps", mend: str = "") -> None:
    """Raise `Unreadable` if [row] values are missing or do not rise; the first bad row is named, counted from 1."""
    missing = ~np.isfinite(time_s)
    if missing.any():
        raise Unreadable(f"{where}: row {int(np.argmax(missing)) + 1} of the {what} has no number")
    back = np.diff(time_s) <= 0
    if back.any():
        row = int(np.argmax(back)) + 1
        raise Unreadable(
            f"{where}: {what} go back or stand still at row {row + 1} (from {time_s[row - 1]:.12g} to "
            f"{time_s[row]:.12g}){mend and '; '}{mend}"
        )


def side_file(source: ReaderInput, role: str, *, names: tuple[str, ...]) -> Path | None:
    """Return the file that plays `role`, or else the one side file that bears one of `names`; None without either.

    Raises
    ------
    Unreadable
        If several side files bear such a name.
    """
    if role in source.entry.files:
        return source.path(role)
    found = [path for path in source.entry.extra if path.rpartition("/")[2] in names]
    if len(found) > 1:
        raise Unreadable(
            f"{source.entry.id}: {', '.join(found)} may all be its {role}; name one with `recordings.roles.{role}`"
        )
    return source.root / found[0] if found else None


def _numbers(column: pd.Series[str], *, path: Path) -> npt.NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    if np.isnan(numbers).any():
        row = int(np.argmax(np.isnan(numbers))) + 1
        raise Unreadable(f"{path.name}: column {column.name!r} has no number in row {row}")
    return numbers


@dataclass(frozen=True, kw_only=True)
class FrameClock:
    """Times of all frames of a recording, from its first frame on, and the camera's rate."""

    time_s: npt.NDArray[np.float64]
    rate_hz: float


def frame_clock(
    source: ReaderInput, *, frames: npt.NDArray[np.float64], where: str, max_stray: int = 0
) -> FrameClock | None:
    """Return the clock of [time, cell] traces from the role ``timestamps`` or a side file ``timeStamps.csv``.

    Raises
    ------
    Unreadable
        If there are more or fewer timestamps than frames, or they do not rise.
    """
    path = side_file(source, "timestamps", names=("timeStamps.csv",))
    if path is None:
        return None
    stamps = read_frame_times(path, max_stray=max_stray)
    refuse_other_frames(frames, times=len(stamps.time_s), where=where, listed_in=path.name)
    return FrameClock(time_s=stamps.time_s - stamps.time_s[0], rate_hz=nominal_rate_hz(stamps.time_s, path.name))

"""Behaviour and events of a Neurosuite session: tracked LEDs (``.whl``), ``.evt`` files, epochs."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from neurofm.readers.shared.neurosuite_files import SessionFiles
from neurofm.recording import Events, Target, Unreadable

Floats = npt.NDArray[np.float64]

_LED_COLUMNS = (2, 4)
_PHASE = re.compile(r"(?P<what>.*?)\s+(?P<phase>start|begin|beginning|peak|stop|end)(?:\s+\S+)?", re.IGNORECASE)
_EPOCHS = "Epoch_TS.csv"


def read_leds(files: SessionFiles, *, rate_hz: float, offset_s: float, unit: str) -> dict[str, Target]:
    """Return ``position`` and, where both LEDs are tracked, ``head_direction``; nothing without a ``.whl``.

    Parameters
    ----------
    files
        The session. Its ``.whl`` has x and y of the first LED and mostly of a second, a row per video frame, -1 where
        the LED was not seen.
    rate_hz
        Frames per second.
    offset_s
        When the first frame was taken, in seconds of the recording's clock: the video may have begun late.
    unit
        Of the numbers.

    Returns
    -------
    dict
        ``position``: midpoint of the LEDs that are seen. ``head_direction``: cosine and sine of the direction from
        the second LED to the first, so it may be turned by a constant against the nose.

    Raises
    ------
    Unreadable
        If it is no table of two or four numbers per line.
    """
    name = files.named(".whl")
    if not (content := files.content.get(name, b"").strip()):
        return {}
    rows = [line.split() for line in content.decode("ascii", errors="replace").splitlines()]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not widths <= set(_LED_COLUMNS):
        raise Unreadable(f"{name}: its lines have {sorted(widths)} numbers, expected x and y of one LED or two")
    try:
        place = np.array(rows, dtype=np.float64)
    except ValueError:
        raise Unreadable(f"{name}: not all of it is numbers") from None
    leds = place.reshape(len(place), -1, 2)
    seen: npt.NDArray[np.bool_] = np.all(leds >= 0, axis=2)
    leds = np.where(seen[:, :, None], leds, 0.0)
    count = seen.sum(axis=1)
    middle = np.where(count[:, None] > 0, leds.sum(axis=1) / np.maximum(count, 1)[:, None], np.nan)
    time_s = offset_s + np.arange(len(place)) / rate_hz
    both = np.all(seen, axis=1)
    targets = {"position": Target(values=middle, unit=unit, columns=("x", "y"), time_s=time_s)}
    if leds.shape[1] == 2 and both.any():
        axis = leds[:, 0] - leds[:, 1]
        length = np.hypot(axis[:, 0], axis[:, 1])
        known = both & (length > 0)
        direction = np.where(known[:, None], axis / np.where(known, length, 1)[:, None], np.nan)
        targets["head_direction"] = Target(values=direction, unit="1", columns=("cos", "sin"), time_s=time_s)
    return targets


def read_epochs(files: SessionFiles, *, names: tuple[str, ...]) -> list[tuple[float, float, str]]:
    """Return start, stop (seconds) and name of each line of ``Epoch_TS.csv``; none without that file.

    Raises
    ------
    Unreadable
        If a line is not two rising numbers.
    """
    epochs = []
    text = files.content.get(_EPOCHS, b"").decode("ascii", errors="replace")
    for i, line in enumerate(filter(str.strip, text.splitlines())):
        try:
            start_s, stop_s = (float(part) for part in line.split(",")[:2])
        except ValueError:
            raise Unreadable(f"{_EPOCHS}: line {i + 1} is not a start and a stop in seconds") from None
        if not stop_s > start_s:
            raise Unreadable(f"{_EPOCHS}: epoch {i + 1} ends at {stop_s:g} s, before it begins ({start_s:g} s)")
        epochs.append((start_s, stop_s, names[i] if i < len(names) else "epoch"))
    return epochs


def read_events(files: SessionFiles, epochs: list[tuple[float, float, str]]) -> Events | None:
    """Return epochs and what the ``.evt`` files list, in the order of time.

    Lines are ``milliseconds text``. A ``.. start ..`` and the ``.. stop ..`` after it become one event with a
    duration (and the ``.. peak ..`` between them its column ``peak_s``); other lines are instants with their whole
    text.

    Raises
    ------
    Unreadable
        If a line does not begin with a number.
    """
    rows = [(start_s, stop_s - start_s, label, float("nan")) for start_s, stop_s, label in epochs]
    for name in sorted(files.content):
        if re.search(r"\.evt(\.|$)", name) and name.startswith(f"{files.session}."):
            rows += _event_file(files.content[name].decode("utf-8", errors="replace"), name)
    if not rows:
        return None
    rows.sort(key=lambda row: row[:3])
    return Events(
        onset_s=np.array([row[0] for row in rows]),
        duration_s=np.array([row[1] for row in rows]),
        label=tuple(row[2] for row in rows),
        columns={"peak_s": np.array([row[3] for row in rows])},
    )


def _event_file(text: str, name: str) -> list[tuple[float, float, str, float]]:
    rows = []
    begun: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        time, _, label = line.strip().partition("\t" if "\t" in line.strip() else " ")
        try:
            time_s = float(time) / 1000
        except ValueError:
            raise Unreadable(f"{name}: line {number} does not begin with a time in milliseconds") from None
        match = _PHASE.fullmatch(label.strip())
        what, phase = (match["what"], match["phase"].lower()) if match else (label.strip(), "")
        if phase in {"start", "begin", "beginning"}:
            begun[what] = time_s
        elif phase == "peak" and what in begun:
            peaks[what] = time_s
        elif phase in {"stop", "end"} and what in begun:
            start_s = begun.pop(what)
            rows.append((start_s, time_s - start_s, what, peaks.pop(what, float("nan"))))
        else:
            rows.append((time_s, 0.0, label.strip(), float("nan")))
    return rows

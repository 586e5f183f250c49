"""Images and films of an NWB 2 file, and when each frame was shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pynwb import NWBFile
from pynwb.base import Images
from pynwb.image import ImageSeries, IndexSeries

from neurofm.readers.shared.nwb_series import series_times
from neurofm.readers.shared.stimulus import Floats, StimulusSource, grey_frames, presented
from neurofm.recording import Stimulus, Unreadable

_LONGEST = 1.5
"""Typical intervals for which a frame stays, where only its onset is written and none follows."""


class NwbStimulus(StimulusSource):
    """Which images or film are wanted, and where their presentations are."""

    presentations: str = ""
    """Interval table whose rows are presentations; without one the index series of the template says when."""
    column: str = Field(default="frame", min_length=1)
    """The table's column with the number of the frame."""


@dataclass(frozen=True, kw_only=True)
class _Shown:
    onset_s: Floats
    stop_s: Floats
    frame: Floats


def read_stimulus(file: NWBFile, name: str, source: NwbStimulus) -> Stimulus | None:
    """Read a template of ``stimulus/templates`` (or a film of ``stimulus/presentation``) with its presentations.

    Parameters
    ----------
    file, name
        The open file, and its name for errors.
    source
        Which template, and which table says when.

    Returns
    -------
    Stimulus
        Pixels in the order in which the file stores them, [frame, row, column] from Allen's writers. None where the
        file lacks the template and it is optional.

    Raises
    ------
    Unreadable
        If the template or its presentations are missing, in colour, outside of the file, or do not fit each other.
    """
    template = (file.stimulus_template or {}).get(source.template) or (file.stimulus or {}).get(source.template)
    if template is None:
        if source.optional:
            return None
        known = ", ".join(sorted(file.stimulus_template or {})) or "none"
        raise Unreadable(f"{name}: no stimulus {source.template!r}; templates are: {known}")
    where = f"{name}: stimulus {source.template!r}"
    frames = grey_frames(_stored(template, where), source=source, where=where)
    shown = _by_table(file, source, where) if source.presentations else _by_series(file, template, where)
    return presented(frames, onset_s=shown.onset_s, stop_s=shown.stop_s, frame=shown.frame, source=source, where=where)


def _stored(template: Any, where: str) -> Any:
    """Return a template's [frame, height, width], as a dataset where it is one."""
    if isinstance(template, Images):
        return _stacked(template, where)
    if not isinstance(template, ImageSeries):
        raise Unreadable(f"{where} is a {type(template).__name__}, not images")
    if template.external_file is not None:
        raise Unreadable(f"{where}: its frames lie in files beside this one, which are not read")
    return template.data


def _stacked(images: Images, where: str) -> npt.NDArray[Any]:
    if images.order_of_images is None:
        raise Unreadable(f"{where}: the images have no order, so their numbers say nothing (`order_of_images`)")
    arrays = [np.asarray(image.data) for image in images.order_of_images.data[:]]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise Unreadable(f"{where}: images are {', '.join(map(str, shapes)) or 'none'}; expected one size, in grey")
    return np.stack(arrays)


def _by_table(file: NWBFile, source: NwbStimulus, where: str) -> _Shown:
    table = (file.intervals or {}).get(source.presentations)
    if table is None or source.column not in table.colnames:
        lacking = f"table {source.presentations!r}" if table is None else f"column {source.column!r} in its table"
        raise Unreadable(f"{where}: no {lacking}")
    try:
        frame = np.array([_number(one) for one in table[source.column][:]])
    except ValueError as error:
        raise Unreadable(f"{where}: column {source.column!r} holds other things than numbers ({error})") from error
    onset_s, stop_s = (np.asarray(table[column][:], dtype=np.float64) for column in ("start_time", "stop_time"))
    return _Shown(onset_s=onset_s, stop_s=stop_s, frame=frame)


def _number(value: Any) -> float:
    text = value.decode() if isinstance(value, bytes) else value
    # Allen's writer puts texts where rows of other stimuli have no frame.
    return np.nan if text in {"", "null", "N/A"} else float(text)


def _by_series(file: NWBFile, template: Any, where: str) -> _Shown:
    """Return when each frame was shown: until the next, or for a typical interval where none follows by then."""
    if template is (file.stimulus or {}).get(template.name) and isinstance(template, ImageSeries):
        parts = [(template, np.arange(len(template.data), dtype=np.float64))]
    else:
        parts = [
            (one, np.asarray(one.data, dtype=np.float64))
            for _, one in sorted((file.stimulus or {}).items())
            if isinstance(one, IndexSeries) and template in (one.indexed_timeseries, one.indexed_images)
        ]
    if not parts:
        raise Unreadable(f"{where}: no index series says when it was shown; name a table with `stimulus.presentations`")
    onset_s = np.concatenate([series_times(series, len(frame), where) for series, frame in parts])
    order = np.argsort(onset_s, kind="stable")
    if len(onset_s) < 2:
        raise Unreadable(f"{where}: one onset does not say until when; name a table with `stimulus.presentations`")
    onset_s = onset_s[order]
    interval_s = np.diff(onset_s)
    longest_s = _LONGEST * float(np.median(interval_s))
    return _Shown(
        onset_s=onset_s,
        stop_s=onset_s + np.minimum(np.append(interval_s, np.inf), longest_s),
        frame=np.concatenate([frame for _, frame in parts])[order],
    )

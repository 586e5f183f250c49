"""One report of MNE per EEG recording, made from its shard."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib import style

from neurofm.recording import Signal
from neurofm.report.excerpts import evenly, names_of
from neurofm.report.figures.eeg import draw_levels
from neurofm.report.figures.style import drawing, new_figure
from neurofm.report.figures.traces import draw_traces
from neurofm.report.spectra import WINDOW_S
from neurofm.report.words import counted, number, plain, quality_name, quality_value, unit_name
from neurofm.shards import Shard

if TYPE_CHECKING:
    import mne

_STRETCHES = 300
"""Most columns of the overview; each is a second or more."""
_TRACES, _TRACE_S = 20, 10.0
_EVENT_KINDS, _EVENT_ROWS = 20, 40
_NAMED = 32
"""Most electrodes that are drawn with their names."""
_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data:; font-src data:\">"
)
_WRITTEN_AT = re.compile(r"Created on \d{4}-\d\d-\d\d \d\d:\d\d:\d\d via ")
"""In the footer of MNE's report."""


def recording_page(shard: Shard, *, name: str, reason: str, back: str) -> bytes:
    """Write MNE's report of one recording.

    It opens offline and fetches nothing. The same shard gives the same bytes: MNE's tables, whose ids are drawn at
    random, are not used, pictures are PNG, and the time of writing is taken out of the footer.

    Parameters
    ----------
    shard
        Of EEG, in uV.
    name
        The recording's.
    reason
        Why it takes no part; empty if it does.
    back
        Address of the group's page.
    """
    import mne  # noqa: PLC0415  # two seconds, and only a dataset with EEG needs it

    raw = _raw(shard)
    with mne.utils.use_log_level("error"):
        report = mne.Report(title=f"{shard.recording.dataset} {name}", image_format="png")
        report.add_html(_about(shard, name=name, reason=reason, back=back), title="Recording", tags=("recording",))
        report.add_html(_steps(shard), title="What was done", tags=("steps",))
        with drawing(f"mne-{name}"):
            _add_overview(report, shard)
        # MNE's own drawings hold formulas, which our style takes for text.
        with style.context("default"):
            _add_spectrum(report, shard, raw)
            _add_sensors(report, shard, raw)
            _add_events(report, shard, raw)
        report.add_html(_table(_quality(shard)), title="Quality", tags=("quality",))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "report.html"
            report.save(file, open_browser=False)
            text = file.read_text(encoding="utf-8")
    text = _WRITTEN_AT.sub("Made by neurofm via ", text)
    return text.replace('<meta charset="UTF-8">', f'<meta charset="UTF-8">\n  {_POLICY}', 1).encode()


def _raw(shard: Shard) -> mne.io.BaseRaw:
    """Return the recording as MNE has it: channels that are not usable are bad, what is not valid is annotated."""
    import mne  # noqa: PLC0415

    from neurofm.eeg.state import as_state  # noqa: PLC0415  # it imports MNE

    signal = Signal(
        values=shard.values(), sampling_rate_hz=shard.sampling_rate_hz, units=shard.units, start_s=shard.start_s
    )
    raw = as_state(replace(shard.recording, signal=signal)).raw
    raw.info["bads"] = [one for one, usable in zip(raw.ch_names, shard.usable, strict=True) if not usable]
    if shard.valid.any():
        first, stop = _runs(~shard.valid)
        rate = shard.sampling_rate_hz
        raw.set_annotations(
            raw.annotations + mne.Annotations(first / rate, (stop - first) / rate, ["BAD_not_valid"] * len(first)),
            verbose="error",
        )
    return raw


def _runs(at: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where runs of True begin, and where they have ended."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], at, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2]


def _about(shard: Shard, *, name: str, reason: str, back: str) -> str:
    recording, rate = shard.recording, shard.sampling_rate_hz
    bad = [one for one, usable in zip(recording.channels.id, shard.usable, strict=True) if not usable]
    filled = recording.channels.quality.get("interpolated", np.zeros(len(recording.channels))) > 0
    rows = [
        ("dataset", recording.dataset),
        ("recording", name),
        ("subject", recording.subject),
        ("session, run, task", ", ".join(filter(None, (recording.session, recording.run, recording.task)))),
        ("takes part", f"no: {reason}" if reason else "yes"),
        ("duration", f"{number(len(shard.stored) / rate)} s, of which {number(shard.valid.sum() / rate)} s are valid"),
        ("sampling rate", f"{number(rate)} Hz"),
        ("channels", f"{len(recording.channels)}, of which {int(shard.usable.sum())} are usable"),
        ("not usable", ", ".join(bad)),
        ("filled from others", ", ".join(names_of(shard, np.flatnonzero(filled).astype(np.int64)))),
    ]
    link = Markup('<p><a href="{}">All recordings</a></p>').format(back)
    return link + _table([row for row in rows if row[1]])


def _quality(shard: Shard) -> list[tuple[str, str]]:
    return [(quality_name(name), quality_value(value)) for name, value in sorted(shard.recording.quality.items())]


def _steps(shard: Shard) -> Markup:
    rows = []
    for step in shard.recording.steps:
        params = ", ".join(f"{plain(name)} {quality_value(value)}" for name, value in sorted(step.params.items()))
        rows.append((plain(step.name), step.version, params))
    libraries = shard.attrs["pipeline"]["libraries"]
    named = ", ".join(f"{name} {version}" for name, version in sorted(libraries.items()))
    table = _table(rows, head=("step, in this order", "version", "settings"))
    return table + (Markup("<p>With {}.</p>").format(named) if named else Markup())


def _table(rows: Iterable[Sequence[str]], *, head: Sequence[str] = ()) -> Markup:
    """Write rows as a table in the style of MNE's report; names come from other people's files."""
    top = Markup("<thead><tr>{}</tr></thead>").format(_cells("th", head)) if head else Markup()
    body = Markup().join(Markup("<tr>{}</tr>").format(_cells("td", row)) for row in rows)
    return Markup('<table class="table table-sm table-hover small w-auto">{}<tbody>{}</tbody></table>').format(
        top, body
    )


def _cells(tag: str, cells: Sequence[str]) -> Markup:
    return Markup().join(Markup(f"<{tag}>{escape(cell)}</{tag}>") for cell in cells)  # noqa: S704  # escaped


def _add_overview(report: mne.Report, shard: Shard) -> None:
    values, rate = shard.values(), shard.sampling_rate_hz
    step = max(1, round(rate), -(-len(values) // _STRETCHES))
    if len(values) >= 2 * step:
        count = len(values) // step
        level = values[: count * step].reshape(count, step, -1).std(axis=1).astype(np.float64)
        figure = new_figure(height_in=4.2, width_in=8.5)
        draw_levels(
            figure.subplots(),
            level_uv=level,
            step_s=step / rate,
            valid=np.asarray(shard.valid[: count * step].reshape(count, step).all(axis=1), dtype=np.bool_),
        )
        caption = f"SD of every channel in stretches of {number(step / rate)} s."
        caption += "" if shard.valid.all() else " Below in orange: not fit for use."
        report.add_figure(figure, title="Whole recording", caption=caption, tags=("raw",))
    shown = evenly(shard.usable, most=_TRACES)
    if not len(shown):
        return
    length = min(len(values), max(2, round(_TRACE_S * rate)))
    first = _best_start(shard.valid, length)
    figure = new_figure(height_in=4.6, width_in=8.5)
    draw_traces(
        figure.subplots(),
        time_s=shard.time_s[first : first + length],
        values=values[first : first + length, shown],
        names=names_of(shard, shown),
        unit=unit_name(shard.units),
        common_scale=True,
    )
    usable = counted(int(shard.usable.sum()), "usable channel")
    caption = f"{number(length / rate)} s of {len(shown)} of {usable}, evenly through the table, on one scale."
    report.add_figure(figure, title="Traces", caption=caption, tags=("raw",))


def _best_start(valid: npt.NDArray[np.bool_], length: int) -> int:
    """Return the first stretch in the middle half of a recording, or in all of it, with the most valid samples."""
    total = np.concatenate([[0], np.cumsum(valid)])
    inside = total[length:] - total[:-length]
    quarter = len(inside) // 4
    return quarter + int(np.argmax(inside[quarter : len(inside) - quarter]))


def _add_spectrum(report: mne.Report, shard: Shard, raw: mne.io.BaseRaw) -> None:
    import matplotlib.pyplot as plt  # noqa: PLC0415  # MNE draws with it

    first, stop = _runs(shard.valid) if shard.valid.any() else (np.array([0]), np.array([len(shard.valid)]))
    window = min(round(WINDOW_S * shard.sampling_rate_hz), int((stop - first).max()))
    if not shard.usable.any() or window < 8:
        return
    placed = all(np.isfinite(one["loc"][:3]).all() and one["loc"][:3].any() for one in raw.info["chs"])
    spectrum = raw.compute_psd(method="welch", n_fft=window, picks="eeg", exclude="bads")
    figure = spectrum.plot(show=False, average=not placed, spatial_colors=placed, picks="eeg", exclude="bads")
    caption = f"Power of every usable channel, Welch's method with {number(window / shard.sampling_rate_hz)} s"
    report.add_figure(figure, title="Power spectrum", caption=f"{caption}, valid samples only.", tags=("raw", "psd"))
    plt.close(figure)


def _add_sensors(report: mne.Report, shard: Shard, raw: mne.io.BaseRaw) -> None:
    import matplotlib.pyplot as plt  # noqa: PLC0415

    from neurofm.eeg.usable import positioned  # noqa: PLC0415  # it imports MNE

    known = positioned(raw)
    if len(known) < 4:
        return
    part = raw.copy().pick([name for name in raw.ch_names if name in known], exclude=())
    # With more of them, names lie upon each other; those of bad channels are what one looks for.
    names = True if len(known) <= _NAMED else [name for name in part.ch_names if name in part.info["bads"]]
    figure = part.plot_sensors(show_names=names, show=False)
    bad = int((~shard.usable).sum())
    caption = f"{len(known)} of {counted(len(raw.ch_names), 'electrode')} with a position; {bad} not usable, in red."
    report.add_figure(figure, title="Sensors", caption=caption, tags=("sensors",))
    plt.close(figure)


def _add_events(report: mne.Report, shard: Shard, raw: mne.io.BaseRaw) -> None:
    import mne  # noqa: PLC0415

    events = shard.recording.events
    if events is None or not len(events.onset_s):
        return
    kinds = Counter(events.label)
    rows = [(label, str(count)) for label, count in sorted(kinds.items(), key=lambda one: (-one[1], one[0]))]
    rest = f"{len(rows) - _EVENT_ROWS} more kinds of event"
    shown = [*rows[:_EVENT_ROWS], *([(rest, "")] if len(rows) > _EVENT_ROWS else [])]
    report.add_html(_table(shown, head=("event", "how often")), title="Events", tags=("events",))
    found, ids = mne.events_from_annotations(raw, regexp="^(?!BAD_not_valid$)")
    if 0 < len(ids) <= _EVENT_KINDS:
        report.add_events(found, title="Events in time", event_id=ids, sfreq=raw.info["sfreq"])

"""A laboratory's own tables (``.mat``, ``.npz``, ``.npy``, ``.rds``, ``.pkl``) by a mapping that says what is where.

Nothing of the mapping is code: names of variables, the order of their axes, the time from sample to sample. Trials are
laid on one clock with gaps between them that are not valid, so that nothing is carried from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, model_validator

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, unknown_positions
from neurofm.readers.shared.trial_axes import CHANNEL, by_trial, first_per_trial, per_trial, trim_padding
from neurofm.readers.shared.trial_clock import TrialClock, as_recorded, check_apart, end_to_end
from neurofm.readers.shared.trial_targets import SampleGrid, angle_target, on_own_times, on_samples, side_by_side
from neurofm.readers.shared.unit_times import unit_times
from neurofm.readers.shared.variables import find, load_variables
from neurofm.recording import (
    Channels,
    EventColumn,
    Events,
    Modality,
    Recording,
    Signal,
    Spikes,
    Target,
    Unreadable,
)
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("numpy", "scipy", "h5py", "pandas", "rdata")

_RATE = "Hz"
_COUNT = "count"
_WHOLE = 1e-3
"""How far a count may lie from a whole number: rates are counts divided by a bin."""
_READS = frozenset({Modality.SPIKES, Modality.CALCIUM, Modality.MINISCOPE})


def _known_axes(axes: str) -> str:
    names = axes.split()
    if "time" not in names or len(set(names)) != len(names) or not set(names) <= {"trial", "time", *CHANNEL}:
        msg = f"{axes!r} is not an order of trial, time and unit (or column), such as 'trial unit time'"
        raise ValueError(msg)
    return axes


Axes = Annotated[str, AfterValidator(_known_axes)]


class SignalSource(Settings):
    """Where the counts or traces are."""

    path: str
    """The variable: ``spks``, ``data.rates``; ``D.neuron*`` for one variable per unit, whose axis comes first."""
    axes: Axes
    """Order of its axes: ``trial unit time``. Without ``trial`` it is one unbroken recording."""


class TimesSource(Settings):
    """Where the spike times are, of an unbroken recording."""

    path: str
    """One list of times per unit, seconds: ``spikes.time``. Units without any are left out."""
    start_s: float | None = None
    """When observation began; by default with the first spike or the first sample of a target."""
    stop_s: float | None = None


class TargetSource(Settings):
    """Something that can be decoded."""

    paths: tuple[str, ...] = Field(min_length=1)
    """The variable; several are set side by side as columns."""
    axes: Axes
    """``trial time``, ``trial time column``; ``time`` for a series along the whole recording."""
    time: str = ""
    """Variable with the time of each sample, seconds. Without it, samples are those of the signal."""
    kind: Literal["linear", "angle"] = "linear"
    """An angle becomes its cosine and sine."""
    unit: str = ""
    """``cm/s``; for an angle ``degree`` or ``radian``."""
    columns: tuple[str, ...] = ()
    """Names of its columns; numbers where they are not given."""


class Options(Settings):
    """The mapping."""

    signal: SignalSource | None = None
    spikes: TimesSource | None = None
    """One of the two."""
    period_s: float | str = ""
    """Time from sample to sample or width of a bin, seconds: a number, or the variable that holds it."""
    units: str = _COUNT
    """``count`` or ``Hz`` (counts divided by the bin) for spikes; of traces as the file has them, ``dF/F``."""
    trials: dict[str, str] = Field(default_factory=dict)
    """One value per trial: the name that the events' column gets, and the variable."""
    onset: str = ""
    """When each trial began, seconds: one number per trial, or the times of its samples."""
    clock: Literal["end_to_end", "recorded"] = "end_to_end"
    """Whether trials are laid end to end, or where `onset` says: most of the recording may be gaps then."""
    gap_s: float = Field(default=0.2, gt=0)
    """Least time between trials that are laid end to end."""
    channels: dict[str, str] = Field(default_factory=dict)
    """One value per unit: ``region`` and ``id``; any other name is a quality column of numbers."""
    targets: dict[str, TargetSource] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.signal is None) == (self.spikes is None):
            msg = "give `signal` (counts or traces) or `spikes` (times), one of them"
            raise ValueError(msg)
        if self.signal is not None and not self.period_s:
            msg = "`signal` needs `period_s`, the seconds from sample to sample"
            raise ValueError(msg)
        if self.clock == "recorded" and not self.onset:
            msg = "`clock: recorded` needs `onset`"
            raise ValueError(msg)
        return self


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The recording's files, each loaded once."""

    source: ReaderInput
    loaded: dict[str, Any] = field(default_factory=dict)

    def get(self, path: str) -> tuple[Any, str]:
        """Return a variable and how errors call it; ``role:name`` is one of the file that plays a role."""
        role, found, name = path.rpartition(":")
        role = role if found else "main"
        file = self.source.path(role)
        if role not in self.loaded:
            self.loaded[role] = load_variables(file)
        return find(self.loaded[role], name, file=file.name), f"{file.name}: {path}"


def read(source: ReaderInput, options: Options) -> Recording:
    """Read one recording as the mapping says.

    Parameters
    ----------
    source
        ``main`` and other roles are the files; a path of the mapping is ``role:name`` where it is not in ``main``.
    options
        The mapping.

    Returns
    -------
    Recording
        Counts: `signal` [bin, unit] int64 (``count``). Traces: `signal` [time, unit] float64, NaN between trials.
        Times: `spikes`. `stretches` and one event per trial where there are trials; the events' columns are those of
        the mapping, and ``recorded_onset_s`` where the file says it.

    Raises
    ------
    Unreadable
        For a damaged file, a variable that is not there, or shapes that do not fit each other.
    """
    files = _Files(source=source)
    if source.modality not in _READS:
        raise Unreadable(f"{source.path().name}: reader 'trials' knows spikes, calcium and miniscope")
    return _times(files, options) if options.signal is None else _regular(files, options, options.signal)


def _regular(files: _Files, options: Options, wanted: SignalSource) -> Recording:
    value, what = files.get(wanted.path)
    axes = wanted.axes.split()
    whole = by_trial(value, axes, what=what)
    if not whole:
        raise Unreadable(f"{what}: no trial")
    trials = trim_padding(whole)
    _check_units(files, options, trials, what=what, axes=wanted.axes)
    lengths = [len(trial) for trial in trials]
    if min(lengths) == 0:
        raise Unreadable(f"{what}: trial {lengths.index(0) + 1} of {len(lengths)} holds no sample")
    period_s = _period(files, options)
    onset_s = None
    if options.onset:
        onset, onset_name = files.get(options.onset)
        onset_s = first_per_trial(onset, n=len(trials), what=onset_name)
        check_apart(onset_s, lengths, period_s=period_s, what=onset_name)
    if onset_s is not None and options.clock == "recorded":
        clock = as_recorded(onset_s, lengths, period_s=period_s)
    else:
        clock = end_to_end(lengths, period_s=period_s, gap_s=options.gap_s)
    units = trials[0].shape[1]
    joined = np.concatenate(trials)
    counts = files.source.modality is Modality.SPIKES
    values: npt.NDArray[Any] = np.full((clock.samples, units), 0 if counts else np.nan)
    values[clock.rows()] = _counts(joined, options.units, period_s, what=what) if counts else joined
    signal = Signal(
        values=values.astype(np.int64) if counts else values,
        sampling_rate_hz=1 / period_s,
        units=_COUNT if counts else options.units,
        start_s=clock.start_s,
    )
    grid = SampleGrid(clock=clock, length=tuple(map(len, whole)), centred=counts)
    return build(
        files.source,
        channels=_channels(files, options, n=units),
        signal=signal,
        stretches=clock.stretches if "trial" in axes else None,
        events=_events(files, options, clock, onset_s) if "trial" in axes else None,
        targets={name: _target(files, target, name=name, grid=grid) for name, target in options.targets.items()},
    )


def _times(files: _Files, options: Options) -> Recording:
    assert options.spikes is not None
    value, what = files.get(options.spikes.path)
    time_s, channel, n = unit_times(value, what=what)
    targets = {name: _target(files, target, name=name) for name, target in options.targets.items()}
    spans = [time_s, *(target.time_s for target in targets.values())]
    start_s, stop_s = options.spikes.start_s, options.spikes.stop_s
    start_s = min(float(span.min()) for span in spans) if start_s is None else start_s
    stop_s = max(float(span.max()) for span in spans) if stop_s is None else stop_s
    outside = int(np.sum((time_s < start_s) | (time_s > stop_s)))
    if outside:
        raise Unreadable(f"{what}: {outside} spikes lie outside {start_s:g} to {stop_s:g} s, the time observed")
    return build(
        files.source,
        channels=_channels(files, options, n=n),
        spikes=Spikes(time_s=time_s, channel=channel, start_s=start_s, stop_s=stop_s),
        targets=targets,
    )


def _period(files: _Files, options: Options) -> float:
    if isinstance(options.period_s, float):
        period_s, what = options.period_s, "reader_options: period_s"
    else:
        value, what = files.get(str(options.period_s))
        (period_s,) = first_per_trial(value, n=1, what=what).tolist()
    if not period_s > 0:
        raise Unreadable(f"{what}: {period_s:g} s is no time from sample to sample")
    return period_s


def _check_units(
    files: _Files, options: Options, trials: list[npt.NDArray[np.float64]], *, what: str, axes: str
) -> None:
    """Find axes that were named in the wrong order, by the shapes."""
    units = sorted({trial.shape[1] for trial in trials})
    longest = max(len(trial) for trial in trials)
    if len(units) > 1:
        hint = f"; every trial has {longest} samples: `axes` may have unit and time the wrong way round"
        same_length = len({len(trial) for trial in trials}) == 1
        raise Unreadable(f"{what}: trials have {units[0]} to {units[-1]} units{hint if same_length else ''}")
    for name, path in options.channels.items():
        column, column_name = files.get(path)
        n = len(column) if isinstance(column, list) else int(np.size(column))
        if n != units[0]:
            hint = f"; it has {longest} samples: `axes: {axes}` has unit and time the wrong way round"
            raise Unreadable(
                f"{what}: {units[0]} units, but {n} values of {name} in {column_name}{hint if n == longest else ''}"
            )


def _counts(values: npt.NDArray[np.float64], units: str, period_s: float, *, what: str) -> npt.NDArray[np.float64]:
    if units not in {_COUNT, _RATE}:
        raise Unreadable(f"{what}: spikes are in `units: {_COUNT}` or `units: {_RATE}`, not {units!r}")
    counts = values * period_s if units == _RATE else values
    if not np.isfinite(counts).all():
        raise Unreadable(f"{what}: {int((~np.isfinite(counts)).sum())} counts of spikes are missing (NaN)")
    if counts.min() < 0:
        raise Unreadable(f"{what}: {int((counts < 0).sum())} counts of spikes are negative")
    whole = np.rint(counts)
    odd = np.abs(counts - whole) > _WHOLE
    if odd.any():
        raise Unreadable(
            f"{what}: {odd.mean():.0%} of the values are no whole number of spikes per bin of {period_s * 1000:g} ms: "
            "smoothed or averaged rates cannot be counted again"
        )
    return np.asarray(whole)


def _channels(files: _Files, options: Options, *, n: int) -> Channels:
    columns = {}
    for name, path in options.channels.items():
        value, what = files.get(path)
        columns[name] = per_trial(value, n=n, what=what, of="units")
    quality = {name: column for name, column in columns.items() if name not in {"region", "id"}}
    for name, column in quality.items():
        if isinstance(column, tuple):
            raise Unreadable(f"{files.source.path().name}: the units' column {name!r} holds texts, expected numbers")
    ids = tuple(map(_label, columns["id"])) if "id" in columns else tuple(f"unit-{i:03d}" for i in range(n))
    if len(set(ids)) != n:
        raise Unreadable(f"{files.source.path().name}: {options.channels['id']}: two units have the same id")
    return Channels(
        id=ids,
        position=unknown_positions(n),
        position_unit="",
        region=tuple(map(_label, columns.get("region", ()))),
        quality={name: np.asarray(column, dtype=np.float64) for name, column in quality.items()},
    )


def _label(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _events(files: _Files, options: Options, clock: TrialClock, onset_s: npt.NDArray[np.float64] | None) -> Events:
    n = len(clock.first)
    columns: dict[str, EventColumn] = {}
    for name, path in options.trials.items():
        value, what = files.get(path)
        columns[name] = per_trial(value, n=n, what=what)
    if onset_s is not None:
        columns["recorded_onset_s"] = onset_s
    stretches = clock.stretches
    return Events(
        onset_s=stretches[:, 0],
        duration_s=stretches[:, 1] - stretches[:, 0],
        label=("trial",) * n,
        columns=columns,
    )


def _target(files: _Files, wanted: TargetSource, *, name: str, grid: SampleGrid | None = None) -> Target:
    """Return a target on times of its own, or on those of the signal's samples."""
    axes = wanted.axes.split()
    what = f"{files.source.path().name}: {name}"
    parts = [by_trial(value, axes, what=called) for value, called in map(files.get, wanted.paths)]
    trials = side_by_side(parts, what=what)
    if wanted.time:
        value, called = files.get(wanted.time)
        values, time_s = on_own_times(trials, value, what=called)
    elif grid is None:
        raise Unreadable(f"{what}: needs `time`, the variable with its times, since spike times have no samples")
    else:
        values, time_s = on_samples(trials, grid, what=what)
    if wanted.kind == "angle":
        return angle_target(values, time_s, unit=wanted.unit, what=what)
    columns = wanted.columns or tuple(map(str, range(values.shape[1])))
    if len(columns) != values.shape[1]:
        raise Unreadable(f"{what}: {values.shape[1]} columns, the mapping names {', '.join(columns)}")
    return Target(values=values, unit=wanted.unit, columns=columns, time_s=time_s)

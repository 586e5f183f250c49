"""Neurodata Without Borders (NWB 2.x): sorted spikes, or fluorescence of regions of interest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

from pydantic import Field
from pynwb import NWBHDF5IO, NWBFile

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening
from neurofm.readers.shared.nwb_intervals import read_events, read_intervals
from neurofm.readers.shared.nwb_ophys import read_fluorescence
from neurofm.readers.shared.nwb_series import has_series, read_target
from neurofm.readers.shared.nwb_stimulus import NwbStimulus, read_stimulus
from neurofm.readers.shared.nwb_units import read_units
from neurofm.readers.shared.participants import participant_scalars
from neurofm.readers.shared.states import StateSource, with_states
from neurofm.recording import Events, Modality, Recording, Target, Unreadable
from neurofm.settings import Settings

VERSION = "3"
LIBRARIES = ("pynwb", "hdmf", "h5py", "numpy")


class TargetSource(Settings):
    """Where a file keeps something that can be decoded."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Series inside the file, ``acquisition/Position/x``; several are set side by side."""
    kind: Literal["linear", "angle"]
    """An angle becomes its cosine and sine, which can be averaged and interpolated."""
    unit: str = ""
    """Where the file does not say it (or not for an angle): ``m``, ``radian``, ``degree``."""
    field: str = "data"
    """Which dataset of the series: ``area`` of an ellipse fitted to the pupil."""
    ends: str = ""
    """A series whose timestamps say when each sample's interval ended: the target's times are the middles."""
    invalid: str = ""
    """A series that is not zero where the values are not to be trusted (blinks): they become NaN."""
    optional: bool = False
    """A file without it is read all the same: sessions without behaviour are kept for pretraining."""


class NwbStates(StateSource):
    """A state that an interval table of the file tells."""

    intervals: str = "epochs"
    """The table, or a pattern of several."""
    column: str = ""
    """Its column that says which state a row is in; without one the rows' labels as events do: an epoch's tags, of
    other tables the table's name."""


_LAYOUTS = {
    "": {},
    "allen-visual-coding": {
        "running_speed": TargetSource(
            paths=("processing/running/running_speed",),
            kind="linear",
            unit="cm/s",
            ends="processing/running/running_speed_end_times",
            optional=True,
        ),
        "pupil": TargetSource(paths=("processing/filtered_gaze_mapping/pupil_area",), kind="linear", optional=True),
    },
    "allen-visual-behavior": {
        "running_speed": TargetSource(paths=("processing/running/speed",), kind="linear", unit="cm/s", optional=True),
        "pupil": TargetSource(
            paths=("acquisition/EyeTracking/pupil_tracking",),
            kind="linear",
            unit="px2",
            field="area",
            invalid="acquisition/EyeTracking/likely_blink",
            optional=True,
        ),
    },
}
"""Where the Allen Institute's writers (allensdk 2.16) put behaviour."""

_LACKING_INTEGER = {"allen-visual-behavior": -99}
"""What a layout's writer puts where an integer is lacking, as the change frame of an aborted trial (``INT_NULL``)."""


class Options(Settings):
    """What of an NWB file is wanted."""

    layout: Literal["", "allen-visual-coding", "allen-visual-behavior"] = ""
    """Whose files these are: running speed and pupil are found without `targets` where a session has them."""
    targets: dict[str, TargetSource] = Field(default_factory=dict)
    """What can be decoded, besides or instead of what `layout` names."""
    states: dict[str, NwbStates] = Field(default_factory=dict)
    """What can be told apart, as awake (1) from asleep (0): targets made of interval tables."""
    events: tuple[str, ...] = ("epochs", "trials", "*_presentations")
    """Interval tables (names or patterns) that become events with their columns; lacking ones are passed over."""
    series: str = ""
    """The fluorescence, ``processing/ophys/Fluorescence/RoiResponseSeries``; may be left out where one stands out."""
    neuropil: str = ""
    """Its neuropil; may be left out where a series of the same shape is called so."""
    deconvolved: str = ""
    """Deconvolved activity (``processing/ophys/event_detection``), kept beside the signal as ``deconvolved``."""
    stimulus: NwbStimulus | None = None
    """Images or a film that were shown, kept frame by frame; none by default, since they are large."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read the units table (spikes) or a fluorescence series (calcium, miniscope) with its targets and events.

    Parameters
    ----------
    source
        ``main`` is the NWB file; a ``participants.tsv`` among the side files gives the scalars.
    options
        Which series, interval tables and images.

    Returns
    -------
    Recording
        Spikes: exact times, regions, no signal. Fluorescence: `signal` [time, ROI] in the file's unit,
        `sample_time_s` where the file has timestamps, ``neuropil`` in `extra_signals` where it has that,
        ROI centroids in pixels.

    Raises
    ------
    Unreadable
        If the file is damaged or lacks what is asked for.
    """
    path = source.path()
    with opening(path), NWBHDF5IO(path, "r") as io:
        file = io.read()
        targets = with_states(
            _targets(file, path.name, options),
            options.states,
            intervals=partial(_intervals, file, path.name, options.states),
            name=path.name,
        )
        events = read_events(file, path.name, options.events, lacking_integer=_LACKING_INTEGER.get(options.layout))
        scalars = participant_scalars(source)
        stimulus = None if options.stimulus is None else read_stimulus(file, path.name, options.stimulus)
        if source.modality is Modality.SPIKES:
            units = read_units(file, path.name, targets)
            return build(
                source,
                channels=units.channels,
                spikes=units.spikes,
                events=events,
                targets=targets,
                stimulus=stimulus,
                scalars=scalars,
            )
        if source.modality in {Modality.CALCIUM, Modality.MINISCOPE}:
            roi = read_fluorescence(
                file,
                path.name,
                series=options.series,
                neuropil=options.neuropil,
                deconvolved=options.deconvolved,
            )
            return build(
                source,
                channels=roi.channels,
                signal=roi.signal,
                sample_time_s=roi.sample_time_s,
                extra_signals=roi.extra_signals,
                events=events,
                targets=targets,
                stimulus=stimulus,
                scalars=scalars,
            )
    raise Unreadable(f"{path.name}: reader 'nwb' knows spikes, calcium and miniscope, not {source.modality}")


def _intervals(file: NWBFile, name: str, states: Mapping[str, NwbStates], state: str) -> Events | None:
    source = states[state]
    return read_intervals(
        file, source.intervals, source.column, optional=source.optional, where=f"{name}: states.{state}"
    )


def _targets(file: NWBFile, name: str, options: Options) -> dict[str, Target]:
    wanted = {**_LAYOUTS[options.layout], **options.targets}
    return {
        target: read_target(
            file,
            name,
            target=target,
            paths=source.paths,
            angle=source.kind == "angle",
            unit=source.unit,
            field=source.field,
            ends=source.ends if has_series(file, source.ends) else "",
            invalid=source.invalid if has_series(file, source.invalid) else "",
        )
        for target, source in wanted.items()
        if not (source.optional and not all(has_series(file, path) for path in source.paths))
    }

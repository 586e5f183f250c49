"""Neurodata Without Borders (NWB 2.x): sorted spikes, or fluorescence of regions of interest."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pynwb import NWBHDF5IO, NWBFile

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening
from neurofm.readers.shared.nwb_ophys import read_fluorescence
from neurofm.readers.shared.nwb_series import read_events, read_target
from neurofm.readers.shared.nwb_units import read_units
from neurofm.readers.shared.participants import participant_scalars
from neurofm.recording import Modality, Recording, Target, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("pynwb", "hdmf", "h5py", "numpy")


class TargetSource(Settings):
    """Where a file keeps something that can be decoded."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Series inside the file, ``acquisition/Position/x``; several are set side by side."""
    kind: Literal["linear", "angle"]
    """An angle becomes its cosine and sine, which can be averaged and interpolated."""
    unit: str = ""
    """Where the file does not say it (or not for an angle): ``m``, ``radian``, ``degree``."""


class Options(Settings):
    """What of an NWB file is wanted."""

    targets: dict[str, TargetSource] = Field(default_factory=dict)
    events: tuple[str, ...] = ("epochs", "trials")
    """Interval tables that become events; those that a file lacks are passed over."""
    series: str = ""
    """The fluorescence, ``processing/ophys/Fluorescence/RoiResponseSeries``; may be left out where one stands out."""
    neuropil: str = ""
    """Its neuropil; may be left out where a series of the same shape is called so."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read the units table (spikes) or a fluorescence series (calcium, miniscope) with its targets and events.

    Parameters
    ----------
    source
        ``main`` is the NWB file; a ``participants.tsv`` among the side files gives the scalars.
    options
        Which series and interval tables.

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
        targets = {name: _target(file, path.name, name, wanted) for name, wanted in options.targets.items()}
        events = read_events(file, options.events)
        scalars = participant_scalars(source)
        if source.modality is Modality.SPIKES:
            units = read_units(file, path.name, targets)
            return build(
                source, channels=units.channels, spikes=units.spikes, events=events, targets=targets, scalars=scalars
            )
        if source.modality in {Modality.CALCIUM, Modality.MINISCOPE}:
            roi = read_fluorescence(file, path.name, series=options.series, neuropil=options.neuropil)
            return build(
                source,
                channels=roi.channels,
                signal=roi.signal,
                sample_time_s=roi.sample_time_s,
                extra_signals=roi.extra_signals,
                events=events,
                targets=targets,
                scalars=scalars,
            )
    raise Unreadable(f"{path.name}: reader 'nwb' knows spikes, calcium and miniscope, not {source.modality}")


def _target(file: NWBFile, name: str, target: str, wanted: TargetSource) -> Target:
    return read_target(file, name, target=target, paths=wanted.paths, angle=wanted.kind == "angle", unit=wanted.unit)

"""ALF files of the International Brain Laboratory, as ONE-api loads them: sorted spikes, or fibre photometry."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from one.alf.path import ALFPath
from pydantic import Field, StringConstraints

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.alf_behaviour import read_cameras, read_trials, read_wheel
from neurofm.readers.shared.alf_photometry import read_photometry
from neurofm.readers.shared.alf_tree import session_tree
from neurofm.readers.shared.alf_units import read_insertion
from neurofm.readers.shared.common import build
from neurofm.recording import Clock, Modality, Recording, Unreadable
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("ONE-api", "iblutil", "numpy", "pandas", "scipy")


class Options(Settings):
    """What of a session is wanted."""

    revision: Annotated[str, StringConstraints(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = ""
    """Of datasets in folders ``#2024-05-06#``, the latest not after this date, as ONE chooses; empty for the latest."""
    trial_onset: str = "intervals"
    """What a trial's event begins at: ``intervals``, its own beginning, or ``stimOn_times``, ``goCue_times``.."""
    min_likelihood: float = Field(default=0.9, ge=0, le=1)
    """Places of body parts of which the tracker is less sure are left out."""
    indicator: str = "GCaMP"
    """Photometry: the ``name`` of the frames that depend on calcium."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read one insertion (spikes) or one photometry table (calcium) with the behaviour of its session.

    One recording is one insertion: the units, tracks and qualities of two probes have nothing in common, and either
    may be missing or bad without the other. Insertions of a session, and its photometry, have one clock id, which
    says that they are simultaneous; a clock that the catalogue names goes before it. All times in ALF files are seconds
    on the session's clock.

    Parameters
    ----------
    source
        ``main`` is ``spikes.times.npy`` or ``photometry.signal.pqt`` in its place in
        ``lab/Subjects/subject/date/number/alf/..``; the session's other files are side files.
    options
        Revision, what trials are aligned to.

    Returns
    -------
    Recording
        Spikes: exact times; per unit the archive's metrics, Allen acronym and position where the track was traced.
        Photometry: `signal` [time, fibre], `sample_time_s`, `valid` as the archive has it. Both: a trial per event,
        ``wheel_velocity``, ``pupil`` and ``pose_..`` among the targets where the session has them. A session without
        behaviour is kept; its quality ``has_behaviour`` is False.

    Raises
    ------
    Unreadable
        If a file is damaged or cannot be true: see `docs/formats/ibl.md`.
    """
    tree = session_tree(source, revision=options.revision)
    collection = ALFPath(source.path()).collection
    events, timeless = read_trials(tree, onset=options.trial_onset)
    targets = read_wheel(tree) | read_cameras(tree, min_likelihood=options.min_likelihood)
    quality: dict[str, JsonScalar] = {
        "has_behaviour": events is not None or bool(targets),
        "n_trials": 0 if events is None else len(events.label),
        "trials_without_time": timeless,
    }
    clock = Clock(id=source.clock_id if source.clock else f"{source.dataset}/{tree.session}")
    if source.modality is Modality.SPIKES:
        insertion = read_insertion(tree, collection=collection)
        recording = build(
            source,
            channels=insertion.channels,
            spikes=insertion.spikes,
            events=events,
            targets=targets,
            quality=quality,
        )
        return replace(recording, clock=clock)
    if source.modality is Modality.CALCIUM:
        photometry = read_photometry(tree, collection=collection, indicator=options.indicator)
        recording = build(
            source,
            channels=photometry.channels,
            signal=photometry.signal,
            sample_time_s=photometry.time_s,
            events=events,
            targets=targets,
            quality=quality,
        )
        return replace(recording, clock=clock, valid=photometry.valid, noise=photometry.noise)
    raise Unreadable(f"{source.path().name}: reader 'alf' knows spikes and calcium (photometry), not {source.modality}")

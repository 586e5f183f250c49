"""What the readers of EEG and MEG share: an MNE raw object becomes a recording."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mne
import numpy as np
import numpy.typing as npt

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening, unknown_positions
from neurofm.readers.shared.edf_header import gaps_of
from neurofm.readers.shared.event_rows import EventRow, EventTable, events_of
from neurofm.readers.shared.mne_options import UNITS, RawOptions, template
from neurofm.readers.shared.participants import participant_scalars
from neurofm.recording import Channels, Recording, Signal, Unreadable
from neurofm.recording.recording import JsonScalar

_PLAUSIBLE_V = (0.1e-6, 5000e-6)
"""Median SD within a second. Scalp EEG lies at 11 to 40 uV, so that a factor of 1e3 leads out of it either way; the
upper end leaves room for electrodes in the air (1.9 mV in the sample `tiny-bids-eeg`)."""
_TYPICAL_V = 20e-6
_DUPLICATES = re.compile(r"Channel names are not unique, found duplicates for: (.+?)\. Applying")
_CUT = "does not match the file size"
_OTHER_NUMBER = re.compile(r"number of channels in the channels\.tsv sidecar file \((\d+)\) does not match")
_OMITTED = re.compile(r"Omitted (\d+) annotation")
_KINDS = {"meg": ("mag", "grad")}
"""What MNE calls the kinds that a word of ours stands for."""
_OF_THE_ACQUISITION = ("BAD_ACQ_SKIP",)
"""Annotations that mne-bids keeps beside those of ``events.tsv`` (`mne_bids.config.ANNOTATIONS_TO_KEEP`)."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A raw object, and what MNE remarked while it opened it."""

    raw: mne.io.BaseRaw
    remarks: tuple[str, ...]

    @property
    def omitted_events(self) -> int:
        """How many annotations lie beyond the ends of the recording: MNE leaves them out."""
        return sum(int(found[1]) for remark in self.remarks for found in _OMITTED.finditer(remark))

    @property
    def cut_short(self) -> bool:
        """Whether the file is shorter than its header says; MNE reads what is there."""
        return any(_CUT in remark for remark in self.remarks)

    @property
    def described_channels(self) -> int:
        """How many channels ``channels.tsv`` has, where the file has another number; else 0."""
        return sum(int(found[1]) for remark in self.remarks for found in _OTHER_NUMBER.finditer(remark))


def opened(path: Path, read: Callable[[], mne.io.BaseRaw]) -> Opened:
    """Open a recording, and refuse what MNE would only warn of or pass over.

    Parameters
    ----------
    path
        The main file.
    read
        Opens it with MNE or mne-bids, at ``verbose="warning"``.

    Raises
    ------
    Unreadable
        For a damaged file, two channels of one name (MNE renames them), and a discontinuous EDF+ or BDF+ file.
    """
    with opening(path), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _CHECKS.get(path.suffix.lower(), _nothing)(path)
        try:
            raw = read()
        except Exception:
            # Names that differ from the side file's are MNE's complaint where the file has one name twice.
            _refuse_duplicates(path, said)
            raise
        _refuse_duplicates(path, said)
        return Opened(raw=raw, remarks=tuple(str(remark.message) for remark in said))


def raw_recording(
    source: ReaderInput,
    found: Opened,
    options: RawOptions,
    *,
    events: EventTable | None = None,
    scalars: Mapping[str, JsonScalar] | None = None,
    quality: Mapping[str, JsonScalar] | None = None,
) -> Recording:
    """Take one kind of channel out of an MNE raw object.

    Parameters
    ----------
    source
        Where it comes from.
    found
        The opened raw object; it need not be loaded.
    options
        What is wanted, and what replaces the file's words.
    events
        The table of events beside the file; without one the file's stimulus channel and annotations are taken.
    scalars, quality
        What side files say.

    Returns
    -------
    Recording
        `signal` [time, channel] float64 in V, T or T/m (`UNITS`) from time 0 of the recording; positions in m in
        head coordinates; quality column ``marked_bad`` is 1 for channels that the file calls bad, and of MEG
        ``gradiometer`` for those in T/m, the others being in T; scalars
        ``line_freq_hz`` where the file states it and ``montage`` where positions are a template's; events with all
        their columns. Its quality counts ``events_outside`` (before the start or past the end: left out) and
        ``events_without_onset``, and ``not_in_montage`` (channels that a template does not place), and says
        ``cut_short`` of a file that ends before its header says and ``described_channels`` (rows of a ``channels.tsv``
        that has more or fewer than the file), where it is so.

    Raises
    ------
    Unreadable
        If there is no channel of that kind, all of them are marked bad, EEG is in a wrong unit, `rename` or `types`
        name a channel that is not there, the montage holds fewer than half of the channels, or there is no event
        `clock_event`.
    """
    name = source.path().name
    raw = found.raw
    _rename(raw, options, name=name)
    if not {options.picks, *_KINDS.get(options.picks, ())} & set(raw.get_channel_types()):
        raise Unreadable(
            f"{name}: no {options.picks!r} channel; it has {', '.join(sorted(set(raw.get_channel_types())))}"
        )
    chosen = raw.copy().pick(options.picks, exclude=())
    marked_bad = np.array([channel in raw.info["bads"] for channel in chosen.ch_names])
    if marked_bad.all():
        raise Unreadable(f"{name}: all {len(marked_bad)} {options.picks} channels are marked bad")
    facts: dict[str, JsonScalar] = {**participant_scalars(source), **(scalars or {})}
    position, space = _positions(chosen)
    if options.montage and not np.isfinite(position).any():
        position, space = _template(chosen, options.montage, name=name)
        facts["montage"] = options.montage
    known = bool(np.isfinite(position).any())
    channels = Channels(
        id=tuple(chosen.ch_names),
        position=position,
        position_unit="m" if known else "",
        space=space if known else "unknown",
        quality={"marked_bad": marked_bad.astype(np.float64), **_gradiometers(chosen, options)},
    )
    rate_hz = float(raw.info["sfreq"])
    values = np.ascontiguousarray(chosen.get_data().T)
    if options.picks == "eeg":
        _refuse_wrong_unit(values, ~marked_bad, rate_hz, name=name)
    if raw.info["line_freq"]:
        facts["line_freq_hz"] = float(raw.info["line_freq"])
    rows = _own_events(raw) if events is None else [*events.rows, *_skips(raw)]
    happened, outside = events_of(rows, labels=options.event_labels, stop_s=len(values) / rate_hz)
    counts: dict[str, JsonScalar] = {
        "events_outside": outside + (found.omitted_events if events is None else 0),
        "events_without_onset": events.without_onset if events is not None else 0,
        "cut_short": found.cut_short,
        "described_channels": found.described_channels,
        "not_in_montage": int(np.isnan(position).all(axis=1).sum()) if "montage" in facts else 0,
    }
    recording = build(
        source,
        channels=channels,
        signal=Signal(values=values, sampling_rate_hz=rate_hz, units=UNITS[options.picks]),
        events=happened,
        scalars=facts,
        quality={**(quality or {}), **{key: count for key, count in counts.items() if count}},
    )
    if not options.clock_event:
        return recording
    if happened is None or options.clock_event not in happened.label:
        raise Unreadable(f"{name}: no event {options.clock_event!r}, which `clock_event` says its clock starts at")
    starts_s = float(happened.onset_s[happened.label.index(options.clock_event)])
    return replace(recording, clock=replace(recording.clock, offset_s=-starts_s))


def _gradiometers(chosen: mne.io.BaseRaw, options: RawOptions) -> dict[str, npt.NDArray[np.float64]]:
    """Which channels are in T/m, where both kinds of MEG were picked."""
    if options.picks != "meg":
        return {}
    return {"gradiometer": np.array([kind == "grad" for kind in chosen.get_channel_types()], dtype=np.float64)}


def _refuse_duplicates(path: Path, said: list[warnings.WarningMessage]) -> None:
    for remark in said:
        if twice := _DUPLICATES.search(str(remark.message)):
            names = ", ".join(sorted(re.findall(r"'([^']*)'", twice[1])))
            raise Unreadable(f"{path.name}: more than one channel is called {names}")


def _refuse_duplicates_of_brainvision(path: Path) -> None:
    """Refuse a header with a name twice, at which MNE fails without a word."""
    text = path.read_text(encoding="latin-1").partition("[Channel Infos]")[2].partition("\n[")[0]
    names = re.findall(r"^Ch\d+=([^,]*),", text, re.MULTILINE)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Unreadable(f"{path.name}: more than one channel is called {', '.join(twice)}")


def _refuse_gaps(path: Path) -> None:
    gaps = gaps_of(path)
    if gaps:
        more = f" ({len(gaps)} gaps in all)" if len(gaps) > 1 else ""
        raise Unreadable(
            f"{path.name}: discontinuous: it stops at {gaps[0].stops_s:g} s and goes on at "
            f"{gaps[0].resumes_s:g} s{more}; a recording must be one piece"
        )


def _nothing(_: Path) -> None:
    return


_CHECKS: Mapping[str, Callable[[Path], None]] = {
    ".edf": _refuse_gaps,
    ".bdf": _refuse_gaps,
    ".vhdr": _refuse_duplicates_of_brainvision,
}
"""What MNE does not notice, by format."""


def _refuse_wrong_unit(
    values: npt.NDArray[np.float64], used: npt.NDArray[np.bool_], rate_hz: float, *, name: str
) -> None:
    """Refuse [time, channel] that no scalp gives: a header in uV whose numbers are V, or the other way round.

    `used` [channel] leaves bad channels out; those that are flat are left out too.
    """
    samples = min(len(values), max(2, round(rate_hz)))
    seconds = len(values) // samples if samples else 0
    if not seconds:
        return
    # Within a second, for amplifiers without a high-pass drift by millivolts in minutes; and second by second, for a
    # copy of an hour's recording would not fit beside it.
    sd = np.array([values[i * samples : (i + 1) * samples, used].std(axis=0) for i in range(seconds)])
    varying = sd[np.isfinite(sd) & (sd > 0)]
    if not len(varying):
        return
    median = float(np.median(varying))
    low, high = _PLAUSIBLE_V
    if not low <= median <= high:
        exponent = 3 * round(np.log10(median / _TYPICAL_V) / 3)
        size = "large" if exponent > 0 else "small"
        raise Unreadable(
            f"{name}: wrong unit: its EEG has a median SD of {median * 1e6:.3g} uV, expected {low * 1e6:g} to "
            f"{high * 1e6:g} uV; the values are too {size} by about 1e{abs(exponent)}"
        )


def _rename(raw: mne.io.BaseRaw, options: RawOptions, *, name: str) -> None:
    for what, wanted in (("rename", options.rename), ("types", options.types)):
        lacking = [channel for channel in wanted if channel not in raw.ch_names]
        if lacking:
            raise Unreadable(
                f"{name}: reader option `{what}` names channels that it lacks: {', '.join(lacking)}; "
                f"it has {', '.join(raw.ch_names[:8])}{', ...' if len(raw.ch_names) > 8 else ''}"
            )
        renamed = [options.rename.get(channel, channel) for channel in raw.ch_names]
        if what == "rename" and wanted:
            if twice := sorted({channel for channel in renamed if renamed.count(channel) > 1}):
                raise Unreadable(f"{name}: more than one channel is called {', '.join(twice)} after `rename`")
            raw.rename_channels(wanted)
        elif wanted:
            raw.set_channel_types(wanted, on_unit_change="ignore", verbose="error")


def _positions(raw: mne.io.BaseRaw) -> tuple[npt.NDArray[np.float64], str]:
    """Return [channel, 3] metres and their space; NaN where neither montage nor helmet gives the place."""
    position = unknown_positions(len(raw.ch_names))
    frames = mne.io.constants.FIFF
    to_head = raw.info["dev_head_t"]
    space = "head"
    for i, channel in enumerate(raw.info["chs"]):
        place = np.asarray(channel["loc"][:3], dtype=np.float64)
        # MNE writes zeros (older files) or NaN for electrodes without a place.
        if channel["coord_frame"] == frames.FIFFV_COORD_HEAD and np.any(place != 0):
            position[i] = place
        elif channel["coord_frame"] == frames.FIFFV_COORD_DEVICE and np.any(place != 0):
            # Sensors are known in the helmet's frame; where the head was in it may not have been measured.
            position[i] = place if to_head is None else mne.transforms.apply_trans(to_head, place)
            space = "head" if to_head is not None else "device"
    return position, space


def _template(raw: mne.io.BaseRaw, montage: str, *, name: str) -> tuple[npt.NDArray[np.float64], str]:
    places = template(montage)
    placed = raw.copy().set_montage(places, match_case=False, on_missing="ignore", verbose="error")
    position, space = _positions(placed)
    placed_channels = int(np.isfinite(position).all(axis=1).sum())
    # One name in common (Cz) makes no montage.
    if placed_channels < len(position) / 2:
        raise Unreadable(
            f"{name}: {placed_channels} of its {len(position)} channels ({', '.join(raw.ch_names[:4])}, ...) are in "
            f"the montage {montage} ({', '.join(places.ch_names[:4])}, ...); name another one, or other names by the "
            "reader option `rename`"
        )
    return position, space


def _own_events(raw: mne.io.BaseRaw) -> list[EventRow]:
    """Return what the file itself says happened: its stimulus channels and annotations."""
    rows: list[EventRow] = []
    if "stim" in raw.get_channel_types():
        # Sample numbers count from the start of the acquisition, of which the file may be a part.
        found: Any = mne.find_events(raw, shortest_event=1, verbose="error")
        rows += [
            EventRow(onset_s=float((sample - raw.first_samp) / raw.info["sfreq"]), duration_s=0.0, label=str(code))
            for sample, _, code in found
        ]
    return rows + _annotations(raw)


def _skips(raw: mne.io.BaseRaw) -> list[EventRow]:
    return [row for row in _annotations(raw) if row.label in _OF_THE_ACQUISITION]


def _annotations(raw: mne.io.BaseRaw) -> list[EventRow]:
    onset_offset_s = raw.first_time if raw.annotations.orig_time is not None else 0.0
    return [
        EventRow(
            onset_s=float(annotation["onset"]) - onset_offset_s,
            duration_s=float(annotation["duration"]),
            label=str(annotation["description"]),
            columns={key: str(value) for key, value in (annotation.get("extras") or {}).items()},
        )
        for annotation in raw.annotations
    ]

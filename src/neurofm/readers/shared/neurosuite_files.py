"""A Neurosuite session's files: from a folder, or from the archive that CRCNS packs each session in."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import opening
from neurofm.recording import Unreadable

_PACKED = (".tar.gz", ".tgz", ".tar")
_READ = re.compile(r"\.(xml|whl|clu\.\d+|res\.\d+)$|\.evt(\.|$)|^Epoch_TS\.csv$")
_OWN = re.compile(r"\.(xml|whl|nrs|eeg|lfp|led|(clu|res|fet|spk)\.\d+)$")
_LARGEST = 1 << 30


@dataclass(frozen=True, kw_only=True)
class SessionFiles:
    """The small files of a session, and how large the others are."""

    session: str
    """Name that its files begin with: ``ec013.527``."""
    content: Mapping[str, bytes]
    """By file name."""
    sizes: Mapping[str, int]
    """Bytes of every file, by file name."""

    def named(self, suffix: str) -> str:
        """Return the name of the session's file with this suffix (``.clu.1``)."""
        return f"{self.session}{suffix}"

    def integers(self, suffix: str) -> npt.NDArray[np.int64]:
        """Return the whole numbers of a file, one a line.

        Raises
        ------
        Unreadable
            If there is no such file, or something else is in it.
        """
        name = self.named(suffix)
        if name not in self.content:
            raise Unreadable(f"{name}: no such file in the session {self.session}")
        try:
            return np.array(self.content[name].split(), dtype="S").astype(np.int64)
        except ValueError:
            raise Unreadable(f"{name}: not all of its lines are whole numbers") from None

    def shanks(self) -> tuple[int, ...]:
        """Return the numbers of the electrode groups that have spikes sorted or detected."""
        found = re.compile(re.escape(self.session) + r"\.(?:clu|res)\.(\d+)")
        return tuple(sorted({int(match[1]) for name in self.content if (match := found.fullmatch(name))}))


def session_files(source: ReaderInput) -> SessionFiles:
    """Read a session's small files into memory; nothing is unpacked to disk, and voltage is passed over.

    Parameters
    ----------
    source
        ``main`` is the session's archive, or one of its files (``.xml``, ``.clu.1``) with the others as side files.

    Raises
    ------
    Unreadable
        If the archive is damaged.
    """
    main = source.path()
    packed = next((suffix for suffix in _PACKED if main.name.endswith(suffix)), "")
    content: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    with opening(main):
        found = _packed(main) if packed else _plain(source)
        for name, size, data in found:
            sizes[name] = size
            if data is not None:
                content[name] = data
    session = main.name.removesuffix(packed) if packed else _OWN.sub("", main.name)
    return SessionFiles(session=session, content=content, sizes=sizes)


def _packed(archive: Path) -> Iterator[tuple[str, int, bytes | None]]:
    with tarfile.open(archive, mode="r|*") as tar:
        for member in tar:
            if member.isreg():
                name = PurePosixPath(member.name).name
                file = tar.extractfile(member) if _READ.search(name) and member.size <= _LARGEST else None
                yield name, member.size, None if file is None else file.read()


def _plain(source: ReaderInput) -> Iterator[tuple[str, int, bytes | None]]:
    folder = source.path().parent
    for path in sorted({*source.entry.files.values(), *source.entry.extra}):
        file = source.root / path
        if file.parent == folder:
            yield file.name, file.stat().st_size, file.read_bytes() if _READ.search(file.name) else None


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """What the session's ``.xml`` says."""

    sampling_rate_hz: float
    """Of the sample numbers in ``.res``."""
    lfp_rate_hz: float
    channels: int
    bytes_per_sample: int
    units: Mapping[tuple[int, int], Mapping[str, str]]
    """What is noted of a unit, by shank and cluster; words such as ``structure``, ``quality``."""


def acquisition(files: SessionFiles) -> Acquisition:
    """Read the session's ``.xml`` (NDManager).

    Raises
    ------
    Unreadable
        If there is none, or it does not state the sampling rate.
    """
    name = files.named(".xml")
    if name not in files.content:
        raise Unreadable(
            f"{name}: the session has no .xml, so the sampling rate that its spike times count in is not known"
        )
    try:
        root = ET.fromstring(files.content[name])  # noqa: S314  # expat 2.4 and later refuse entities that explode
        rate_hz = float(root.findtext("acquisitionSystem/samplingRate") or 0)
        lfp_hz = float(root.findtext("fieldPotentials/lfpSamplingRate") or 0)
        channels = int(root.findtext("acquisitionSystem/nChannels") or 0)
        bits = int(root.findtext("acquisitionSystem/nBits") or 16)
        units = {
            (int(unit.findtext("group") or 0), int(unit.findtext("cluster") or 0)): {
                note.tag: (note.text or "").strip() for note in unit
            }
            for unit in root.iterfind("units/unit")
        }
    except (ET.ParseError, ValueError) as error:
        raise Unreadable(f"{name}: not readable: {error}") from error
    if not rate_hz > 0:
        raise Unreadable(f"{name}: it does not state acquisitionSystem/samplingRate")
    return Acquisition(
        sampling_rate_hz=rate_hz, lfp_rate_hz=lfp_hz, channels=channels, bytes_per_sample=bits // 8, units=units
    )


def duration_s(files: SessionFiles, facts: Acquisition) -> float | None:
    """Return how long the recording is by the size of its field potentials, which are not read; None without them."""
    for suffix in (".eeg", ".lfp"):
        size = files.sizes.get(files.named(suffix), 0)
        frame = facts.channels * facts.bytes_per_sample
        if size and frame and facts.lfp_rate_hz:
            return size / frame / facts.lfp_rate_hz
    return None

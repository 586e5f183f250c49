"""How results of calcium imaging lie in a lab's folders: one row per program, by file names and a look inside."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import scipy.io

from neurofm.errors import UserError
from neurofm.recording import Modality

_LABEL = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"
_SESSION = rf"(?!(?:suite2p|\w*Miniscope)/){_LABEL}"
"""Not the folders that the programs themselves make inside a session's."""
_INSCOPIX_SECOND_ROW = "Time(s)/Cell Status"


@dataclass(frozen=True, kw_only=True)
class ImagingLayout:
    """What one program leaves behind."""

    kind: str
    """In words, for the user."""
    reader: str
    modalities: tuple[Modality, ...]
    """What it may be; where there are several the user must say."""
    main: str
    """Regular expression of a main file, after the folder of its session."""
    extra: str
    """The same of the files that belong to it; may be empty."""
    inside: Callable[[Path], bool] | None = None
    """Looks into a file whose name alone does not tell; None where it does."""

    def patterns(self, folder: Path, paths: Sequence[str], *, subject: str) -> tuple[str, str]:
        """Return the patterns of main and extra files.

        With one subject, folders above the session's are passed over; without, they are ``<subject>/<session>``.

        Raises
        ------
        UserError
            If no subject is given and the files do not lie in such folders.
        """
        labelled = rf"(?:.*/)?(?P<subject>{_LABEL})/(?P<session>{_SESSION})/"
        of_one = rf"(?:(?:.*/)?(?P<session>{_SESSION})/)?"
        mains = [path for path in paths if re.fullmatch(of_one + self.main, path)]
        if not subject and not all(re.fullmatch(labelled + self.main, path) for path in mains):
            raise UserError(
                f"{folder}: the paths of the {self.kind} do not say whose they are ({mains[0]}).",
                mend="say --subject LABEL (one animal), or give a folder with <subject>/<session>/ above them",
            )
        start = of_one if subject else labelled
        return start + self.main, (start + self.extra if self.extra else "")

    def modality(self, folder: Path, said: Modality | None) -> Modality:
        """Return what it is.

        Raises
        ------
        UserError
            If it may be several and the user does not say.
        """
        if len(self.modalities) == 1:
            return self.modalities[0]
        if said in self.modalities:
            return said
        possible = " or ".join(self.modalities)
        raise UserError(
            f"{folder}: {self.kind} may be {possible}; {said or 'no modality'} was given.",
            mend=f"say --modality {possible}",
        )


def _is_inscopix(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        file.readline()
        return file.readline().startswith(_INSCOPIX_SECOND_ROW)


def _is_caiman(path: Path) -> bool:
    with h5py.File(path) as file:
        return "estimates/A" in file


def _is_cnmfe(path: Path) -> bool:
    if not h5py.is_hdf5(path):
        try:
            return bool({"results", "neuron"} & {name for name, _, _ in scipy.io.whosmat(path)})
        except TypeError:
            # What scipy raises on an object of a MATLAB class, which the reader refuses with words.
            return True
    with h5py.File(path) as file:
        return "results" in file or "neuron" in file


_EITHER = (Modality.CALCIUM, Modality.MINISCOPE)
LAYOUTS = (
    ImagingLayout(
        kind="minian data sets",
        reader="minian",
        modalities=(Modality.MINISCOPE,),
        main=r"(?:\w*Miniscope/)?[^/]+/C\.zarr/\.zgroup",
        extra=r"(?:\w*Miniscope/)?(?:[^/]+/[A-Za-z_0-9]+\.zarr/.+|(?:timeStamps|neural_timestamp|behavior_\w+)\.csv)",
    ),
    ImagingLayout(
        kind="minian data sets",
        reader="minian",
        modalities=(Modality.MINISCOPE,),
        main=r"minian\.nc",
        extra=r"(?:timeStamps|neural_timestamp|behavior_\w+)\.csv",
    ),
    ImagingLayout(
        kind="planes of suite2p",
        reader="suite2p",
        modalities=_EITHER,
        main=r"(?:suite2p/)?plane(?P<plane>\d+)/F\.npy",
        extra=r"(?:suite2p/)?plane(?P<plane>\d+)/(?:Fneu|spks|iscell|stat|ops)\.npy",
    ),
    ImagingLayout(
        kind="results of CaImAn",
        reader="caiman",
        modalities=_EITHER,
        main=r"[^/]+\.(?:hdf5|h5)",
        extra=r"timeStamps\.csv",
        inside=_is_caiman,
    ),
    ImagingLayout(
        kind="results of CNMF-E",
        reader="cnmfe",
        modalities=_EITHER,
        main=r"[^/]+\.mat",
        extra=r"timeStamps\.csv",
        inside=_is_cnmfe,
    ),
    ImagingLayout(
        kind="traces of Inscopix",
        reader="inscopix",
        modalities=(Modality.MINISCOPE,),
        main=r"[^/]+(?<!-props)(?<!timeStamps)\.csv",
        extra=r"[^/]+-props\.csv",
        inside=_is_inscopix,
    ),
)


def find_imaging(folder: Path, paths: Sequence[str]) -> ImagingLayout | None:
    """Return the first layout of which `folder` has main files; None if it has none."""
    return next((layout for layout in LAYOUTS if _holds(layout, folder, paths)), None)


def _holds(layout: ImagingLayout, folder: Path, paths: Sequence[str]) -> bool:
    mains = [path for path in paths if re.fullmatch(rf"(?:.*/)?{layout.main}", path)]
    if layout.inside is None:
        return bool(mains)
    return any(_looks(layout.inside, folder / path) for path in mains)


def _looks(inside: Callable[[Path], bool], path: Path) -> bool:
    try:
        return inside(path)
    # Files of other kinds share these suffixes; what the libraries raise on them is not documented.
    except Exception:  # noqa: BLE001
        return False

"""Real pictures to be shown: what was measured slice by slice from one brain serves as a film of 1452 frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.recording import Stimulus


def film_of(shared_data: Path, *, frames: int = 1452) -> npt.NDArray[np.uint8]:
    """Return [frame, 40, 20] grey levels: the volumes of a half slice, Haxby 2001."""
    import nibabel as nib  # noqa: PLC0415

    image = nib.load(shared_data / "fmri" / "pymvpa_haxby2001" / "bold.nii.gz")
    volumes = np.moveaxis(np.asarray(image.dataobj)[:, :, 0, :frames], -1, 0)  # type: ignore[attr-defined]
    film: npt.NDArray[np.uint8] = np.rint(volumes * (255 / volumes.max())).astype(np.uint8)
    return film


def stimulus_of(film: npt.NDArray[np.uint8], time_s: npt.NDArray[np.float64]) -> Stimulus:
    """Show a film once from the eleventh sample on, one frame for two samples, as preprocessing leaves it."""
    shown = np.arange(len(time_s)) // 2 - 5
    shown[(shown < 0) | (shown >= len(film))] = -1
    return Stimulus(frames=film, shown=shown.astype(np.int32), time_s=time_s)

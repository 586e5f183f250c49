"""Atlases by name: which files of which folder make one.

Schaefer's cortex (doi:10.1093/cercor/bhx179) comes from TemplateFlow for volumes, from its authors' repository for
surfaces (TemplateFlow has none in fsLR). What a volume's ``+subcortex`` adds is Harvard-Oxford's subcortical atlas
(doi:10.1176/appi.ajp.162.7.1256): every voxel takes the structure that most of 37 people have there, if a quarter
of them do. That of a CIFTI file is its own structures.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from neurofm.errors import UserError
from neurofm.parcels.atlas import Atlas, load_atlas
from neurofm.parcels.grids import on_grid
from neurofm.parcels.surfaces import SurfaceAtlas, load_surface_atlas, structures_alone
from neurofm.parcels.templates import TemplateFile, template_paths

_SCHAEFER = re.compile(r"schaefer-(?P<parcels>\d+)(-(?P<networks>\d+)networks)?(?P<deep>\+subcortex)?")
_SIZES = tuple(range(100, 1001, 100))
_SIZES_OF_VOLUMES = tuple(size for size in _SIZES if size not in {700, 900})
"""TemplateFlow has no others."""
_NETWORKS = (7, 17)
_SPACES = ("MNI152NLin2009cAsym", "MNI152NLin6Asym")
_RESOLUTIONS = (1, 2)
_DEEP_TABLE = TemplateFile(path="tpl-MNI152NLin6Asym/tpl-MNI152NLin6Asym_atlas-HOSPA_dseg.tsv")
"""TemplateFlow has it for one space; the labels are the same in all."""
_NOT_DEEP = ("Cerebral White Matter", "Cerebral Cortex", "Lateral Ventricle", "Lateral Ventrical")
"""How labels of Harvard-Oxford's subcortical atlas end that are no grey matter below the cortex (the last is in it)."""
_SUBCORTEX = "subcortex"
_CBIG = (
    "https://raw.githubusercontent.com/ThomasYeoLab/CBIG/634f676630929a71297852d01dd92a287103e861/"
    "stable_projects/brain_parcellation/Schaefer2018_LocalGlobal/Parcellations/HCP/fslr32k/cifti"
)
_MIDTHICKNESS = tuple(
    TemplateFile(path=f"tpl-fsLR/tpl-fsLR_den-32k_hemi-{side}_midthickness.surf.gii") for side in ("L", "R")
)
_BY_HAND = {
    "aal-116": (
        "fetch https://www.gin.cnrs.fr/AAL_files/aal_for_SPM12.tar.gz and set `atlas_file:` to its ROI_MNI_V4.nii and "
        "`atlas_names:` to its ROI_MNI_V4.txt"
    ),
    "a424": (
        "fetch toolkit/atlases/A424+2mm.nii.gz of https://github.com/vandijklab/BrainLM and set `atlas_file:` to it"
    ),
}
"""Atlases for volumes that TemplateFlow has not got, and what to do instead."""
_BY_HAND_CIFTI = {
    "aal-116": "average volumes over it, or choose another atlas: it labels voxels alone",
    "a424": (
        "fetch toolkit/atlases/A424.dlabel.nii of https://github.com/vandijklab/BrainLM and set `atlas_file:` to it"
    ),
}


def is_atlas_name(name: str) -> bool:
    """Whether a name is one of those that `find_atlas` and `find_surface_atlas` know, or know where to get.

    Not whether it is to be had for volumes and grayordinates alike, nor whether its files are there.
    """
    return name == _SUBCORTEX or name in _BY_HAND or _SCHAEFER.fullmatch(name) is not None


def find_atlas(name: str, *, space: str, resolution: int | None = None, templates: Path | None = None) -> Atlas:
    """Load an atlas for volumes by its name.

    Parameters
    ----------
    name
        ``schaefer-400`` (100 to 1000 parcels in 7 networks), ``schaefer-400-17networks``, and either with
        ``+subcortex``: 15 structures in those voxels that are no cortex.
    space
        ``MNI152NLin2009cAsym`` or ``MNI152NLin6Asym``.
    resolution
        Voxels of 1 or 2 mm, TemplateFlow's ``res-``; 2 by default, as in fMRIPrep's output ``res-2``.
    templates
        TemplateFlow's folder; ``$TEMPLATEFLOW_HOME`` or else ``~/.cache/templateflow`` by default.

    Raises
    ------
    UserError
        For a name, space or resolution that is not known, files that are missing (with the command that fetches them)
        or damaged, and atlases that TemplateFlow has not got (with where to get them).
    """
    wanted = _schaefer(name, sizes=_SIZES_OF_VOLUMES, by_hand=_BY_HAND)
    voxels = resolution or 2
    if space not in _SPACES:
        raise UserError(f"atlas {name}: not to be had in space {space}.", mend=f"choose one of {', '.join(_SPACES)}")
    if voxels not in _RESOLUTIONS:
        raise UserError(
            f"atlas {name}: not to be had at a resolution of {voxels} mm.", mend="choose 1 or 2, and resample it"
        )
    stem, part = f"tpl-{space}/tpl-{space}", f"atlas-Schaefer2018_desc-{wanted.parcels}Parcels{wanted.networks}Networks"
    cortex = (
        TemplateFile(path=f"{stem}_res-{voxels:02d}_{part}_dseg.nii.gz"),
        TemplateFile(path=f"{stem}_{part}_dseg.tsv"),
    )
    deep = (TemplateFile(path=f"{stem}_res-{voxels:02d}_atlas-HOSPA_desc-th25_dseg.nii.gz"), _DEEP_TABLE)
    needed = cortex + deep if wanted.deep else cortex
    image, table, *rest = template_paths(needed, folder=templates, purpose=f"atlas {name}")
    atlas = load_atlas(image, space=space, names=table, name=name)
    if not rest:
        return atlas
    return _joined(atlas, load_atlas(rest[0], space=space, names=rest[1]))


def find_surface_atlas(name: str, *, templates: Path | None = None) -> SurfaceAtlas:
    """Load an atlas for CIFTI files by its name.

    Parameters
    ----------
    name
        As in `find_atlas`, with all sizes from 100 to 1000; ``+subcortex`` adds the 19 structures of the file itself.
        ``subcortex`` is these alone, and needs no file.
    templates
        TemplateFlow's folder, as in `find_atlas`. Schaefer's own files are kept in its sub-folder ``CBIG``.

    Raises
    ------
    UserError
        As in `find_atlas`.
    """
    if name == _SUBCORTEX:
        return structures_alone(name)
    wanted = _schaefer(name, sizes=_SIZES, by_hand=_BY_HAND_CIFTI)
    file = f"Schaefer2018_{wanted.parcels}Parcels_{wanted.networks}Networks_order.dlabel.nii"
    needed = (TemplateFile(path=f"CBIG/{file}", address=f"{_CBIG}/{file}"), *_MIDTHICKNESS)
    labels, left, right = template_paths(needed, folder=templates, purpose=f"atlas {name}")
    return load_surface_atlas(labels, name=name, structures=wanted.deep, midthickness=(left, right))


@dataclass(frozen=True, kw_only=True)
class _Schaefer:
    parcels: int
    networks: int
    deep: bool


def _schaefer(name: str, *, sizes: tuple[int, ...], by_hand: Mapping[str, str]) -> _Schaefer:
    if name in by_hand:
        raise UserError(f"atlas {name}: not to be had by its name.", mend=by_hand[name])
    found = _SCHAEFER.fullmatch(name)
    if not found:
        known = "schaefer-400, schaefer-400-17networks or schaefer-400+subcortex"
        raise UserError(f"atlas {name}: no such name.", mend=f"write {known}, or set `atlas_file:` to a file of labels")
    parcels, networks = int(found["parcels"]), int(found["networks"] or 7)
    for what, number, choices in (("parcels", parcels, sizes), ("networks", networks, _NETWORKS)):
        if number not in choices:
            raise UserError(
                f"atlas {name}: not to be had with {number} {what}.",
                mend=f"choose one of {', '.join(map(str, choices))}, or set `atlas_file:` to a file of labels",
            )
    return _Schaefer(parcels=parcels, networks=networks, deep=found["deep"] is not None)


def _joined(cortex: Atlas, deep: Atlas) -> Atlas:
    """Add the structures below the cortex, where the cortex has no voxel; their labels follow on the cortex's."""
    deep = on_grid(deep, grid=cortex.grid)
    kept = {label: name for label, name in zip(deep.ids, deep.names, strict=True) if not name.endswith(_NOT_DEEP)}
    above = max(cortex.ids)
    added = np.where(np.isin(deep.labels, list(kept)), deep.labels + above, 0)
    both = hashlib.sha256(f"{cortex.digest}\n{deep.digest}\n".encode())
    return replace(
        cortex,
        digest=both.hexdigest(),
        labels=np.where(cortex.labels > 0, cortex.labels, added).astype(np.int32),
        ids=cortex.ids + tuple(above + label for label in kept),
        names=cortex.names + tuple(kept.values()),
    )

"""fMRIPrep's outputs, whoever made them: BOLD averaged over an atlas (volumes or grayordinates), with its confounds.

What the `light` engine writes is laid out alike and read here too. Who made it stands in the recording's first step.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from neurofm.parcels import (
    Atlas,
    ParcelMeans,
    SurfaceAtlas,
    find_atlas,
    find_surface_atlas,
    grayordinates_of,
    header_tr_s,
    is_atlas_name,
    load_atlas,
    load_surface_atlas,
    on_grid,
    parcel_means,
    parcel_means_cifti,
    volumes_of,
)
from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.bold import agreed_tr_s, parcel_channels
from neurofm.readers.shared.common import build, opening
from neurofm.readers.shared.confounds import read_confounds
from neurofm.readers.shared.participants import participant_scalars
from neurofm.recording import Recording, Signal, Step, Unreadable
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("nibabel", "nilearn", "numpy", "pandas", "scipy")

DESCRIPTION = "dataset_description.json"
WITH_SUBCORTEX = "+subcortex"
"""Ends the name of an atlas that has the structures below the cortex too."""
_CONFOUNDS = ("_desc-confounds_timeseries.tsv", "_desc-confounds_regressors.tsv")
"""How the table is called, and was before fMRIPrep 20.2."""
_CIFTI, _CIFTI_LABELS, _SURFACE_SPACE = ".dtseries.nii", ".dlabel.nii", "fsLR"


class Options(Settings):
    """Which parcels, and what the files do not say of themselves."""

    atlas: str = Field(min_length=1)
    """A name that docs/fmri.md lists (``schaefer-400+subcortex``), or any name for `atlas_file`."""
    atlas_file: str = ""
    """Labels of your own, absolute or relative to the project's root: an image, or ``.dlabel.nii`` for CIFTI."""
    atlas_names: str = ""
    """The image's table of names."""
    atlas_space: str = ""
    """The space that the image is in, as fMRIPrep calls it: ``MNI152NLin6Asym``."""
    atlas_resolution: int | None = Field(default=None, ge=1)
    """Of TemplateFlow's image, mm; 2 where nothing is said."""
    resample_atlas: bool = False
    """Bring the atlas to the run's grid, each voxel the label that is nearest; without it another grid is refused."""
    tr_s: float | None = Field(default=None, gt=0)
    """Repetition time, seconds, where neither header nor sidecar has it."""
    made_by: str = ""
    """Who made the outputs, where ``dataset_description.json`` is not there or does not say so: ``fMRIPrep 20.2.1``."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.atlas_file and not is_atlas_name(self.atlas):
            raise ValueError(
                f"no atlas is called {self.atlas!r}: write schaefer-400, schaefer-400-17networks or "
                "schaefer-400+subcortex, or set `atlas_file` to a file of labels"
            )
        is_image = bool(self.atlas_file) and not self.atlas_file.endswith(_CIFTI_LABELS)
        if is_image != bool(self.atlas_space):
            raise ValueError(
                "an image in `atlas_file` needs `atlas_space`, which it cannot say itself; nothing else does"
            )
        if self.atlas_names and not is_image:
            raise ValueError("`atlas_names` belongs to an image in `atlas_file`")
        if self.atlas_resolution and self.atlas_file:
            raise ValueError("`atlas_resolution` chooses among TemplateFlow's images, and `atlas_file` is another")
        return self


def read(source: ReaderInput, options: Options) -> Recording:
    """Average a run over an atlas, and take its confounds along; nothing is cleaned yet.

    Parameters
    ----------
    source
        ``main`` is ``*_desc-preproc_bold.nii.gz`` in a standard space or ``*_bold.dtseries.nii``. What belongs to it is
        found by its name among the side files: confounds, brain mask (of volumes), JSON files; and
        ``dataset_description.json`` and ``participants.tsv``. A run without confounds is read all the same.
    options
        The atlas.

    Returns
    -------
    Recording
        `signal` [volume, parcel] float64 in the scanner's arbitrary unit, NaN for parcels that carry none; every parcel
        of the atlas is a channel, with its centre in mm; quality columns ``coverage`` (share of the parcel that
        carries signal) and ``voxels`` (its size). `confounds` [volume, column]. The first steps say who made the
        outputs, and which atlas was laid over them.

    Raises
    ------
    UserError
        If the atlas is not there.
    Unreadable
        For damaged files, a run in another space or grid than the atlas, 3-D images, unknown repetition times,
        confounds of another length, or outputs of which nothing says who made them.
    """
    path = source.path()
    space = space_of(path.name)
    made = _made_by(source, options)
    parcels = (_of_grayordinates if path.name.endswith(_CIFTI) else _of_volumes)(source, options, space=space)
    atlas, means = parcels.atlas, parcels.means
    stated_s = {
        "the header": parcels.tr_s,
        "the JSON file beside it": _stated_tr_s(source),
        "the catalogue": options.tr_s,
    }
    tr_s = agreed_tr_s(path.name, stated_s)
    confounds = None
    if table := _side_file(source, *_CONFOUNDS):
        described = _side_file(source, table.name.replace(".tsv", ".json"))
        confounds = read_confounds(table, described=described, volumes=len(means.values))
    laid_over = Step(
        name="parcellate",
        version=VERSION,
        # The file's name says to ICA-AROMA's strategy whether its components are out already.
        params={"atlas": options.atlas, "space": space, "digest": f"sha256:{atlas.digest}", "file": path.name},
    )
    return build(
        source,
        channels=parcel_channels(means, atlas=atlas, name=options.atlas, space=space),
        signal=Signal(values=means.values, sampling_rate_hz=1 / tr_s, units="a.u."),
        scalars=participant_scalars(source),
        confounds=confounds,
        steps=(*made, laid_over),
    )


def outside(source: ReaderInput, options: Options) -> Mapping[str, str]:
    """Return the digests of atlas and names, which are no files of the dataset but decide what is read.

    Raises
    ------
    UserError
        If it is not there: said before anything is read.
    """
    name = source.path().name
    try:
        atlas = _surface_atlas(options) if name.endswith(_CIFTI) else _atlas(options, space_of(name))
    except Unreadable:  # `read` says what is wrong with this recording
        return {}
    names = hashlib.sha256(json.dumps([atlas.ids, atlas.names]).encode()).hexdigest()
    return {f"atlas {options.atlas}": f"sha256:{atlas.digest}", f"its names {options.atlas}": f"sha256:{names}"}


def space_of(name: str) -> str:
    """Return the space that a file name states.

    Raises
    ------
    Unreadable
        If it states none: such outputs are in the run's own space, where no atlas fits.
    """
    found = re.search(r"_space-([a-zA-Z0-9+]+)_", name)
    if found is None:
        raise Unreadable(f"{name}: its name states no standard space (`_space-...`), and no atlas fits a run's own")
    return found[1]


@cache
def _atlas(options: Options, space: str) -> Atlas:
    if not options.atlas_file:
        return find_atlas(options.atlas, space=space, resolution=options.atlas_resolution)
    names = Path(options.atlas_names) if options.atlas_names else None
    return load_atlas(Path(options.atlas_file), space=options.atlas_space, names=names, name=options.atlas)


@cache
def _surface_atlas(options: Options) -> SurfaceAtlas:
    if not options.atlas_file:
        return find_surface_atlas(options.atlas)
    with_structures = options.atlas.endswith(WITH_SUBCORTEX)
    return load_surface_atlas(Path(options.atlas_file), name=options.atlas, structures=with_structures)


@dataclass(frozen=True, kw_only=True)
class _Parcels:
    atlas: Atlas | SurfaceAtlas
    means: ParcelMeans
    tr_s: float | None
    """In the header."""


def _of_volumes(source: ReaderInput, options: Options, *, space: str) -> _Parcels:
    path = source.path()
    atlas = _atlas(options, space)
    mask = _side_file(source, re.sub(r"_desc-[a-zA-Z0-9]+_bold", "_desc-brain_mask", path.name))
    if options.resample_atlas and atlas.space == space:
        atlas = on_grid(atlas, grid=volumes_of(path, dimensions=4).grid)
    try:
        means = parcel_means(path, atlas=atlas, space=space, mask=mask)
    except Unreadable as error:
        if "grid is not that of atlas" not in str(error):
            raise
        raise Unreadable(f"{error}; the reader option `resample_atlas: true` brings the atlas to it") from None
    return _Parcels(atlas=atlas, means=means, tr_s=header_tr_s(path))


def _of_grayordinates(source: ReaderInput, options: Options, *, space: str) -> _Parcels:
    if space != _SURFACE_SPACE:
        raise Unreadable(f"{source.path().name}: it is in space {space}, grayordinates are in {_SURFACE_SPACE}")
    run, atlas = grayordinates_of(source.path()), _surface_atlas(options)
    return _Parcels(atlas=atlas, means=parcel_means_cifti(run, atlas=atlas), tr_s=run.tr_s)


def _side_file(source: ReaderInput, *endings: str) -> Path | None:
    """Return the first side file, or file with a role, that is called like the run and ends so.

    What follows ``_space-`` or ``_desc-`` is no part of what a run is called.
    """
    run = re.split(r"_(?:space|desc)-", source.path().name)[0]
    there = sorted({*source.entry.extra, *source.entry.files.values()})
    for ending in endings:
        wanted = {ending, f"{run}{ending}"}
        for name in there:
            if Path(name).name in wanted:
                return source.root / name
    return None


def _stated_tr_s(source: ReaderInput) -> float | None:
    name = source.path().name.removesuffix(".gz").removesuffix(".nii")
    path = _side_file(source, f"{name}.json", f"{name.removesuffix('.dtseries')}.json")
    stated = _json(path).get("RepetitionTime") if path else None
    return float(stated) if isinstance(stated, int | float) and stated > 0 else None


def _json(path: Path) -> dict[str, Any]:
    with opening(path):
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict):
        raise Unreadable(f"{path.name}: no JSON object")
    return content


def _made_by(source: ReaderInput, options: Options) -> tuple[Step, ...]:
    """Return the pipelines that the outputs went through, by BIDS's ``GeneratedBy``.

    fMRIPrep before 20.2 wrote one ``PipelineDescription`` instead, as drafts of BIDS had it.
    """
    path = _side_file(source, DESCRIPTION)
    said = _json(path) if path else {}
    pipelines = said.get("GeneratedBy") or ([said["PipelineDescription"]] if said.get("PipelineDescription") else None)
    if path and pipelines:
        if not isinstance(pipelines, list):
            raise Unreadable(f"{path.name}: `GeneratedBy` is no list")
        return tuple(_step(one, path.name) for one in pipelines)
    if options.made_by:
        name, _, version = options.made_by.partition(" ")
        return (Step(name=name, version=version, params={}),)
    if path:
        raise Unreadable(
            f"{path.name}: it does not say who made these outputs (`GeneratedBy`); state it with the reader option "
            "`made_by`"
        )
    raise Unreadable(
        f"no {DESCRIPTION} among the side files of {source.path().name}, so that nothing says who made it; add it, "
        "or state it with the reader option `made_by`"
    )


def _step(pipeline: Any, name: str) -> Step:
    if not isinstance(pipeline, dict) or not pipeline.get("Name"):
        raise Unreadable(f"{name}: an entry of `GeneratedBy` has no name")
    container = pipeline.get("Container")
    params: dict[str, JsonScalar] = {}
    if pipeline.get("Description"):
        params["description"] = str(pipeline["Description"])
    if isinstance(container, dict) and container.get("Tag"):
        params["container"] = str(container["Tag"])
    return Step(name=str(pipeline["Name"]), version=str(pipeline.get("Version", "")), params=params)

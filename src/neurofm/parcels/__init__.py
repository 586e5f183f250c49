"""Parcels of the brain: atlases, and the mean BOLD signal of each parcel."""

from neurofm.parcels.atlas import Atlas, label_names, load_atlas
from neurofm.parcels.average import ParcelMeans, parcel_means
from neurofm.parcels.grayordinates import Grayordinates, grayordinates_of, parcel_means_cifti
from neurofm.parcels.grids import on_grid
from neurofm.parcels.named import find_atlas, find_surface_atlas, is_atlas_name
from neurofm.parcels.surfaces import SUBCORTEX, SurfaceAtlas, load_surface_atlas, structures_alone
from neurofm.parcels.volumes import Volumes, header_tr_s, same_grid, volumes_of

__all__ = [
    "SUBCORTEX",
    "Atlas",
    "Grayordinates",
    "ParcelMeans",
    "SurfaceAtlas",
    "Volumes",
    "find_atlas",
    "find_surface_atlas",
    "grayordinates_of",
    "header_tr_s",
    "is_atlas_name",
    "label_names",
    "load_atlas",
    "load_surface_atlas",
    "on_grid",
    "parcel_means",
    "parcel_means_cifti",
    "same_grid",
    "structures_alone",
    "volumes_of",
]

"""Parcels of the brain: atlases, and the mean BOLD signal of each parcel."""

from neurofm.parcels.atlas import Atlas, load_atlas
from neurofm.parcels.average import ParcelMeans, parcel_means
from neurofm.parcels.volumes import Volumes, same_grid, volumes_of

__all__ = ["Atlas", "ParcelMeans", "Volumes", "load_atlas", "parcel_means", "same_grid", "volumes_of"]

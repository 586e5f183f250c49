"""Which files of a manifest are wanted by some of their groups only."""

from __future__ import annotations

from neurofm.catalog import GroupedSource
from neurofm.catalog.source import Source
from neurofm.errors import UserError
from neurofm.recording import Manifest, ManifestFile
from neurofm.recording.manifest import FIRST_USE, digest_in_groups

_HDF5 = (".nwb", ".h5", ".hdf5")


def in_groups(manifest: Manifest, source: Source, *, where: str) -> Manifest:
    """Return the manifest with `source.groups` written into the digests of its HDF5 files; others stay whole.

    Parameters
    ----------
    manifest
        Of whole files, as the archive lists or the pins hold them.
    source
        The entry's.
    where
        The catalogue's file, for errors.

    Raises
    ------
    UserError
        If no file is HDF5, or the archive publishes no digest of one: then nothing would tell the file with the
        groups from the whole one, nor one state of it at the archive from the next.
    """
    if not isinstance(source, GroupedSource) or not source.groups:
        return manifest
    chosen = {file.path: _limited(file, source.groups, where) for file in manifest.files if _is_hdf5(file)}
    if not chosen:
        raise UserError(
            f"{where}: `source.groups` is for HDF5 files, and none of the files ends in {', '.join(_HDF5)}.",
            mend="remove the key",
        )
    return manifest.model_copy(update={"files": tuple(chosen.get(file.path, file) for file in manifest.files)})


def _is_hdf5(file: ManifestFile) -> bool:
    return file.path.lower().endswith(_HDF5)


def _limited(file: ManifestFile, groups: tuple[str, ...], where: str) -> ManifestFile:
    if file.digest == FIRST_USE:
        raise UserError(
            f"{where}: `source.groups` needs a published digest to know {file.path} by, and the archive has none.",
            mend="remove the key, so that files come whole, or leave the file out with `source.exclude`",
        )
    return file.model_copy(update={"digest": digest_in_groups(file.digest, groups)})

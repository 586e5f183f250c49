"""How the recordings of a dataset become units of work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neurofm.catalog import CatalogEntry
from neurofm.fetch import Ledger, dataset_key
from neurofm.ingest.recording import IngestTask, code_of, libraries_of, reader_input
from neurofm.preprocess import Common
from neurofm.readers import outside_inputs
from neurofm.recording import Manifest, ManifestRecording
from neurofm.recording.manifest import FIRST_USE, groups_of
from neurofm.settings import Settings
from neurofm.units import Receipt, Unit, unit_key


@dataclass(frozen=True, kw_only=True)
class UnitPlan:
    """How the recordings of a dataset become units of work."""

    entry: CatalogEntry
    manifest: Manifest
    raw: Path
    """Folder that manifest paths are relative to."""
    shards: Path
    settings: Settings
    """`preprocess.<modality>` in params.yaml."""
    common: Common
    """`preprocess.common` in params.yaml."""

    def unit(self, recording: ManifestRecording, *, taken: Mapping[str, str]) -> Unit[IngestTask]:
        """Return the unit of one recording.

        Parameters
        ----------
        recording
            One of the manifest's.
        taken
            Digest per path of those files for which the archive publishes none (`digests_taken`). Of a file that
            never came the digest is not known; it stands as `FIRST_USE`, and no receipt has such a key.
        """
        entry, manifest = self.entry, self.manifest
        digests = {path: manifest.by_path[path].digest for path in inputs_of(recording)}
        digests |= {path: taken[path] for path, digest in digests.items() if digest == FIRST_USE and path in taken}
        params: dict[str, Any] = {
            "settings": self.settings.model_dump(mode="json"),
            "common": self.common.model_dump(mode="json"),
            "reader": {"name": entry.reader, "options": dict(entry.reader_options)},
            # Facts of the catalogue that are written into the shard.
            "entry": [entry.id, entry.modality, entry.species, entry.licence, entry.citation],
            "recording": recording.model_dump(mode="json"),
            "source": [entry.source.archive, manifest.source_id, manifest.version],
        }
        if entry.clock:
            params["clock"] = entry.clock
        source = reader_input(entry, recording, root=self.raw)
        if outside := outside_inputs(entry.reader, source, entry.reader_options):
            params["outside"] = outside
        shard = self.shard(recording)
        return Unit(
            id=recording.id,
            key=unit_key(inputs=digests, params=params, code=self._code, libraries=self._libraries),
            inputs=digests,
            outputs=(shard,),
            payload=IngestTask(
                entry=entry,
                recording=recording,
                root=self.raw,
                digests=digests,
                source_id=manifest.source_id,
                version=manifest.version,
                settings=self.settings,
                common=self.common,
                shard=shard,
                code={**self._code, **self._libraries},
            ),
        )

    def shard(self, recording: ManifestRecording) -> Path:
        """Return where a recording's shard is."""
        return self.shards / f"{recording.id}.zarr.zip"

    def remove_strangers(self) -> None:
        """Remove what the manifest does not name: a persisted output keeps what earlier runs left."""
        self.shards.mkdir(parents=True, exist_ok=True)
        expected = {self.shard(recording) for recording in self.manifest.recordings}
        for path in self.shards.iterdir():
            if path not in expected:
                path.unlink()

    @cached_property
    def _code(self) -> dict[str, str]:
        return code_of(self.entry)

    @cached_property
    def _libraries(self) -> dict[str, str]:
        return libraries_of(self.entry)


def inputs_of(recording: ManifestRecording) -> list[str]:
    """Return the paths that a recording is read from, sorted."""
    return sorted({*recording.files.values(), *recording.extra})


def digests_taken(
    entry: CatalogEntry, manifest: Manifest, *, receipts: Iterable[Receipt], ledger: Ledger
) -> dict[str, str]:
    """Return the digests that were taken of files for which the archive publishes none.

    Parameters
    ----------
    entry, manifest
        The dataset.
    receipts
        Of earlier runs: they remember if the ledger is lost.
    ledger
        The project's.

    Returns
    -------
    dict
        ``sha256:<hex>`` by path, of those that came once.
    """
    wanted = {file.path: file for file in manifest.files if file.digest == FIRST_USE}
    taken = {path: digest for receipt in receipts for path, digest in receipt.inputs.items() if path in wanted}
    for path, file in wanted.items():
        row = ledger.row(dataset_key(entry), file)
        if row is not None and row.sha256:
            taken[path] = f"sha256:{row.sha256}"
    return taken


def digests_of_parts(entry: CatalogEntry, manifest: Manifest, *, ledger: Ledger) -> dict[str, str]:
    """Return the digests of local files that hold only chosen groups, by path, as the fetch wrote them down.

    They tell whole from damaged. The key of a unit has what the manifest says in their place, groups and the whole
    file's digest: the same groups that come again may be other bytes of the same values.
    """
    files = [file for file in manifest.files if groups_of(file.digest)]
    rows = zip(files, ledger.rows_of(dataset_key(entry), files), strict=True)
    return {file.path: f"sha256:{row.sha256}" for file, row in rows if row is not None and row.sha256}

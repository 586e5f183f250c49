"""One recording: what it is read from, how it was made, what its shard says of itself, what it is for."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import ZipStore

from neurofm.operations.provenance.dataset import DatasetFiles, FileFacts, container_of, file_facts
from neurofm.splits import Splits

_ROLES = ("calibration", "train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class RecordingFacts:
    """One recording, as far as it is known here."""

    id: str
    subject: str
    files: tuple[FileFacts, ...]
    """What it is read from; empty without a manifest."""
    status: str
    """As its receipt says, or the quality table; empty where neither is here."""
    reason: str
    key: str
    """Digest of everything that its bytes depend on."""
    inputs: Mapping[str, str]
    """Digests of the files as they were read."""
    outputs: Mapping[str, str]
    """SHA-256 per file."""
    container: str
    """Image that it was worked on in; empty for the project's own environment, or where nobody wrote it down."""
    cost: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    """What its shard says was done; empty where the shard is not here."""
    libraries: Mapping[str, str]
    quality: Mapping[str, Any]
    roles: Mapping[str, tuple[str, ...]]
    """What it is for, per fold: ``train``, ``validation``, ``test``, ``calibration``."""


@dataclass(frozen=True, kw_only=True)
class RawFacts:
    """One raw file, as the manifest has it."""

    file: FileFacts
    recordings: tuple[str, ...]
    """Recordings that are read from it; empty for a file that none needs."""


def raw_facts(path: str, files: DatasetFiles) -> RawFacts | None:
    """Return what the manifest says of a raw file; None without a manifest, or where it does not name the file."""
    manifest = files.manifest
    if manifest is None or path not in manifest.by_path:
        return None
    return RawFacts(
        file=file_facts(manifest.by_path[path]),
        recordings=tuple(one.id for one in manifest.recordings if path in {*one.files.values(), *one.extra}),
    )


def recording_facts(
    recording: str, files: DatasetFiles, splits: Splits | None, *, dataset: str, root: Path
) -> RecordingFacts:
    """Put together what is known of a recording.

    Parameters
    ----------
    recording, dataset
        Which.
    files
        What the stages left of the dataset.
    splits
        The split, where there is one.
    root
        The project's root, for the shard.
    """
    receipt = (files.receipts or {}).get(recording)
    quality = (files.quality.recordings if files.quality else {}).get(recording)
    listed = next((one for one in (files.manifest.recordings if files.manifest else ()) if one.id == recording), None)
    wanted = {*listed.files.values(), *listed.extra} if listed else set()
    said = _attributes(root / "data" / "shards" / dataset / f"{recording}.zarr.zip")
    pipeline = said.get("pipeline", {})
    return RecordingFacts(
        id=recording,
        subject=listed.subject if listed else quality.subject if quality else str(said.get("subject", "")),
        files=tuple(
            file_facts(file) for file in (files.manifest.files if files.manifest else ()) if file.path in wanted
        ),
        status=receipt.status.value if receipt else quality.status if quality else "",
        reason=receipt.reason if receipt else quality.reason if quality else "",
        key=receipt.key if receipt else "",
        inputs=receipt.inputs if receipt else {},
        outputs=receipt.outputs if receipt else {},
        container=container_of(receipt) if receipt else "",
        cost=receipt.cost.model_dump() if receipt and receipt.cost else {},
        steps=tuple(pipeline.get("steps", ())),
        libraries=pipeline.get("libraries", {}),
        quality=quality.quality if quality else {},
        roles=_roles(recording, splits, dataset=dataset),
    )


def _attributes(path: Path) -> dict[str, Any]:
    """Read what a shard says of itself, without its samples; nothing if it is not here or not whole."""
    if not zipfile.is_zipfile(path):
        return {}
    try:
        with ZipStore(path, mode="r") as store:
            return dict(zarr.open_group(store, mode="r", zarr_format=3).attrs)
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile):
        return {}


def _roles(recording: str, splits: Splits | None, *, dataset: str) -> dict[str, tuple[str, ...]]:
    return {
        f"fold-{number}": tuple(role for role in _ROLES if getattr(one, role))
        for number, fold in enumerate(splits.folds if splits else ())
        for one in fold.recordings
        if (one.dataset, one.recording) == (dataset, recording)
    }

"""Pins: the list of files that a dataset is held to where the archive's version alone does not fix the bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from neurofm.errors import UserError
from neurofm.files import write_atomic
from neurofm.recording import ManifestFile
from neurofm.settings import Settings


class Pins(Settings):
    """``data/catalog/pins/<dataset>.json``, in git."""

    dataset: str
    archive: str
    version: str
    """What the archive called this state."""
    files: tuple[ManifestFile, ...]
    """Sorted by path."""


def pins_path(dataset: str, *, root: Path) -> Path:
    """Return where a dataset's pins are."""
    return root / "data" / "catalog" / "pins" / f"{dataset}.json"


def pins_bytes(pins: Pins) -> bytes:
    """Render pins as JSON with one file per line, so that a change reads well in a diff."""
    head = json.dumps(pins.model_dump(mode="json", exclude={"files"}), sort_keys=True, ensure_ascii=False)
    lines = [
        json.dumps(file.model_dump(mode="json", exclude_defaults=True), sort_keys=True, ensure_ascii=False)
        for file in sorted(pins.files, key=lambda file: file.path)
    ]
    return (head[:-1] + ', "files": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def write_pins(pins: Pins, *, root: Path) -> str:
    """Write a dataset's pins atomically; returns their digest, which goes into the entry as ``source.pin``."""
    write_atomic(pins_path(pins.dataset, root=root), pins_bytes(pins))
    return pins_digest(pins)


def pins_digest(pins: Pins) -> str:
    """Return the digest of a dataset's pins, as they are written."""
    return f"sha256:{hashlib.sha256(pins_bytes(pins)).hexdigest()}"


def read_pins(dataset: str, *, digest: str, root: Path) -> Pins:
    """Read the pins that an entry names.

    Raises
    ------
    UserError
        If they are missing, unreadable, or not those of the entry.
    """
    path = pins_path(dataset, root=root)
    mend = f"take the file from git again, or pin anew: neurofm catalog pin {dataset}"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", mend=mend) from None
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != digest:
        raise UserError(f"{path}: is {found}, data/catalog/{dataset}.yaml pins {digest}.", mend=mend)
    try:
        return Pins.model_validate_json(content)
    except ValidationError as error:
        raise UserError.from_validation(error, where=str(path), mend=mend) from None

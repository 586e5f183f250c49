"""The manifest on disk: ``data/manifests/<dataset>.json``."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from neurofm.errors import UserError
from neurofm.files import write_json
from neurofm.recording import Manifest


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write `manifest` atomically as canonical JSON, so that the same facts give the same bytes."""
    write_json(path, manifest.model_dump(mode="json"))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises
    ------
    UserError
        If there is none, or it is not one.
    """
    mend = f"make it anew: neurofm run manifest --dataset {path.stem}"
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", mend=mend) from None
    except ValidationError as error:
        raise UserError.from_validation(error, where=str(path), mend=mend) from None

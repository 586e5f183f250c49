"""The manifest on disk: ``data/manifests/<dataset>.json``, read and written one file at a time."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from pydantic import ValidationError

from neurofm.errors import UserError
from neurofm.files import sync_folder
from neurofm.recording import Manifest, ManifestFile, ManifestRecording
from neurofm.settings import Settings

Item = TypeVar("Item", bound=Settings)

_KEY = re.compile(r' "(\w+)": (.+?),?\n')
_LISTS: dict[str, type[Settings]] = {"files": ManifestFile, "recordings": ManifestRecording}
"""Keys that hold one object per line group; the others are texts."""


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write `manifest` atomically as canonical JSON (sorted keys), so that the same facts give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as out:
            out.writelines(_text_of(manifest))
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _text_of(manifest: Manifest) -> Iterator[str]:
    """Yield the manifest as `json.dumps` with an indent of 1 would write it, without holding all of it."""
    names = sorted(Manifest.model_fields)
    for name in names:
        yield "{\n" if name == names[0] else ",\n"
        value = getattr(manifest, name)
        yield f' "{name}": '
        if name not in _LISTS:
            yield _json(value)
        elif not value:
            yield "[]"
        else:
            for number, item in enumerate(value):
                yield "[\n" if number == 0 else ",\n"
                yield "  " + _json(item.model_dump(mode="json")).replace("\n", "\n  ")
            yield "\n ]"
    yield "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises
    ------
    UserError
        If there is none, or it is not one.
    """
    mend = f"make it anew: neurofm run manifest --dataset {path.stem}"
    try:
        parts = _parts_of(path)
        return Manifest.model_validate_json(path.read_bytes()) if parts is None else Manifest.model_validate(parts)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", mend=mend) from None
    except ValidationError as error:
        raise UserError.from_validation(error, where=str(path), mend=mend) from None


def _parts_of(path: Path) -> dict[str, Any] | None:
    """Read a manifest as `write_manifest` lays it out, one file at a time.

    None for any other layout and for whatever is wrong: then the whole is parsed at once, and says what and where.
    """
    parts: dict[str, Any] = {}
    try:
        with path.open(encoding="utf-8") as file:
            if file.readline() != "{\n":
                return None
            while (line := file.readline()) != "}\n":
                match = _KEY.fullmatch(line)
                if match is None:
                    return None
                name, value = match.groups()
                kind = _LISTS.get(name)
                parts[name] = tuple(_items(file, kind)) if kind and value == "[" else _plain(json.loads(value))
            return None if file.read(1) else parts
    except ValueError:  # pydantic's, json's and the codec's complaints
        return None


def _items(file: IO[str], kind: type[Item]) -> Iterator[Item]:
    names = set(kind.model_fields)
    lines: list[str] = []
    for line in file:
        if line in {" ],\n", " ]\n"}:
            return
        lines.append(line)
        if line in {"  },\n", "  }\n"}:
            item = kind.model_validate_json("".join(lines).rstrip("\n,"))
            # Each has a set of the names that were given, which takes more room than the facts: they share one.
            yield cast("Item", kind.model_construct(_fields_set=names, **item.__dict__))
            lines.clear()


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

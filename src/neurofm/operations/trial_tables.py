"""A laboratory's own tables in a folder: what is in them, and the mapping that the user wrote for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurofm.catalog.load import read_yaml
from neurofm.errors import UserError
from neurofm.operations.detect import Detected, main_pattern
from neurofm.recording import Modality, Unreadable

READER = "trials"
_FILES = r"(?:.*/)?(?P<session>[^/]+)\.(?:mat|npz|npy|rds|pkl|pickle)"


def mapped_tables(
    folder: Path, paths: Sequence[str], *, modality: Modality | None, subject: str, pattern: str
) -> Detected:
    """Say how the files of `folder` make recordings that a mapping reads.

    Raises
    ------
    UserError
        If the modality, or whose the recordings are, was not said, or no file is of a known kind.
    """
    if modality is None:
        raise UserError(
            f"{folder}: tables do not say what they measured.", mend="say --modality spikes, calcium or miniscope"
        )
    chosen = main_pattern(pattern, _FILES)
    if not any(re.fullmatch(chosen, path) for path in paths):
        raise UserError(
            f"{folder}: no file to be mapped{f' by --pattern {pattern!r}' if pattern else ''} ({len(paths)} files).",
            mend="give the folder that holds the .mat, .npz, .npy, .rds or .pkl files, or correct --pattern",
        )
    if "(?P<subject>" not in chosen and not subject:
        raise UserError(
            f"{folder}: nothing says whose the recordings are.",
            mend="say --subject LABEL (one animal), or --pattern with named groups, such as "
            r"'(?P<subject>[a-z]+)_(?P<session>\d+)\.mat'",
        )
    return Detected(
        kind="tables by a mapping",
        reader=READER,
        modality=modality,
        pattern=chosen,
        subject="" if "(?P<subject>" in chosen else subject,
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """Read the YAML file with the ``reader_options``.

    Raises
    ------
    UserError
        If it is not there, or is no mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file.", mend="give the YAML file with the mapping (docs/formats/trials.md)")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no mapping.", mend="write it as docs/formats/trials.md shows")
    return content


def unmapped(folder: Path, paths: Sequence[str]) -> UserError | None:
    """Return what to say of a folder that holds tables and no mapping: which variables the first file has."""
    # Here, because it imports pandas and scipy.io, which no other command needs.
    from neurofm.readers.shared.variables import listing, load_variables  # noqa: PLC0415

    first = next((path for path in paths if re.fullmatch(_FILES, path)), None)
    if first is None:
        return None
    try:
        said = ", ".join(listing(load_variables(folder / first)))
    except Unreadable as error:
        said = str(error)
    return UserError(
        f"{folder}: tables of your own need a mapping. {first}: {said}.",
        mend="write which variable is what (docs/formats/trials.md) into a YAML file and say --mapping FILE --modality "
        "spikes, calcium or miniscope",
    )

"""What a participant's derivatives are made of: every file that may be read for them, by digest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from neurofm.files import sha256_of

_SIDE_FILES = (".json", ".tsv", ".bval", ".bvec")
_ABOUT_ALL = frozenset({"dataset_description", "genetic_info", "participants", "samples"})
"""Files at the top that describe the dataset or its people: one more participant must not run the others again."""


def input_digests(bids: Path, label: str, *, precomputed: Iterable[tuple[str, Path]] = ()) -> dict[str, str]:
    """Return the digests of the files that a participant's derivatives may depend on.

    These are all files of the participant's folder, and what is inherited from the top of the dataset (BIDS 1.10,
    "The inheritance principle"): selected or not, since which side file counts for which image is the engine's to say.

    Parameters
    ----------
    bids
        Folder of raw BIDS.
    label
        Of the participant, without ``sub-``.
    precomputed
        Name and folder of derivatives that are read too.

    Returns
    -------
    dict
        ``sha256:<hex>`` by path below `bids`; of precomputed derivatives, below ``derivatives/<name>``.
    """
    found = {path.relative_to(bids).as_posix(): path for path in (*_inherited(bids), *_files(bids / f"sub-{label}"))}
    for name, folder in precomputed:
        for path in _files(folder / f"sub-{label}"):
            found[f"derivatives/{name}/{path.relative_to(folder).as_posix()}"] = path
    return {name: f"sha256:{sha256_of(path)}" for name, path in sorted(found.items())}


def unseen_link(bids: Path, label: str) -> str:
    """Return why a container would not see a file of a participant's, with its mend; empty if it sees all.

    A container has the BIDS folder and nothing else: links that lead out of it lead nowhere there.
    """
    inside = bids.resolve()
    for path in (*_inherited(bids), *_files(bids / f"sub-{label}")):
        if not path.resolve().is_relative_to(inside):
            return (
                f"{path.relative_to(bids)}: a link that leads out of the BIDS folder, which is all that a container "
                "sees. Mend: put the file itself there (of DVC's cache: `dvc config --local cache.type reflink,copy && "
                "dvc checkout --relink`)"
            )
    return ""


def _inherited(bids: Path) -> Iterator[Path]:
    for path in bids.iterdir():
        if path.suffix in _SIDE_FILES and path.stem not in _ABOUT_ALL and path.is_file():
            yield path


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file, of linked folders too: engines go into them. One that leads round in a circle is left."""
    for here, folders, names in os.walk(folder, followlinks=True):
        around = {Path(here).resolve(), *Path(here).resolve().parents}
        folders[:] = [name for name in folders if not name.startswith(".") and Path(here, name).resolve() not in around]
        yield from (path for name in names if not name.startswith(".") and (path := Path(here, name)).is_file())

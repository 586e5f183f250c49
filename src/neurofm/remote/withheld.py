"""Raw files whose terms forbid handing them on, and volumes made of them: they never go to a remote."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from neurofm.errors import UserError
from neurofm.remote.project import Artefact

_RAW = PurePosixPath("data/raw")
_DERIVATIVES = PurePosixPath("data/derivatives")


def withheld_problems(artefacts: Iterable[Artefact], *, root: Path) -> list[str]:
    """Say which raw files `dvc push` would put on a remote although their terms forbid it, each with its mend.

    Stages refuse such a dataset under `datasets` before they run; this finds one whose entry was corrected after its
    files came, and one that was added to DVC by hand.

    Parameters
    ----------
    artefacts
        What DVC keeps.
    root
        The project's root, for the catalogue.
    """
    problems = []
    for item in artefacts:
        path = PurePosixPath(item.path)
        if path == _RAW or path in _RAW.parents:
            problems.append(f"{item.path} is tracked as a whole, licences and all. Mend: dvc remove {item.stage}")
        elif _RAW in path.parents:
            dataset = path.relative_to(_RAW).parts[0]
            problems += [problem] if (problem := _problem(item, dataset, root=root)) else []
        elif _DERIVATIVES in (path, *path.parents):
            problems += _derived(item, root=root)
    return problems


def _derived(item: Artefact, *, root: Path) -> list[str]:
    """Say if preprocessed volumes may not be handed on: which is known of the datasets that are read from them."""
    from neurofm.catalog import LocalSource, load_entry  # noqa: PLC0415  # as below

    problems, made = [], (root / item.path).resolve()
    for path in sorted((root / "data" / "catalog").glob("*.yaml")):
        if made.name not in path.read_text(encoding="utf-8", errors="replace"):
            continue
        try:
            entry = load_entry(path.stem, root=root)
        except UserError as error:
            problems.append(f"{item.path}: nobody can tell whether it may be handed on: {error}")
            continue
        if not isinstance(entry.source, LocalSource) or entry.redistribute:
            continue
        # The path may be written in other ways, and lead to a part of them.
        read = (root / entry.source.path).resolve()
        if read.is_relative_to(made) or made.is_relative_to(read):
            problems.append(
                f"{item.path} may not be handed on (`redistribute: false` in {path.relative_to(root)}, which is read "
                "from it), and `dvc push` would put it on the remote. Mend: push other stages by name "
                "(`neurofm push --stage preprocess`); if it was pushed before, `dvc gc --workspace --cloud` takes it "
                "off the remote"
            )
    return problems


def _problem(item: Artefact, dataset: str, *, root: Path) -> str:
    from neurofm.catalog import load_entry  # noqa: PLC0415  # a quarter of a second, where there are raw files

    try:
        if load_entry(dataset, root=root).redistribute:
            return ""
    except UserError as error:
        return f"{item.path}: nobody can tell whether it may be handed on: {error}"
    return (
        f"{item.path} may not be handed on (`redistribute: false` in data/catalog/{dataset}.yaml), and `dvc push` "
        f"would put it on the remote. Mend: move `{dataset}` to `streamed` in params.yaml; if it was pushed before, "
        "`dvc gc --workspace --cloud` takes it off the remote"
    )

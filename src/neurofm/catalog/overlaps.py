"""Overlaps: who stands in two datasets under two ids, as far as it is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from neurofm.catalog.load import read_yaml
from neurofm.settings import Settings


class Overlap(Settings):
    """One known overlap: of all subjects of some namespaces, or of one being."""

    namespaces: tuple[str, ...] = ()
    """Values of `subject_namespace` that number the same subjects alike."""
    subjects: tuple[str, ...] = ()
    """Ids of one being, ``<namespace>:<label>``."""
    why: str = Field(min_length=1)
    """How it is known."""

    @model_validator(mode="after")
    def _names_several(self) -> Self:
        if bool(self.namespaces) == bool(self.subjects) or len(set(self.namespaces or self.subjects)) < 2:
            msg = "give two or more `namespaces`, or two or more `subjects`"
            raise ValueError(msg)
        if wrong := next((one for one in self.subjects if not all(one.partition(":")[::2])), ""):
            msg = f"{wrong!r} is no <namespace>:<label>"
            raise ValueError(msg)
        return self


class Overlaps(Settings):
    """``data/catalog/overlaps/known.yaml``."""

    known: tuple[Overlap, ...] = ()

    def ids(self, subjects: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """Find who of the subjects is one being.

        Parameters
        ----------
        subjects
            Ids of those that take part, ``<namespace>:<label>``.

        Returns
        -------
        all ids of each being of which an overlap is known, sorted, by each id of `subjects`. Subjects without stand
        for themselves, and are not in it.
        """
        found = {subject: self._ids(subject) for subject in sorted(set(subjects))}
        return {subject: ids for subject, ids in found.items() if len(ids) > 1}

    def _ids(self, subject: str) -> tuple[str, ...]:
        """Follow rows from one id to the next, since one row may lead to another."""
        being, ahead = {subject}, [subject]
        while ahead:
            namespace, _, label = (one := ahead.pop()).partition(":")
            for overlap in self.known:
                more = set(overlap.subjects) if one in overlap.subjects else set()
                if namespace in overlap.namespaces:
                    more |= {f"{other}:{label}" for other in overlap.namespaces}
                ahead += more - being
                being |= more
        return tuple(sorted(being))


def load_overlaps(root: Path = Path()) -> Overlaps:
    """Read ``data/catalog/overlaps/known.yaml`` under the project's root; none are known without the file.

    Raises
    ------
    UserError
        If it is no such table.
    """
    path = root / "data" / "catalog" / "overlaps" / "known.yaml"
    if not path.exists():
        return Overlaps()
    mend = "correct that row; docs/splits.md shows what one says"
    return Overlaps.parse({"known": read_yaml(path) or []}, where=str(path), mend=mend)

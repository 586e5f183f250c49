"""Sources `openneuro` and `openneuro-derivatives`: a dataset at a tag, or fMRIPrep's outputs at a commit."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from neurofm.catalog import LATEST, OpenNeuroDerivativesSource, OpenNeuroSource
from neurofm.errors import UserError
from neurofm.fetch.ask import Ask
from neurofm.fetch.mirror import mirror
from neurofm.fetch.waiting import is_offline
from neurofm.sources.listing import Listing
from neurofm.sources.openneuro_git import Snapshot, committed, read_files, tagged
from neurofm.sources.openneuro_graphql import read_snapshot

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_fixed(source: OpenNeuroSource | OpenNeuroDerivativesSource) -> bool:
    """Say whether the version is a tag, or for derivatives a commit; a branch's name is not enough."""
    pattern = _TAG if isinstance(source, OpenNeuroSource) else _COMMIT
    return source.version != LATEST and pattern.fullmatch(source.version) is not None


def list_files(source: OpenNeuroSource | OpenNeuroDerivativesSource, *, ask: Ask, work: Path) -> Listing:
    """List the files of a tag or commit out of the git mirror; OpenNeuro's GraphQL interface is asked without one.

    ``latest`` is the newest tag by version order, for derivatives the newest commit.

    Raises
    ------
    UserError
        If neither can be had, the version is not there, its tag has moved, it holds hostile paths, or a file's content
        is nowhere to be had.
    """
    if source.version != LATEST and not is_fixed(source):
        kind = "tag" if isinstance(source, OpenNeuroSource) else "commit of 40 digits"
        raise UserError(
            f"{source.accession}: the version {source.version!r} is not a {kind}.",
            mend="correct `source.version`, or set it to latest and run: neurofm catalog pin",
        )
    if isinstance(source, OpenNeuroDerivativesSource):
        needs = () if source.version == LATEST else (source.version,)
        folder = mirror("openneuro-derivatives", source.accession, site=ask.site, work=work, needs=needs)
        return _of_git(committed(folder, source.accession, source.version), source)
    needs = () if source.version == LATEST else (f"refs/tags/{source.version}",)
    try:
        folder = mirror("openneuro", source.accession, site=ask.site, work=work, needs=needs)
    except UserError as error:
        if is_offline(ask.site):
            raise
        return _of_graphql(source, ask=ask, why=error)
    return _of_git(tagged(folder, source.accession, source.version, commit=source.commit), source)


def _of_git(snapshot: Snapshot, source: OpenNeuroSource | OpenNeuroDerivativesSource) -> Listing:
    files, facts = read_files(snapshot, include=source.include, exclude=source.exclude)
    resolved = {"commit": snapshot.commit} if isinstance(source, OpenNeuroSource) else {}
    return Listing(source_id=source.accession, version=snapshot.version, files=files, resolved=resolved, facts=facts)


def _of_graphql(source: OpenNeuroSource, *, ask: Ask, why: UserError) -> Listing:
    sys.stderr.write(f"{source.accession}: no git mirror ({why.problem.rstrip('.')}), asking OpenNeuro itself\n")
    try:
        tag, commit, files, facts = read_snapshot(
            source.accession,
            source.version,
            commit=source.commit,
            ask=ask,
            include=source.include,
            exclude=source.exclude,
        )
    except UserError as error:
        raise UserError(f"{why.problem} {error.problem}", mend=error.mend) from None
    return Listing(
        source_id=source.accession,
        version=tag,
        files=files,
        resolved={"commit": commit} if commit else {},
        facts=facts,
    )

"""How far the fetch of each dataset has come, what went wrong, and what mends it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from neurofm.errors import UserError
from neurofm.fetch.ledger import FileState, Ledger, LedgerRow
from neurofm.operations.tables import count_text, counted, name_cell, size_text, table
from neurofm.params import WITH_ENTRIES, Params

LEDGER = Path(".neurofm") / "ledger.sqlite"
GOOD = frozenset({FileState.VERIFIED, FileState.CONSUMED})
_TROUBLE = (FileState.FAILED, FileState.QUARANTINED)
_SHOWN_REASONS = 3
_DIGEST = re.compile(r"\b[0-9a-f]{32,}\b")
"""Like the path, a digest makes each file's reason another one; the list of files has them whole."""


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """What the ledger knows of one dataset."""

    dataset: str
    group: str
    """`datasets`, `streamed`, `local` or `bids`; empty for one that params.yaml no longer names."""
    files: dict[FileState, int]
    bytes: dict[FileState, int]
    reasons: tuple[tuple[str, int], ...]
    """Why files failed or are quarantined, the commonest first, with how many."""
    in_groups: int = 0
    """Files of which only chosen groups came."""

    @property
    def known(self) -> bool:
        """Whether anything was ever planned."""
        return any(self.files.values())

    @property
    def mends(self) -> tuple[str, ...]:
        """Commands that mend what is not good, in the order in which to run them."""
        stage = "stream" if self.group == "streamed" else "download"
        mends = []
        if self.files[FileState.QUARANTINED]:
            mends.append(f"neurofm quarantine release {self.dataset}")
        if any(count for state, count in self.files.items() if state not in GOOD):
            mends.append(f"neurofm run {stage} --dataset {self.dataset}")
        return tuple(mends)


def fetch_status(params: Params, *, root: Path, dataset: str | None = None) -> list[DatasetStatus]:
    """Return what the ledger knows of the datasets of params.yaml (or of one), in their order.

    Raises
    ------
    UserError
        If `dataset` is neither in params.yaml nor in the ledger.
    """
    groups = _groups(params)
    if dataset in params.derivatives:
        return []  # Made here: nothing of it is fetched.
    path = root / LEDGER
    if not path.is_file():
        wanted = [name for name in groups if dataset in {None, name}]
        if dataset is not None and not wanted:
            raise _unknown(dataset, groups)
        return [_status(name, groups[name], {}, ()) for name in wanted]
    with Ledger.open(path) as ledger:
        known = dict.fromkeys([*groups, *ledger.datasets()])
        if dataset is not None and dataset not in known:
            raise _unknown(dataset, known)
        return [
            _status(name, groups.get(name, ""), ledger.counts(name), _reasons(ledger, name), ledger.in_groups(name))
            for name in known
            if dataset in {None, name}
        ]


def files_not_good(dataset: str, *, root: Path) -> Iterator[LedgerRow]:
    """Yield the files of a dataset that are not here whole: planned, partial, failed, quarantined."""
    path = root / LEDGER
    if path.is_file():
        with Ledger.open(path) as ledger:
            yield from (row for row in ledger.rows(dataset) if row.state not in GOOD)


def release_quarantined(dataset: str, *, root: Path) -> int:
    """Let failed and quarantined files of a dataset be tried again; returns how many.

    Raises
    ------
    UserError
        If there is no ledger, or it does not know the dataset.
    """
    path = root / LEDGER
    known: Sequence[str] = ()
    if path.is_file():
        with Ledger.open(path) as ledger:
            known = ledger.datasets()
            if dataset in known:
                return ledger.retry(dataset)
    raise _unknown(dataset, known)


def status_table(statuses: Sequence[DatasetStatus], *, width: int) -> Table:
    """Render files, and bytes below them, per state."""
    made = table("dataset", *((state.value, "right") for state in FileState), width=width)
    for status in statuses:
        name = name_cell(status.dataset, width=width)
        if not status.known:
            made.add_row(name, *([""] * len(FileState)))
            continue
        cells = []
        for state in FileState:
            count, size = status.files[state], status.bytes[state]
            style = "red" if state in _TROUBLE and count else "" if count else "dim"
            text = f"{count_text(count)}\n{size_text(size)}" if count else "0"
            cells.append(Text(text, style=style, justify="right"))
        made.add_row(name, *cells)
    return made


def status_lines(status: DatasetStatus) -> list[str]:
    """Say what is wrong with a dataset's files, and the commands that mend it."""
    if not status.known:
        what = "read where it lies" if status.group == "local" else "nothing was fetched yet"
        return [f"{status.dataset}: {what}"]
    lines = [f"{status.dataset}: {count} x {reason}" for reason, count in status.reasons]
    if status.in_groups:
        lines.append(
            f"{status.dataset}: {counted(status.in_groups, 'file')} with chosen groups only (`source.groups`): the "
            "archive's digests are of whole files and were not checked; sizes are those of whole files"
        )
    if status.mends:
        lines.append(f"{status.dataset}: mend: {' && '.join(status.mends)}")
    return lines


def status_facts(status: DatasetStatus) -> dict[str, Any]:
    """Return a status as plain data, for machines."""
    return {
        "dataset": status.dataset,
        "group": status.group,
        "files": {state.value: status.files[state] for state in FileState},
        "bytes": {state.value: status.bytes[state] for state in FileState},
        "reasons": [{"reason": reason, "files": count} for reason, count in status.reasons],
        "in_groups": status.in_groups,
        "mend": list(status.mends),
    }


def row_facts(row: LedgerRow) -> dict[str, Any]:
    """Return what is known of a file as plain data, for machines."""
    return {"path": row.path, "state": row.state.value, "size": row.size, "bytes": row.bytes, "reason": row.reason}


def _groups(params: Params) -> dict[str, str]:
    return {name: group for group in WITH_ENTRIES for name in getattr(params, group)}


def _status(
    dataset: str, group: str, counts: Any, reasons: tuple[tuple[str, int], ...], in_groups: int = 0
) -> DatasetStatus:
    return DatasetStatus(
        dataset=dataset,
        group=group,
        files={state: counts.get(state, (0, 0))[0] for state in FileState},
        bytes={state: counts.get(state, (0, 0))[1] for state in FileState},
        reasons=reasons,
        in_groups=in_groups,
    )


def _reasons(ledger: Ledger, dataset: str) -> tuple[tuple[str, int], ...]:
    """Count why files failed or are quarantined; rows are read only where there are any."""
    counts = ledger.counts(dataset)
    if not any(counts[state][0] for state in _TROUBLE):
        return ()
    reasons = Counter(
        f"{row.state}: {_DIGEST.sub('..', row.reason.replace(row.path, '..'))}"
        for row in ledger.rows(dataset)
        if row.state in _TROUBLE
    )
    return tuple(reasons.most_common(_SHOWN_REASONS))


def _unknown(dataset: str, known: Any) -> UserError:
    return UserError(
        f"no dataset {dataset!r} here.", mend=f"choose one of {', '.join(known)}" if known else "fetch one first"
    )

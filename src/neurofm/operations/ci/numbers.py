"""What changed in numbers against another revision: a table, a page, and the report that a merge request shows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2

from neurofm.errors import UserError
from neurofm.files import write_atomic
from neurofm.operations.ci.plan import open_repo

MOST_ROWS = 200
"""Rows of the table that a merge request shows; the page has all."""
SCORES = "metrics/summary.json"
"""File whose numbers come first, and are GitLab's metrics report. The others say how recordings and training look."""
_SAME = 1e-9
"""Two numbers are the same within this share of the larger: sums differ in their last bits."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A number that differs; None where one side does not have it."""

    file: str
    name: str
    """Keys from the file's top, joined by dots."""
    before: float | None
    after: float | None

    @property
    def difference(self) -> str:
        """After minus before, signed, as text; empty where there is no other number."""
        return "" if self.before is None or self.after is None else f"{self.after - self.before:+.4g}"


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """All scores of now, and every number that differs from `base`."""

    base: str
    scores: dict[str, float]
    changes: tuple[Change, ...]
    """Scores first."""

    @property
    def by_file(self) -> list[tuple[str, list[Change]]]:
        """The changes of each file."""
        return [(file, list(rows)) for file, rows in groupby(self.changes, key=lambda change: change.file)]


def compare_numbers(base: str, *, root: Path) -> Numbers:
    """Compare the metrics that are kept in git with those of another revision: what ``dvc metrics diff`` says.

    Raises
    ------
    UserError
        If git does not know the revision.
    """
    with open_repo(root) as repo:
        kept = [out for out in repo.index.metrics if not out.use_cache]
        files = [out.fs_path for out in kept]
        shown = repo.metrics.show(targets=files, revs=[base, "workspace"], hide_workspace=False) if files else {}
    old, new = (_numbers_of(shown.get(rev, {}), root=root) for rev in (base, "workspace"))
    scores = {name: value for (file, name), value in sorted(new.items()) if file == SCORES}
    changes = tuple(
        Change(file=file, name=name, before=old.get((file, name)), after=new.get((file, name)))
        for file, name in sorted({*old, *new}, key=lambda key: (key[0] != SCORES, key))
        if not _is_same(old.get((file, name)), new.get((file, name)))
    )
    return Numbers(base=base, scores=scores, changes=changes)


def write_numbers(numbers: Numbers, *, folder: Path) -> None:
    """Write ``changes.md`` (for people), ``index.html`` (the same, whole) and ``metrics.txt`` (for GitLab)."""
    write_atomic(folder / "changes.md", markdown(numbers).encode())
    write_atomic(folder / "index.html", _page(numbers).encode())
    write_atomic(folder / "metrics.txt", open_metrics(numbers.scores).encode())


def markdown(numbers: Numbers) -> str:
    """Return the table of a merge request."""
    title = f"### What changed in numbers, against `{numbers.base[:12]}`\n\n"
    if not numbers.changes:
        return f"{title}No number changed.\n"
    rows = [
        f"| {change.file} | {change.name} | {_text(change.before)} | {_text(change.after)} | {change.difference} |"
        for change in numbers.changes[:MOST_ROWS]
    ]
    more = len(numbers.changes) - len(rows)
    end = f"\n\n{more} more are on the page.\n" if more else "\n"
    return f"{title}| file | number | before | after | change |\n|---|---|---:|---:|---:|\n" + "\n".join(rows) + end


def open_metrics(scores: Mapping[str, float]) -> str:
    r"""Return scores in the text format of OpenMetrics, as GitLab's metrics reports read it: no blank in a name.

    Examples
    --------
    >>> print(open_metrics({"gw-rest.masked.R2.neurofm": 0.59}), end="")
    neurofm_score{key="gw-rest.masked.R2.neurofm"} 0.59
    # EOF
    """
    keys = {name: re.sub(r"[^A-Za-z0-9_.:-]", "_", name) for name in scores}
    lines = [f'neurofm_score{{key="{keys[name]}"}} {value}' for name, value in scores.items()]
    return "".join(f"{line}\n" for line in [*lines, "# EOF"])


def _page(numbers: Numbers) -> str:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("neurofm.operations.ci", "templates"),
                jinja2.PackageLoader("neurofm.report", "templates"),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("numbers.html.j2").render(numbers=numbers, text=_text)


def _numbers_of(result: Mapping[str, Any], *, root: Path) -> dict[tuple[str, str], float]:
    """Flatten what DVC read of one revision; a file that the revision does not have is no error."""
    if "error" in result:
        raise UserError(
            f"dvc metrics: {' '.join(str(result['error']).split())}.", mend="fetch that revision, or correct its name"
        )
    return {
        (_relative(file, root=root), name): value
        for file, read in result.get("data", {}).items()
        for name, value in _leaves(read.get("data", {}))
    }


def _relative(file: str, *, root: Path) -> str:
    path = Path(file)
    return path.relative_to(root.resolve()).as_posix() if path.is_absolute() else path.as_posix()


def _leaves(content: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested mappings; lists (curves of training) are for plots."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield name, float(content)


def _is_same(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and math.isclose(one, other, rel_tol=_SAME)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"

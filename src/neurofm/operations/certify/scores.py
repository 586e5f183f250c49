"""Scores: a slice that was built again against the one of the original run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neurofm.evaluation.row import Row
from neurofm.operations.certify.finding import Finding, Part, Status
from neurofm.slices.result import SliceResult

MIN_SCORE = 0.01
"""A score may always differ by this much: a hundredth of the variance, or of a bit per spike."""
INTERVAL_SHARE = 0.1
"""Or by this share of the half width of its 95 % interval, if that is more: a tenth of what the choice of subjects or
of stretches of time changes adds half a percent to its uncertainty."""
_MEND = "`neurofm run slice` builds it here from the shards that are kept; compare metrics/slice.json in git"


def compare_slices(
    reference: SliceResult, rebuilt: SliceResult, *, shards: Sequence[Finding], exact: bool
) -> Iterator[Finding]:
    """Compare cuts, split, model and scores.

    Parameters
    ----------
    reference, rebuilt
        The original run's and this one's.
    shards
        What was found of the shards that the slices are cut from.
    exact
        The machine is of the original's kind, so nothing may differ. Elsewhere a cut may differ where its shard does,
        the weights of the model are judged by its scores, and scores have a tolerance. The split never may.
    """
    whole = {finding.item: finding.status for finding in shards}
    made = {one.name: one for one in rebuilt.recordings}
    for one in reference.recordings:
        there = made.get(one.name)
        same = there is not None and there.slice_sha256 == one.slice_sha256
        follows = there is not None and there.samples == one.samples and whole.get(one.name) is Status.WITHIN
        yield _finding(
            Part.CUT,
            one.name,
            same=same,
            tolerable=follows,
            detail=f"{one.seconds:g} s"
            if same
            else "it follows its shard"
            if follows
            else "its cut has other bytes, though its shard "
            + ("is equal" if whole.get(one.name) is Status.EQUAL else "is not the same")
            if there
            else "it is not in the slice that was built again",
        )
    same = rebuilt.splits_sha256 == reference.splits_sha256
    yield _finding(
        Part.SPLIT,
        "splits.json",
        same=same,
        tolerable=False,
        detail=f"sha256 {reference.splits_sha256[:16]}.." if same else "subjects or stretches of time have other roles",
    )
    for path in sorted(reference.models.keys() | rebuilt.models.keys()):
        same = reference.models.get(path) == rebuilt.models.get(path)
        yield _finding(
            Part.MODEL,
            path,
            same=same,
            tolerable=not exact and path in rebuilt.models and path in reference.models,
            detail=f"sha256 {reference.models[path][:16]}.."
            if same
            else "other bytes; its scores say how much that matters",
        )
    yield from _scores(reference.scores, rebuilt.scores, exact=exact)


def allowed_difference(row: Row) -> float:
    """Return how far a score may be from `row`'s on another kind of machine."""
    return max(MIN_SCORE, INTERVAL_SHARE * (row.ci_high - row.ci_low) / 2)


def _scores(reference: Sequence[Row], rebuilt: Sequence[Row], *, exact: bool) -> Iterator[Finding]:
    made = {_name(row): row for row in rebuilt}
    for row in reference:
        there = made.pop(_name(row), None)
        if there is None:
            yield _finding(
                Part.SCORE, _name(row), same=False, tolerable=False, detail="there is no such score any more"
            )
            continue
        gap, allowed = abs(there.value - row.value), allowed_difference(row)
        comparable = (there.n, there.ci_unit, there.split) == (row.n, row.ci_unit, row.split)
        yield _finding(
            Part.SCORE,
            _name(row),
            same=there == row,
            tolerable=not exact and comparable and gap <= allowed,
            detail="" if there == row else f"differs by {gap:.2g}" if comparable else "it is a score of other data",
        ).model_copy(update={"reference": row.value, "rebuilt": there.value, "allowed": 0.0 if exact else allowed})
    for name in made:
        yield _finding(Part.SCORE, name, same=False, tolerable=False, detail="the original run has no such score")


def _name(row: Row) -> str:
    return f"{row.dataset} {row.task} {row.metric} {row.model}"


def _finding(part: Part, item: str, *, same: bool, tolerable: bool, detail: str) -> Finding:
    status = Status.EQUAL if same else Status.WITHIN if tolerable else Status.DIFFERS
    return Finding(part=part, item=item, status=status, detail=detail, mend=_MEND if status is Status.DIFFERS else "")

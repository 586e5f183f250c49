"""Subject sums: what priors hold of subjects with several recordings, so that a subject can be left out of them.

Of a subject with one recording it is the recording's own train segments, which are at hand when it is described. Of the
others the checkpoint keeps it, summed in up to eight groups of subjects: as many sums as subjects would grow with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from neurofm.model.core import Moments
from neurofm.model.pooled_lags import PooledLags
from neurofm.training.checkpoint import Checkpoint, SubjectSums, digest
from neurofm.training.contexts import moments_of
from neurofm.training.stationary import pooled_lags_of
from neurofm.windows import RecordingView

_GROUPS = 8


def subject_sums_of(
    views: Sequence[RecordingView], *, sds_samples: Sequence[float], lagged: bool
) -> tuple[SubjectSums, ...]:
    """Sum up train segments of the subjects with several recordings.

    Parameters
    ----------
    views
        Recordings of one set of channels, with train segments.
    sds_samples
        Smoothing of the moments.
    lagged
        Whether lagged products are summed too.
    """
    by_subject: dict[str, list[RecordingView]] = {}
    for view in views:
        by_subject.setdefault(view.subject, []).append(view)
    repeated = sorted(subject for subject, some in by_subject.items() if len(some) > 1)
    found = []
    for number in range(min(_GROUPS, len(repeated))):
        subjects = repeated[number::_GROUPS]
        some = [view for view in views if view.subject in subjects]
        found.append(
            SubjectSums(
                subjects=frozenset(map(digest, subjects)),
                moments=_sum([moments_of(view, view.roles.train, sds_samples=sds_samples) for view in some]),
                lagged=PooledLags.total(pooled_lags_of(view, view.roles.train) for view in some) if lagged else None,
            )
        )
    return tuple(found)


def moments_of_others(checkpoint: Checkpoint, view: RecordingView, *, sds_samples: Sequence[float]) -> Moments:
    """Return the moments of the training recordings of a recording's channels, without those of its subject."""
    nothing = Moments.zero(channels=len(view.channel_ids), scales=len(sds_samples))
    prior = checkpoint.priors.get(view.channel_set, nothing)
    groups = _groups_of(checkpoint, view)
    for group in groups:
        prior = prior - group.moments
    if not groups and _is_single(checkpoint, view):
        # Its own train segments are its calibration already.
        prior = prior - moments_of(view, view.roles.train, sds_samples=sds_samples)
    # Samples are counted exactly; of sums of none rounding is left.
    return prior if prior.samples > 0 else nothing


def pooled_lags_of_others(checkpoint: Checkpoint, view: RecordingView) -> PooledLags | None:
    """Return the same of lagged products; None where none were summed of these channels."""
    total = checkpoint.lagged.get(view.channel_set)
    if total is None:
        return None
    lagged = [group.lagged for group in _groups_of(checkpoint, view) if group.lagged is not None]
    for sums in lagged:
        total = total - sums
    if not lagged and _is_single(checkpoint, view):
        total = total - pooled_lags_of(view, view.roles.train)
    return total


def _groups_of(checkpoint: Checkpoint, view: RecordingView) -> list[SubjectSums]:
    subject = digest(view.subject)
    return [group for group in checkpoint.subject_sums.get(view.channel_set, ()) if subject in group.subjects]


def _is_single(checkpoint: Checkpoint, view: RecordingView) -> bool:
    return digest(view.name) in checkpoint.prior_recordings


def _sum(parts: Iterable[Moments]) -> Moments:
    first, *rest = parts
    for part in rest:
        first = first + part
    return first

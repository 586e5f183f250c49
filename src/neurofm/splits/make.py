"""Make splits: every recording's roles in every fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from neurofm.catalog import Overlaps
from neurofm.recording import Modality
from neurofm.splits.at_once import companions_of, in_blocks_at_once, refuse_two_of_a_kind
from neurofm.splits.audit import audit
from neurofm.splits.beings import Group, group_datasets, one_id_each
from neurofm.splits.candidates import Candidate
from neurofm.splits.folds import Fold, FoldRecording, LeftOut, Role, Splits
from neurofm.splits.leave_out import Rounds, learning_by_being, rounds_of
from neurofm.splits.plans import RolesOf, in_blocks, learning_roles, roles_in_turn, train_only, whole
from neurofm.splits.settings import SplitSettings
from neurofm.splits.subjects import by_subject, shuffled

Plan = FoldRecording | None
"""What a recording is for in a fold; None where it takes no part in it."""


def make_splits(
    candidates: Sequence[Candidate],
    *,
    settings: SplitSettings,
    window_samples: Mapping[Modality, int],
    overlaps: Overlaps | None = None,
) -> Splits:
    """Give every recording its roles in every fold.

    Parameters
    ----------
    candidates
        All recordings.
    settings
        `split` in params.yaml.
    window_samples
        Length of a window per modality: shorter recordings are left out, and gaps are at least this long.
    overlaps
        Who stands in several datasets under several ids; nobody without.

    Raises
    ------
    UserError
        If `leave_out` names what no dataset has, if the catalogue calls two recordings of a kind one run
        (`refuse_two_of_a_kind`), or if anything is both learned from and scored (`audit`).
    """
    named, same = one_id_each(candidates, overlaps or Overlaps())
    taking_part, left_out = _taking_part(named, window_samples)
    refuse_two_of_a_kind(taking_part)
    groups = group_datasets(taking_part)
    rounds = rounds_of(groups, settings) if settings.leave_out else Rounds(count=settings.folds, of={})
    settings = settings.model_copy(update={"folds": rounds.count})
    plans: dict[str, Sequence[Plan]] = {}
    for group in groups:
        of_group, out = _plans(group, rounds=rounds, settings=settings, window_samples=window_samples)
        plans |= of_group
        left_out += out
    splits = Splits(
        seed=settings.seed,
        folds=tuple(
            Fold(recordings=tuple(plan for one in taking_part if one.name in plans and (plan := plans[one.name][fold])))
            for fold in range(settings.folds)
        ),
        left_out=tuple(sorted(left_out, key=lambda out: (out.dataset, out.recording))),
        same=same,
        left_out_by=dict.fromkeys(rounds.datasets, settings.leave_out),
    )
    audit(splits)
    return splits


def _taking_part(
    candidates: Sequence[Candidate], window_samples: Mapping[Modality, int]
) -> tuple[list[Candidate], list[LeftOut]]:
    """Leave out what preprocessing keeps out, what is shorter than a window, and what is there already."""
    taking_part: list[Candidate] = []
    left_out: list[LeftOut] = []
    first: dict[str, str] = {}
    for candidate in sorted(candidates, key=lambda c: (c.dataset, c.recording)):
        needed = window_samples[candidate.modality]
        reason = candidate.excluded_reason
        if candidate.samples < needed:
            seconds, least = candidate.samples / candidate.sampling_rate_hz, needed / candidate.sampling_rate_hz
            reason = f"too short: {seconds:.4g} s, one window is {least:.4g} s"
        if not reason and candidate.content in first:
            reason = f"holds the same samples as {first[candidate.content]}"
        if reason:
            left_out.append(_left_out(candidate, reason, trains=False))
            continue
        taking_part.append(candidate)
        if candidate.content:
            first[candidate.content] = candidate.name
    return taking_part, left_out


def _plans(
    group: Group, *, rounds: Rounds, settings: SplitSettings, window_samples: Mapping[Modality, int]
) -> tuple[dict[str, Sequence[Plan]], list[LeftOut]]:
    """Plan the recordings of datasets that share subjects."""
    if held := rounds.of.get(group.datasets):
        roles = learning_by_being(group, held=held, settings=settings)
        return _by_being(group, roles, settings=settings, window_samples=window_samples, whole_datasets=rounds.whole)
    if len(group.scored_subjects) >= settings.min_subjects:
        return _by_being(group, by_subject(group, settings=settings), settings=settings, window_samples=window_samples)
    return _of_few(group, settings=settings, window_samples=window_samples)


def _by_being(
    group: Group,
    roles: Sequence[Mapping[str, Role]],
    *,
    settings: SplitSettings,
    window_samples: Mapping[Modality, int],
    whole_datasets: Sequence[frozenset[str]] = (),
) -> tuple[dict[str, Sequence[Plan]], list[LeftOut]]:
    """Plan by the role of each being in each fold; those without one are learned from at other times than chosen on.

    Of those who are held out with `whole_datasets` ([fold]) what other datasets have of them takes no part.
    """
    plans: dict[str, Sequence[Plan]] = {}
    left_out: list[LeftOut] = []
    once, at_once = settings.model_copy(update={"folds": 1}), companions_of(group.recordings)
    for one in group.recordings:
        of_folds: list[Plan] = []
        for fold, by_being in enumerate(roles):
            role = by_being.get(one.subject)
            if role is None:
                of_folds.append(
                    _blocks(
                        one,
                        at_once.get(one.name, [one]),
                        fold=fold,
                        settings=once,
                        window_samples=window_samples,
                        roles_of=lambda count, fold: learning_roles(count, fold=fold, settings=settings),
                    )
                )
            elif not one.score:
                # Nothing of it is scored; where its subject is held out elsewhere it takes no part.
                of_folds.append(train_only(one) if role == "train" else None)
            elif role == "test" and whole_datasets and one.dataset not in whole_datasets[fold]:
                of_folds.append(None)
            else:
                of_folds.append(whole(one, role=role, kind="subject", settings=settings))
        plans[one.name] = of_folds
        if not one.score:
            left_out.append(_left_out(one, _unscored(one), trains=True))
        elif whole_datasets and not any(one.dataset in out for out in whole_datasets):
            reason = "shares subjects with a dataset that is left out whole, and is itself left out in no fold"
            left_out.append(_left_out(one, reason, trains=any(plan and plan.train for plan in of_folds)))
    return plans, left_out


def _of_few(
    group: Group, *, settings: SplitSettings, window_samples: Mapping[Modality, int]
) -> tuple[dict[str, Sequence[Plan]], list[LeftOut]]:
    """Plan datasets of few subjects: by session where settings and sessions allow, else in time."""
    if sessions := _sessions(group, settings):
        return _by_session(group, sessions, settings=settings)
    return _in_time(group, settings=settings, window_samples=window_samples)


def _by_session(
    group: Group, sessions: Sequence[str], *, settings: SplitSettings
) -> tuple[dict[str, Sequence[Plan]], list[LeftOut]]:
    roles = [roles_in_turn(len(sessions), fold=fold, settings=settings) for fold in range(settings.folds)]
    at_once = companions_of(group.recordings)
    plans: dict[str, Sequence[Plan]] = {}
    for one in group.recordings:
        if one.score:
            place = sessions.index(_session(one))
            plans[one.name] = [whole(one, role=of[place], kind="session", settings=settings) for of in roles]
            continue
        # Another dataset may name the session of the same moment otherwise, or not at all.
        named = {_session(other) for other in (one, *at_once.get(one.name, ()))}
        places = [place for place, session in enumerate(sessions) if session in named]
        plans[one.name] = [train_only(one) if all(of[place] == "train" for place in places) else None for of in roles]
    return plans, [_left_out(one, _unscored(one), trains=True) for one in group.recordings if not one.score]


def _in_time(
    group: Group, *, settings: SplitSettings, window_samples: Mapping[Modality, int]
) -> tuple[dict[str, Sequence[Plan]], list[LeftOut]]:
    twice, at_once = _recorded_twice(group), companions_of(group.recordings)
    plans: dict[str, Sequence[Plan]] = {}
    left_out: list[LeftOut] = []
    for one in group.recordings:
        if one.name in twice:
            reason = f"may be the same session as {twice[one.name]}: blocks of the two would not lie at the same times"
            left_out.append(_left_out(one, reason, trains=False))
            continue
        reason = "" if one.score else _unscored(one)
        companions = at_once.get(one.name, [one])
        of_fmri = any(other.modality is Modality.FMRI for other in companions)
        if not reason and of_fmri:
            reason = _run_is_whole(len(group.subjects))
            if one.modality is not Modality.FMRI:
                reason = f"recorded at once with {reason}"
        if of_fmri:
            plans[one.name] = [train_only(one)] * settings.folds
        else:
            plans[one.name] = planned = [
                _blocks(
                    one,
                    companions,
                    fold=fold,
                    settings=settings,
                    window_samples=window_samples,
                    roles_of=lambda count, fold: roles_in_turn(count, fold=fold, settings=settings),
                )
                for fold in range(settings.folds)
            ]
            reason = reason or _never_scored(planned)
        if reason:
            trains = any(plan and plan.train for plan in plans[one.name])
            left_out.append(_left_out(one, reason, trains=trains))
    return plans, left_out


def _blocks(
    one: Candidate,
    companions: Sequence[Candidate],
    *,
    fold: int,
    settings: SplitSettings,
    window_samples: Mapping[Modality, int],
    roles_of: RolesOf,
) -> Plan:
    """Cut a recording in time, by itself or as all of its moment.

    One that is not scored is learned from as a whole, but when another of its moment is chosen on or scored.
    """
    if not any(other.score for other in companions):
        return train_only(one)
    if len(companions) == 1:
        window = window_samples[one.modality]
        return in_blocks(one, fold=fold, settings=settings, window_samples=window, roles_of=roles_of)
    cut = in_blocks_at_once(
        one, companions, fold=fold, settings=settings, window_samples=window_samples, roles_of=roles_of
    )
    if one.score or cut is None:
        return cut
    return cut.model_copy(update={"kind": "train-only", "validation": (), "test": ()})


def _never_scored(planned: Sequence[Plan]) -> str:
    """Say why a recording that is cut in time is scored in no fold; nothing where it is."""
    if any(plan and plan.test for plan in planned):
        return ""
    if all(plan and plan.kind == "train-only" for plan in planned):
        return "too short to be split in time with gaps: trains only"
    return "shares too little time with what was recorded at once: never has all roles in a fold"


def _session(recording: Candidate) -> str:
    return f"{recording.subject}/{recording.session}"


def _sessions(group: Group, settings: SplitSettings) -> list[str]:
    """Return the sessions in the order in which they are dealt out; none where they are too few, or not named."""
    scored = [one for one in group.recordings if one.score]
    if settings.min_sessions is None or not all(one.session for one in scored):
        return []
    found = sorted({_session(one) for one in scored})
    return shuffled(found, settings, group.name) if len(found) >= settings.min_sessions else []


def _recorded_twice(group: Group) -> dict[str, str]:
    """Find recordings that may be another dataset's copy of a session, by name; the first scored one stays.

    Blocks of two copies would not lie at the same times, so that one is learned from where the other is scored.
    """
    kept: defaultdict[tuple[str, Modality], list[Candidate]] = defaultdict(list)
    twice: dict[str, str] = {}
    for one in sorted(group.recordings, key=lambda one: (not one.score, one.dataset, one.recording)):
        others = kept[one.subject, one.modality]
        alike = (
            other
            for other in others
            if other.dataset != one.dataset and (other.session == one.session or not (other.session and one.session))
        )
        if (copy := next(alike, None)) is not None:
            twice[one.name] = copy.name
        else:
            others.append(one)
    return twice


def _unscored(recording: Candidate) -> str:
    return recording.score_note or "the catalogue says `score: false`"


def _run_is_whole(subjects: int) -> str:
    return f"fMRI of {subjects} subject{'s' * (subjects > 1)}: the high-pass spans the run, so a run is never split"


def _left_out(candidate: Candidate, reason: str, *, trains: bool) -> LeftOut:
    return LeftOut(dataset=candidate.dataset, recording=candidate.recording, reason=reason, trains=trains)

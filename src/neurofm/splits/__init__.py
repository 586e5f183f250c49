"""Leak-free splits: which subject, session or stretch of time is learned from, chosen on, and scored.

A being that several datasets know has one role in all of them (`neurofm.catalog.Overlaps`). Datasets with at least
`min_subjects` subjects are split by subject, k-fold where `folds` is above one, or a value of a column, or a whole
dataset, at a time (`leave_out`). A recording of a subject never seen in training gives a declared calibration span at
its start, unlabelled, from which it is normalised and described; only what follows is scored. With fewer subjects
sessions are held out where `min_sessions` says so, and time otherwise: contiguous blocks, with a gap of one window plus
the support of all filters wherever the role changes, so that no window and no raw sample serves two roles. fMRI is
never split within a run, since its high-pass spans the run: with too few subjects it trains and is not scored.
"""

from neurofm.splits.audit import audit
from neurofm.splits.candidates import Candidate, candidate_of, find_candidates
from neurofm.splits.few_shot import draw_shown
from neurofm.splits.folds import UNSEEN, Fold, FoldRecording, Kind, LeftOut, Role, Segment, Splits
from neurofm.splits.make import make_splits
from neurofm.splits.settings import DATASET, SplitSettings

__all__ = [
    "DATASET",
    "UNSEEN",
    "Candidate",
    "Fold",
    "FoldRecording",
    "Kind",
    "LeftOut",
    "Role",
    "Segment",
    "SplitSettings",
    "Splits",
    "audit",
    "candidate_of",
    "draw_shown",
    "find_candidates",
    "make_splits",
]

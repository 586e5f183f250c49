"""fMRIPrep, driven: who is to be processed, with which command, in which container, and whether it went well."""

from neurofm.fmriprep.command import arguments, fmriprep_job
from neurofm.fmriprep.folders import Folders, Inside
from neurofm.fmriprep.options import FmriprepOptions
from neurofm.fmriprep.outputs import Expected, expected_outputs
from neurofm.fmriprep.participants import BoldRun, Participant, choose_participants, find_participants
from neurofm.fmriprep.verdict import Verdict, crash_files, judge

__all__ = [
    "BoldRun",
    "Expected",
    "FmriprepOptions",
    "Folders",
    "Inside",
    "Participant",
    "Verdict",
    "arguments",
    "choose_participants",
    "crash_files",
    "expected_outputs",
    "find_participants",
    "fmriprep_job",
    "judge",
]

"""Further arguments of fMRIPrep: which ones are not left to the user, and why."""

from __future__ import annotations

import re

_OURS = "neurofm sets it; use the option of that name, or leave it out"
_NO_RUN = "with it fMRIPrep does not run whole, so that what it must leave behind is not there"
_ELSEWHERE = "what comes out would not lie where it is looked for, or be called otherwise"
_DEPRECATED = "it is deprecated and goes in fMRIPrep 26"
REFUSED = {
    "--participant-label": _OURS,
    "--participant_label": _OURS,
    "--session-label": _OURS,
    "--task-id": _OURS,
    "--bids-filter-file": _OURS,
    "--bids-database-dir": "an index that is kept goes on without the files that were added since",
    "--derivatives": _OURS,
    "--nprocs": _OURS,
    "--nthreads": _OURS,
    "--n_cpus": _OURS,
    "--n-cpus": _OURS,
    "--omp-nthreads": _OURS,
    "--mem": _OURS,
    "--mem_mb": _OURS,
    "--mem-mb": _OURS,
    "--low-mem": _OURS,
    "--level": _OURS,
    "--ignore": _OURS,
    "--output-spaces": _OURS,
    "--dummy-scans": _OURS,
    "--random-seed": _OURS,
    "--cifti-output": _OURS,
    "--skull-strip-fixed-seed": _OURS,
    "--fs-license-file": _OURS,
    "--fs-no-reconall": _OURS,
    "--work-dir": _OURS,
    "--stop-on-first-crash": _OURS,
    "--notrack": _OURS,
    "--skip-bids-validation": _OURS,
    "--skip_bids_validation": _OURS,
    "--use-plugin": _OURS,
    "--nipype-plugin-file": _OURS,
    "--clean-workdir": "what an earlier run left there is what the next one goes on with",
    "--anat-only": _NO_RUN,
    "--boilerplate-only": _NO_RUN,
    "--boilerplate_only": _NO_RUN,
    "--reports-only": _NO_RUN,
    "--version": _NO_RUN,
    "--help": _NO_RUN,
    "--config-file": _NO_RUN,
    "--output-layout": _ELSEWHERE,
    "--echo-idx": _ELSEWHERE,
    "--fs-subjects-dir": _ELSEWHERE,
    "--aggregate-session-reports": _ELSEWHERE,
    "--longitudinal": _DEPRECATED,
    "--force-bbr": _DEPRECATED,
    "--force-no-bbr": _DEPRECATED,
    "--force-syn": _DEPRECATED,
}
"""fMRIPrep's arguments that cannot be among the further ones, in every spelling that it knows, with the reason."""
_WHOLE = frozenset({"--force"})
"""Arguments that are no shortened ones, though another one's name begins with theirs."""
_VALUE = re.compile(r"[^-].*|-\d+(\.\d+)?|", re.DOTALL)
_VERBOSE = re.compile(r"-v+")


def complaint_about(words: tuple[str, ...]) -> str:
    """Return what is wrong with further arguments; empty if nothing is.

    fMRIPrep's parser takes any beginning of a long argument for the whole, and letters after a short one for its value
    or for more arguments; both would slip by a comparison of whole words.
    """
    if words and not words[0].startswith("-"):
        return f"`extra` begins with {words[0]!r}, which is no argument: it would be taken for a folder"
    for word in words:
        if _VALUE.fullmatch(word) or _VERBOSE.fullmatch(word):
            continue
        flag = word.partition("=")[0]
        if len(flag) < len("--x") or not flag.startswith("--"):
            return f"`extra` cannot have {word!r}: write the long name of the argument"
        whole = flag if flag in REFUSED else next((one for one in REFUSED if one.startswith(flag)), "")
        if whole and flag not in _WHOLE:
            return f"`extra` cannot have {flag!r}{'' if whole == flag else f' ({whole})'}: {REFUSED[whole]}"
    return ""

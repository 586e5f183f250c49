"""What contradicts itself is refused in one line, before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.fmriprep import FmriprepOptions
from neurofm.fmriprep.spaces import parse_space


def parse(**given: Any) -> FmriprepOptions:
    return FmriprepOptions.parse(given, where="params.yaml: fmriprep", mend="correct it")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cifti_output": "91k", "fs_no_reconall": True}, "`cifti_output` needs FreeSurfer's surfaces"),
        ({"output_spaces": ["fsaverage5"], "fs_no_reconall": True}, "'fsaverage5'] is one of FreeSurfer's surfaces"),
        ({"mem_mb": 7999}, r"`mem_mb` \(7999\) is too little"),
        ({"nthreads": 2, "omp_nthreads": 4}, r"`omp_nthreads` \(4\) is more than `nthreads` \(2\)"),
        ({"output_spaces": ["T1w", "T1w"]}, "`T1w` stands twice"),
        ({"output_spaces": ["MNI:res-0"]}, "'MNI:res-0' is no output space"),
        ({"output_spaces": ["fsLR"]}, "'fsLR' is no output space"),
        ({"output_spaces": []}, "at least 1 item"),
        ({"cifti_output": "32k"}, "'91k' or '170k'"),
        ({"sessions": ["../x"]}, "should match pattern"),
        ({"task": "rest", "bids_filters": {"bold": {"task": "rest"}}}, "one too many"),
        ({"sessions": ["a"], "bids_filters": {"t1w": {"session": "a"}}}, "one too many"),
        ({"bids_filters": {"BOLD": {"task": "rest"}}}, "`bids_filters` has no query 'BOLD'"),
        ({"bids_filters": {"bold": {"suffix": "cbv"}}}, "`bids_filters` cannot use 'suffix'"),
        ({"bids_filters": {"bold": {"run": 2}}}, "valid string, got 2"),
        ({"unknown": 1}, "unknown key"),
        ({"nthreads": "8"}, "valid integer"),
        ({"extra": ["/elsewhere"]}, "would be taken for a folder"),
        ({"extra": ["--work-dir=/x"]}, "`extra` cannot have '--work-dir': neurofm sets it"),
        ({"extra": ["--part", "02"]}, r"`extra` cannot have '--part' \(--participant-label\): neurofm sets it"),
        ({"extra": ["-w/x"]}, "`extra` cannot have '-w/x': write the long name"),
        ({"extra": ["-vw", "/x"]}, "`extra` cannot have '-vw'"),
        ({"extra": ["--"]}, "`extra` cannot have '--'"),
        ({"extra": ["--sloppy", "--anat-only"]}, "'--anat-only': with it fMRIPrep does not run whole"),
        ({"extra": ["--output-layout", "legacy"]}, "would not lie where it is looked for"),
        ({"extra": ["--force-bbr"]}, "deprecated"),
    ],
)
def test_refused_in_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        parse(**given)
    assert "\n" not in str(caught.value)


def test_further_arguments_that_are_not_ours_pass() -> None:
    extra = ("-vv", "--force", "bbr", "--fd-spike-threshold", "0.3", "--no-msm", "--me-t2s-fit-method", "loglin")
    assert parse(extra=list(extra)).extra == extra


@pytest.mark.parametrize(
    ("text", "entities"),
    [
        ("MNI152NLin2009cAsym", "_space-MNI152NLin2009cAsym"),
        ("MNI152NLin2009cAsym:res-2", "_space-MNI152NLin2009cAsym_res-2"),
        ("MNI152NLin6Asym:res-native", "_space-MNI152NLin6Asym"),
        ("MNIPediatricAsym:cohort-2:res-1", "_space-MNIPediatricAsym_cohort-2_res-1"),
        ("anat", "_space-T1w"),
        ("func", ""),
        ("fsaverage6", "_space-fsaverage6"),
    ],
)
def test_what_a_space_adds_to_names(text: str, entities: str) -> None:
    assert parse_space(text).entities == entities

"""Choice: the smallest dataset of each modality that is scored, and few of its recordings."""

from __future__ import annotations

import pytest

from neurofm.recording import Modality
from neurofm.slices.choice import Chosen, choose
from neurofm.splits import Candidate, Splits, SplitSettings, make_splits

SETTINGS = SplitSettings(
    seed=1,
    folds=3,
    test_fraction=0.15,
    validation_fraction=0.2,
    min_subjects=5,
    blocks=9,
    calibration_fraction=0.3,
)
WINDOWS = dict.fromkeys(Modality, 64)
MODALITIES = {
    "hcp": Modality.FMRI,
    "gw": Modality.FMRI,
    "one-bold": Modality.FMRI,
    "long-eeg": Modality.EEG,
    "short-eeg": Modality.EEG,
    "tiny-eeg": Modality.EEG,
    "units": Modality.SPIKES,
}


def candidate(dataset: str, recording: str, samples: int) -> Candidate:
    return Candidate(
        dataset=dataset,
        recording=recording,
        subject=f"{dataset}:{recording.split('_', maxsplit=1)[0]}",
        modality=MODALITIES[dataset],
        samples=samples,
        sampling_rate_hz=1.0,
        support_s=0.0,
    )


@pytest.fixture(scope="module")
def splits() -> Splits:
    """As the pipeline would split them: two fMRI datasets by subject, EEG in time, one BOLD run that trains only."""
    return make_splits(
        [
            *(candidate("gw", f"sub-{number}_run-{run}", 400 + 10 * run) for number in range(7) for run in (1, 2)),
            *(candidate("hcp", f"sub-{number}", 300) for number in range(5)),
            candidate("one-bold", "sub-0", 100),
            candidate("long-eeg", "sub-0", 9000),
            candidate("short-eeg", "sub-0", 4000),
            candidate("short-eeg", "sub-1", 3000),
            candidate("tiny-eeg", "sub-0", 10),
            candidate("units", "sub-0", 20),
        ],
        settings=SETTINGS,
        window_samples=WINDOWS,
    )


def test_raw_files_that_are_kept_go_before_fewer_samples(splits: Splits) -> None:
    kept = frozenset(MODALITIES) - {"hcp"}
    chosen = {one.modality: one for one in choose(splits, modalities=MODALITIES, kept=kept, subjects=5)}
    fmri = chosen[Modality.FMRI]
    assert (fmri.dataset, len(fmri.recordings)) == ("gw", 5), "as many subjects as a split by subject needs"
    assert all(recording.endswith("run-1") for recording in fmri.recordings), "the shorter run of each"
    assert chosen[Modality.EEG] == Chosen(
        modality=Modality.EEG, dataset="short-eeg", recordings=("sub-1",), scored=True
    )


def test_without_kept_ones_the_smallest_is_taken(splits: Splits) -> None:
    chosen = choose(splits, modalities=MODALITIES, kept=frozenset(), subjects=5)
    assert [one.dataset for one in chosen if one.modality is Modality.FMRI] == ["hcp"]


def test_a_modality_of_which_nothing_is_scored_has_a_shard_all_the_same(splits: Splits) -> None:
    chosen = choose(splits, modalities=MODALITIES, kept=frozenset(MODALITIES), subjects=5)
    spikes = Chosen(modality=Modality.SPIKES, dataset="units", recordings=("sub-0",), scored=False)
    assert spikes in chosen
    assert Modality.CALCIUM not in {one.modality for one in chosen}
    without = {name: modality for name, modality in MODALITIES.items() if name not in {"gw", "hcp"}}
    fmri = Chosen(modality=Modality.FMRI, dataset="one-bold", recordings=("sub-0",), scored=False)
    assert fmri in choose(splits, modalities=without, kept=frozenset(), subjects=5)

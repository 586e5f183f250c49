"""A window is found again by what was recorded with it, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.evaluation.evaluate import evaluate
from neurofm.evaluation.retrieval import POWER, SIGNAL, ranks, retrieve
from neurofm.evaluation.row import NULL, PROBE
from neurofm.evaluation.scoreboard import make_rows
from neurofm.evaluation.scores import TileScores, ratio
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.training.pretrain import pretrain
from neurofm.windows import RecordingView
from neurofm.windows.pairs import Pair, pairs_of
from tests.at_once import WINDOW, WINDOWS, AtOnce
from tests.training.conftest import small_settings


def _patches(view: RecordingView, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """In place of an encoder: mean and SD of each patch's channels."""
    parts = z.reshape(len(z), 4, -1, z.shape[-1])
    return np.concatenate([parts.mean(axis=2), parts.std(axis=2)], axis=-1)


def _twin(view: RecordingView, *, late: int = 0) -> RecordingView:
    """The same samples as another modality, on the same clock, some of them late."""
    roles = view.roles.model_copy(update={"modality": Modality.MEG, "dataset": "twin"})
    stored = np.roll(view.stored[:], late, axis=0)
    return replace(view, modality=Modality.MEG, dataset="twin", channel_set="twin", roles=roles, stored=stored)


def _recall(pairs: tuple[Pair, ...], settings: EvaluateSettings) -> dict[str, float]:
    scores, _ = retrieve(pairs, encode=_patches, settings=settings, windows=WINDOWS)
    return {one.model: ratio(one.gain, one.total) for one in scores if one.metric == "recall@1"}


def test_a_twin_is_found_and_one_that_is_late_is_not(at_once: AtOnce, settings: EvaluateSettings) -> None:
    eeg, _ = at_once.views(1)
    found = _recall(pairs_of([eeg, _twin(eeg)]), settings)
    assert found[NULL] < 0.2
    assert found[POWER] > 0.7
    assert found[SIGNAL] > 0.9
    assert found[PROBE] > 0.7
    late = _recall(pairs_of([eeg, _twin(eeg, late=700)]), settings)
    assert late[POWER] < 0.5
    assert late[SIGNAL] < 0.5
    assert late[PROBE] < 0.5


def test_both_directions_and_the_best_five_stand_in_the_scoreboard(at_once: AtOnce, settings: EvaluateSettings) -> None:
    scores: list[TileScores] = []
    seconds: dict[tuple[str, str, str], float] = {}
    for fold in range(3):
        own, spent = retrieve(pairs_of(at_once.views(fold)), encode=_patches, settings=settings, windows=WINDOWS)
        scores += own
        seconds |= spent
    rows = make_rows(scores, folds=3, settings=settings)
    assert {(row.dataset, row.task) for row in rows} == {
        ("mne-sample-eeg", "retrieval:meg"),
        ("mne-sample-meg", "retrieval:eeg"),
    }
    assert {row.metric for row in rows} == {"recall@1", "recall@5"}
    assert {row.model for row in rows} == {NULL, POWER, SIGNAL, PROBE}
    for row in rows:
        assert row.ci_low <= row.value <= row.ci_high
        assert row.null == next(
            one.value for one in rows if (one.task, one.metric, one.model) == (row.task, row.metric, NULL)
        )
    assert {key[2] for key in seconds} == {NULL, POWER, SIGNAL, PROBE}
    # Chance: one of as many windows as each fold holds out.
    first = [one for one in scores if (one.task, one.metric, one.model) == ("retrieval:meg", "recall@1", NULL)]
    assert [float(one.gain[0, 0]) for one in first] == [1 / len(one.gain) for one in first]
    assert min(len(one.gain) for one in first) >= 6


@pytest.mark.long
def test_evaluation_has_its_rows_and_differences(at_once: AtOnce, settings: EvaluateSettings, tmp_path: Path) -> None:
    untrained = small_settings().model_copy(update={"steps": 0})
    for fold in range(3):
        pretrain(
            at_once.views(fold),
            settings=untrained,
            windows=WINDOWS,
            fold=fold,
            run_dir=tmp_path / "runs" / str(fold),
            out_dir=tmp_path / f"fold-{fold}",
        )
    board = evaluate(at_once.splits, shards=at_once.shards, models=tmp_path, settings=settings, windows=WINDOWS)
    found = {(row.dataset, row.task, row.model) for row in board.rows if row.task.startswith("retrieval")}
    pairs = {("mne-sample-eeg", "retrieval:meg"), ("mne-sample-meg", "retrieval:eeg")}
    assert found == {(*pair, model) for pair in pairs for model in (NULL, POWER, SIGNAL, PROBE)}
    assert {(one.dataset, one.task) for one in board.differences.differences} >= pairs
    assert board.timings["mne-sample-eeg"]["retrieval:meg"].keys() == {NULL, POWER, SIGNAL, PROBE}


def test_where_nothing_was_recorded_at_once_there_is_no_row(at_once: AtOnce, settings: EvaluateSettings) -> None:
    assert retrieve(pairs_of(at_once.views()[:1]), encode=_patches, settings=settings, windows=WINDOWS) == ([], {})


def test_nothing_of_the_held_out_part_is_fitted_on(at_once: AtOnce, settings: EvaluateSettings) -> None:
    """Other samples in one held-out window change what is found there, and leave the map of all others alone."""
    eeg, meg = at_once.views(1)
    before, _ = retrieve(pairs_of([eeg, meg]), encode=_patches, settings=settings, windows=WINDOWS)
    stored = eeg.stored[:].copy()
    (part,) = eeg.roles.test
    stored[part.start : part.start + 40] = stored[part.start : part.start + 40][::-1] // 3
    after, _ = retrieve(
        pairs_of([replace(eeg, stored=stored), meg]), encode=_patches, settings=settings, windows=WINDOWS
    )
    for one, two in zip(before, after, strict=True):
        if one.task == "retrieval:meg":  # The changed window asks; the others' answers stay.
            np.testing.assert_array_equal(one.gain[1:], two.gain[1:])


class _Counted:
    """Stored samples that remember how many were read."""

    def __init__(self, samples: npt.NDArray[np.int16]) -> None:
        self.samples = samples
        self.read = 0

    def __getitem__(self, part: slice) -> npt.NDArray[np.int16]:
        self.read += part.stop - part.start
        return self.samples[part]


def test_of_many_windows_only_those_fitted_on_are_read(
    at_once: AtOnce, settings: EvaluateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of EEG beside fMRI, four windows in the length of one, would not fit in memory."""
    monkeypatch.setattr("neurofm.evaluation.retrieval._MOST_FITTED", 3)
    eeg, meg = at_once.views(1)
    stored = _Counted(np.asarray(eeg.stored[:], dtype=np.int16))
    _recall(pairs_of([replace(eeg, stored=stored), meg]), settings)  # type: ignore[arg-type]  # it is asked for slices
    held_out = sum((part.stop - part.start) // WINDOW for part in eeg.roles.test)
    # Of three models that look at windows, in two directions: three to fit on, three to choose on, and all to score.
    assert stored.read <= 3 * 2 * (3 + 3 + held_out) * WINDOW


def test_windows_that_do_not_fit_in_memory_together_are_looked_at_one_after_the_other(
    at_once: AtOnce, settings: EvaluateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 3
    seen: list[int] = []

    def encode(view: RecordingView, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        seen.append(len(z))
        return _patches(view, z)

    def scores() -> list[TileScores]:
        return retrieve(pairs_of(at_once.views(1)), encode=encode, settings=settings, windows=WINDOWS)[0]

    together = scores()
    assert max(seen) > most
    seen.clear()
    channels = max(len(view.channel_ids) for view in at_once.views(1))
    monkeypatch.setattr("neurofm.evaluation.retrieval._MOST_VALUES", most * WINDOW * channels)
    for one, two in zip(together, scores(), strict=True):
        np.testing.assert_array_equal(one.gain, two.gain)
    assert max(seen) == most


@pytest.mark.parametrize(
    ("actual", "expected"), [([[1, 0], [0, 1]], [0, 0]), ([[0, 1], [1, 0]], [1, 1]), ([[1, 1], [1, 1]], [1, 1])]
)
def test_ranks_count_who_agrees_at_least_as_well(actual: list[list[float]], expected: list[int]) -> None:
    assert ranks(np.eye(2)[:, None], np.array(actual, dtype=np.float64)[:, None]).tolist() == expected

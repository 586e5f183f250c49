"""The challenges' scores: what is known by hand, the organisers' formula, and intervals over subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import r2_score, roc_auc_score, root_mean_squared_error

from neurofm.eeg.hbn.events import read_events
from neurofm.eeg.hbn.participants import FACTORS, read_participants
from neurofm.eeg.hbn.trials import trial_table
from neurofm.evaluation.challenge import Predictions, auroc, correlation, nrmse, overall, score

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def hbn(shared_data: Path) -> Path:
    return shared_data / "eeg" / "hbn_r1_metadata_ds005505"


@pytest.fixture(scope="module")
def responses(hbn: Path) -> Predictions:
    """Real response times of children of HBN; what is said of each is the child's mean in the other trials."""
    truth, said, subject = [], [], []
    for path in sorted(hbn.glob("sub-*/eeg/*_task-contrastChangeDetection_run-1_events.tsv")):
        times = trial_table(read_events(path))["response_time_s"].dropna().to_numpy(dtype=np.float64)
        if len(times) > 1:
            truth.append(times)
            said.append((times.sum() - times) / (len(times) - 1))
            subject += [path.name.partition("_")[0]] * len(times)
    return Predictions(
        target="response_time",
        truth=np.concatenate(truth),
        predicted=np.concatenate(said),
        subject=np.array(subject),
        null=float(np.concatenate(truth[: len(truth) // 2]).mean()),
    )


@pytest.fixture(scope="module")
def factors(hbn: Path) -> dict[str, Predictions]:
    """Real factors; what is said of each of five windows of a child is its attention score, and something more."""
    people = {name: one.factors for name, one in read_participants(hbn / "participants.tsv").items()}
    whole = [(name, known) for name, known in people.items() if None not in known.values()]
    subject = np.repeat([name for name, _ in whole], 5)
    wobble = np.tile([-0.4, -0.2, 0.0, 0.2, 0.4], len(whole))
    attention = np.repeat([float(known["attention"] or 0) for _, known in whole], 5)
    return {
        name: Predictions(
            target=name,
            truth=np.repeat([float(known[name] or 0) for _, known in whole], 5),
            predicted=attention + wobble,
            subject=subject,
            null=0.0,
        )
        for name in FACTORS
    }


def test_it_is_what_local_scoring_computes(responses: Predictions) -> None:
    truth, said = responses.truth, responses.predicted
    assert nrmse(truth, said) == pytest.approx(root_mean_squared_error(truth, said) / truth.std(), rel=1e-12)
    assert nrmse(truth, said) == pytest.approx(np.sqrt(1 - r2_score(truth, said)), rel=1e-12)
    assert correlation(truth, said) == pytest.approx(np.corrcoef(truth, said)[0, 1], rel=1e-12)
    assert auroc(truth, said) == pytest.approx(roc_auc_score(truth > np.median(truth), said), rel=1e-12)


def test_ties_and_constants() -> None:
    truth, constant = np.array([1.0, 2.0, 3.0, 6.0]), np.full(4, 3.0)
    assert nrmse(truth, constant) == 1
    assert nrmse(truth, np.full(4, 4.0)) > 1
    assert auroc(truth, constant) == 0.5
    assert auroc(truth, np.array([0.0, 1.0, 1.0, 2.0])) == roc_auc_score(truth > 2.5, [0, 1, 1, 2])
    assert np.isnan(correlation(truth, constant))
    assert np.isnan(nrmse(constant, truth))


def test_a_weight_is_as_good_as_so_many_windows(responses: Predictions) -> None:
    truth, said = responses.truth[:40], responses.predicted[:40]
    times = np.arange(40) % 3
    for metric in (nrmse, correlation):
        repeated = metric(np.repeat(truth, times), np.repeat(said, times), None)
        assert metric(truth, said, times.astype(np.float64)) == pytest.approx(repeated, rel=1e-9)


def test_the_mean_of_the_training_data_scores_about_one(responses: Predictions) -> None:
    found = {one.metric: one for one in score(responses, samples=200, seed=0)}
    assert 1 <= found["nrmse"].null < 1.05
    assert found["nrmse"].value < 1, "a child's other trials tell something"
    assert found["nrmse"].low < found["nrmse"].value < found["nrmse"].high
    assert found["pearson_r"].low > 0
    assert found["pearson_r"].windows == len(responses.truth)


def test_intervals_are_over_subjects(responses: Predictions) -> None:
    of_subjects = score(responses, samples=300, seed=0)[1]
    everybody = np.array([f"window {number}" for number in range(len(responses.truth))])
    as_if = Predictions(**{**vars(responses), "subject": everybody})
    of_windows = score(as_if, samples=300, seed=0)[1]
    assert of_subjects.high - of_subjects.low > 1.5 * (of_windows.high - of_windows.low)


def test_one_subject_has_no_interval(responses: Predictions) -> None:
    alone = Predictions(**{**vars(responses), "subject": np.full(len(responses.truth), "one")})
    assert np.isnan([value for one in score(alone, samples=100, seed=0) for value in (one.low, one.high)]).all()


@pytest.mark.parametrize("name", FACTORS)
def test_factors_are_ordered_by_subject(factors: dict[str, Predictions], name: str) -> None:
    of = factors[name]
    found = {one.metric: one for one in score(of, samples=100, seed=0)}
    assert found["nrmse"].windows == 5 * found["pearson_r"].windows == 5 * found["auroc"].subjects
    judged = of.by_subject()
    assert found["pearson_r"].value == pytest.approx(np.corrcoef(judged.truth, judged.predicted)[0, 1])
    if name == "attention":
        assert found["pearson_r"].value == pytest.approx(1)
        assert found["auroc"].value == 1


def test_overall_is_three_and_seven_tenths(responses: Predictions, factors: dict[str, Predictions]) -> None:
    first, second = responses, factors["externalizing"]
    found = overall(first, second, samples=100, seed=0)
    parts = [score(of, samples=100, seed=0)[0] for of in (first, second)]
    assert found.value == pytest.approx(0.3 * parts[0].value + 0.7 * parts[1].value)
    assert found.null == pytest.approx(0.3 * parts[0].null + 0.7 * parts[1].null)
    assert found.low < found.value < found.high

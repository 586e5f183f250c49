"""Every fold gets its share of each site, group and age, on the people of ds000228."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurofm.recording import Modality
from neurofm.splits import Candidate, Splits, SplitSettings, make_splits

SETTINGS = SplitSettings(seed=1, folds=5, stratify=("Gender", "AgeGroup", "Age"))


@pytest.fixture(scope="session")
def people(shared_data: Path) -> list[Candidate]:
    with (shared_data / "fmri" / "ds000228_pixar_rois" / "participants.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return [
        Candidate(
            dataset="pixar",
            recording=row["participant_id"],
            subject=f"ds000228:{row['participant_id']}",
            modality=Modality.FMRI,
            samples=168,
            sampling_rate_hz=0.5,
            support_s=336.0,
            attributes={"AgeGroup": row["AgeGroup"], "Gender": row["Gender"], "Age": float(row["Age"])},
        )
        for row in rows
    ]


def _split(people: list[Candidate], settings: SplitSettings) -> Splits:
    return make_splits(people, settings=settings, window_samples=dict.fromkeys(Modality, 64))


Value = Callable[[Candidate], object]


def _shares(people: list[Candidate], splits: Splits, of: Value, role: str) -> dict[object, list[int]]:
    """How many of each value have a role, per fold."""
    value = {one.subject: of(one) for one in people}
    counts = [Counter(value[one.subject] for one in fold.recordings if getattr(one, role)) for fold in splits.folds]
    return {key: [count[key] for count in counts] for key in set(value.values())}


def _far(shares: dict[object, list[int]]) -> float:
    """How many people a fold has more or fewer than its share, at worst."""
    return max(abs(count - sum(counts) / len(counts)) for counts in shares.values() for count in counts)


def test_folds_have_their_share_of_every_column(people: list[Candidate]) -> None:
    splits = _split(people, SETTINGS)
    quarters = np.quantile([float(str(one.attributes["Age"])) for one in people], [0.25, 0.5, 0.75])

    def by_age(one: Candidate) -> int:
        return int(np.searchsorted(quarters, float(str(one.attributes["Age"]))))

    columns: list[Value] = [lambda one: one.attributes["Gender"], lambda one: one.attributes["AgeGroup"], by_age]
    shares = [_shares(people, splits, of, "test") for of in columns]
    assert all(sum(map(sum, counts.values())) == len(people) for counts in shares)
    assert max(map(_far, shares)) < 2, shares
    # Without strata the same folds lie further apart.
    plain = _split(people, SETTINGS.model_copy(update={"stratify": ()}))
    assert max(_far(_shares(people, plain, of, "test")) for of in columns) > 4


def test_what_is_chosen_on_is_like_the_rest(people: list[Candidate]) -> None:
    once = SETTINGS.model_copy(update={"folds": 1, "stratify": ("AgeGroup",)})
    splits = _split(people, once)
    for role, share in (("test", 0.15), ("validation", 0.15), ("train", 0.7)):
        counts = _shares(people, splits, lambda one: one.attributes["AgeGroup"], role)
        totals: Counter[object] = Counter(one.attributes["AgeGroup"] for one in people)
        assert all(abs(count - share * totals[key]) <= 1.5 for key, (count,) in counts.items()), (role, counts)


def test_it_is_decided_by_the_people_alone(people: list[Candidate]) -> None:
    assert _split(people, SETTINGS) == _split(people[::-1], SETTINGS)
    assert _split(people, SETTINGS) != _split(people, SETTINGS.model_copy(update={"seed": 2}))

"""Sampling: a pure function of seed and step that never mixes targets with what describes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Kind, Segment
from neurofm.windows import WindowSettings
from neurofm.windows.sampling import Choices, Draw, Source, blocks_of, source_of

WINDOW = WindowSettings(window_samples=20, patch_samples=5)
SHARES = {Modality.SPIKES: 0.5, Modality.CALCIUM: 0.25, Modality.EEG: 0.25}


def _roles(
    *train: tuple[int, int],
    name: str = "r",
    modality: Modality = Modality.SPIKES,
    kind: Kind = "time",
    dataset: str = "d",
) -> FoldRecording:
    segments = tuple(Segment(start=start, stop=stop) for start, stop in train)
    return FoldRecording(
        dataset=dataset, recording=name, subject="s", modality=modality, kind=kind, calibration=segments, train=segments
    )


def _source(roles: FoldRecording, *, channels: int = 10, episodes: int = 4) -> Source | None:
    return source_of(roles, usable=np.ones(channels, dtype=bool), window=WINDOW, episodes=episodes)


def _sources() -> list[Source]:
    made = [
        _source(_roles((0, 400), (500, 900), name="long")),
        _source(_roles((10, 210), name="short")),
        _source(_roles((0, 300), modality=Modality.CALCIUM), channels=3),
    ]
    return [source for source in made if source is not None]


def _draw(step: int, *, seed: int = 0) -> Draw:
    return _choices(_sources()).draw(seed=seed, step=step, windows=8, hidden_fraction=(0.2, 0.5))


def _choices(sources: list[Source], **kwargs: Any) -> Choices:
    return Choices(sources, blocks_of(sources, most_samples=[None] * len(sources)), shares=SHARES, **kwargs)


def _samples(segments: tuple[Segment, ...]) -> set[int]:
    return {sample for segment in segments for sample in range(segment.start, segment.stop)}


def test_a_draw_depends_on_seed_and_step_only() -> None:
    one, again = _draw(7), _draw(7)
    assert (one.source, one.block.episode) == (again.source, again.block.episode)
    np.testing.assert_array_equal(one.starts, again.starts)
    np.testing.assert_array_equal(one.hidden, again.hidden)
    drawn = {(seed, step): _draw(step, seed=seed).starts.tobytes() for seed in (0, 1) for step in range(20)}
    assert len(set(drawn.values())) == len(drawn)


def test_windows_lie_inside_targets_and_channels_are_hidden_or_shown() -> None:
    sources = _sources()
    for step in range(200):
        drawn = _draw(step)
        source = sources[drawn.source]
        targets = source.episodes[drawn.block.episode].targets
        for start in drawn.starts:
            assert any(s.start <= start and start + source.window_samples <= s.stop for s in targets)
        assert len(drawn.hidden) >= 1
        assert len(drawn.visible) >= 1
        assert not set(drawn.hidden) & set(drawn.visible)
        assert set(drawn.hidden) | set(drawn.visible) <= set(source.usable)


def test_shares_are_renormalised_over_what_is_there_and_long_recordings_are_drawn_by_the_root_of_their_length() -> None:
    chosen = np.bincount([_draw(step).source for step in range(3000)], minlength=3) / 3000
    spikes = 0.5 / 0.75
    long = spikes * np.sqrt(800) / (np.sqrt(800) + np.sqrt(200))
    np.testing.assert_allclose(chosen, [long, spikes - long, 1 - spikes], atol=0.03)


def _chosen(dataset_shares: dict[str, float]) -> np.ndarray:
    """Share of 3000 draws per recording: two of dataset `a`, one of `b`, one of `c`, one of another modality."""
    made = [
        _source(_roles((0, 400), name="1", dataset="a")),
        _source(_roles((0, 400), name="2", dataset="a")),
        _source(_roles((0, 400), dataset="b")),
        _source(_roles((0, 400), dataset="c")),
        _source(_roles((0, 400), dataset="e", modality=Modality.CALCIUM)),
    ]
    sources = [source for source in made if source is not None]
    choices = _choices(sources, dataset_shares=dataset_shares)
    draws = [choices.draw(seed=0, step=step, windows=1, hidden_fraction=(0.2, 0.5)) for step in range(3000)]
    return np.bincount([drawn.source for drawn in draws], minlength=5) / 3000


@pytest.mark.parametrize(
    ("dataset_shares", "of_spikes"),
    [
        ({}, [0.25, 0.25, 0.25, 0.25]),
        ({"e": 7.0}, [0.25, 0.25, 0.25, 0.25]),
        ({"a": 0.2, "b": 0.5, "c": 0.3}, [0.1, 0.1, 0.5, 0.3]),
        # c is not named: it weighs as much as the mean of a and b.
        ({"a": 0.2, "b": 0.4}, [0.2 / 1.8, 0.2 / 1.8, 0.4 / 0.9, 0.3 / 0.9]),
    ],
)
def test_datasets_of_a_modality_are_drawn_by_their_shares(
    dataset_shares: dict[str, float], of_spikes: list[float]
) -> None:
    spikes = 0.5 / 0.75
    expected = [*(share * spikes for share in of_spikes), 1 - spikes]
    np.testing.assert_allclose(_chosen(dataset_shares), expected, atol=0.03)


@pytest.mark.parametrize("kind", ["time", "subject"])
def test_episodes_share_out_the_train_samples_and_describe_from_other_chunks(kind: Kind) -> None:
    roles = _roles((0, 103), (140, 300), kind=kind)
    source = _source(roles)
    assert source is not None
    assert len(source.episodes) == 4
    assert sum(len(_samples(episode.targets)) for episode in source.episodes) == 263
    assert set().union(*(_samples(episode.targets) for episode in source.episodes)) == _samples(roles.train)
    for episode in source.episodes:
        assert not _samples(episode.targets) & _samples(episode.calibration)
        described_from = len(_samples(episode.calibration)) / 263
        assert described_from == pytest.approx(0.75 if kind == "time" else 0.25, abs=0.01)


@pytest.mark.parametrize(
    ("samples", "episodes", "window_samples"), [(80, 4, 20), (79, 3, 20), (41, 2, 20), (33, 2, 15), (9, 0, 0)]
)
def test_short_recordings_get_fewer_episodes_then_shorter_windows(
    samples: int, episodes: int, window_samples: int
) -> None:
    source = _source(_roles((0, samples)))
    if episodes == 0:
        assert source is None
    else:
        assert source is not None
        assert (len(source.episodes), source.window_samples) == (episodes, window_samples)


def test_nothing_is_drawn_from_what_does_not_train_or_has_one_channel() -> None:
    assert _source(_roles()) is None
    assert _source(_roles((0, 300)), channels=1) is None

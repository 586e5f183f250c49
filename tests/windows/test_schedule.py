"""A pool that rotates: a pure function of the step, every sample has its turn, K uses of every decoded byte."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.windows.sampling import Block, Episode, blocks_of
from neurofm.windows.schedule import PoolSettings, Schedule
from tests.windows.conftest import Home

POOL = PoolSettings(megabytes=0.15, uses=4.0)
"""A quarter of what there is."""


def test_a_step_draws_the_same_whatever_was_drawn_before(home: Home) -> None:
    one, other = home.schedule(POOL), home.schedule(POOL)
    forwards = {step: one.at(step) for step in range(300)}
    for step in reversed(range(300)):
        again = other.at(step)
        assert again.block == forwards[step].block
        np.testing.assert_array_equal(again.starts, forwards[step].starts)
        np.testing.assert_array_equal(again.hidden, forwards[step].hidden)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_any_number_of_processes_sees_the_same_windows(home: Home, world_size: int) -> None:
    for step in range(20):
        whole = home.schedule(POOL).at(step)
        parts = [whole.of_rank(rank, world_size=world_size) for rank in range(world_size)]
        assert sorted(np.concatenate([part.starts for part in parts]).tolist()) == whole.starts.tolist()
        assert all(part.block == whole.block and part.hidden is whole.hidden for part in parts)


def test_windows_lie_in_blocks_that_are_resident(home: Home) -> None:
    schedule = home.schedule(POOL)
    for step in range(500):
        drawn = schedule.at(step)
        now, coming = schedule.resident(step)
        assert drawn.block.number in now
        assert not set(now) & set(coming)
        length = home.sources[drawn.source].window_samples
        for start in drawn.starts:
            assert any(piece.start <= start and start + length <= piece.stop for piece in drawn.block.segments)


def test_the_pool_is_never_larger_than_asked_for_and_turns_everything_over(home: Home) -> None:
    schedule = home.schedule(POOL)
    assert sum(schedule.block_bytes) > 2e6 * POOL.megabytes
    assert sum(rotation.room_bytes for rotation in schedule.rotations) <= 1e6 * POOL.megabytes
    seen: Counter[int] = Counter()
    before: set[int] = set()
    for step in range(9000):
        now, coming = schedule.resident(step)
        held = sum(schedule.block_bytes[number] for number in (*now, *coming))
        assert held <= 1e6 * POOL.megabytes
        seen.update(set(now) - before)
        before = set(now)
    assert set(seen) == {block.number for block in schedule.blocks}
    # Every block comes as often as any other of its modality, but for the turn that is under way.
    for rotation in schedule.rotations:
        times = [seen[int(number)] for number in rotation.blocks]
        assert max(times) - min(times) <= 1
        assert min(times) >= 2


def test_a_decoded_byte_is_used_as_often_as_asked(home: Home) -> None:
    for uses in (2.0, 8.0):
        schedule = home.schedule(POOL.model_copy(update={"uses": uses}))
        used, decoded = Counter[Modality](), Counter[Modality]()
        before: set[int] = set()
        for step in range(6000):
            drawn = schedule.at(step)
            source = home.sources[drawn.source]
            row = schedule.block_bytes[drawn.block.number] / drawn.block.samples
            used[source.modality] += int(len(drawn.starts) * source.window_samples * row)
            now = set(schedule.resident(step)[0])
            for number in now - before if step else ():
                decoded[home.sources[schedule.blocks[number].source].modality] += schedule.block_bytes[number]
            before = now
        for modality in used:
            assert used[modality] / decoded[modality] == pytest.approx(uses, rel=0.15)


def test_recordings_come_as_often_with_a_pool_as_without(home: Home) -> None:
    """Over whole turns of the pool; what is long is drawn more often, by its square root."""

    def shares(schedule: Schedule) -> np.ndarray:
        drawn = [schedule.at(step).source for step in range(12_000)]
        return np.bincount(drawn, minlength=len(home.sources)) / len(drawn)

    np.testing.assert_allclose(shares(home.schedule(POOL)), shares(home.schedule()), atol=0.025)


def test_a_pool_that_holds_everything_changes_nothing(home: Home) -> None:
    everything, none = home.schedule(PoolSettings(megabytes=10.0, uses=4.0)), home.schedule()
    for step in range(50):
        assert everything.at(step).block == none.at(step).block
        np.testing.assert_array_equal(everything.at(step).starts, none.at(step).starts)


def test_a_small_modality_stays_whole(home: Home) -> None:
    """What its share of the pool leaves is the other's."""
    drawing = replace(home.drawing, shares={Modality.SPIKES: 0.1, Modality.FMRI: 0.9})
    sources = home.sources[:7]  # six spans of counts, and one film
    schedule = Schedule(sources, row_bytes=[15] * 6 + [232], drawing=drawing, pool=PoolSettings(megabytes=0.1, uses=4))
    film = {block.number for block in schedule.blocks if sources[block.source].modality is Modality.FMRI}
    assert all(film <= set(schedule.resident(step)[0]) for step in range(0, 3000, 100))


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(5, 300), min_size=1, max_size=4),
    window=st.integers(1, 60),
    most=st.integers(1, 400),
)
def test_every_window_lies_in_one_block_and_rows_are_its_samples(
    lengths: list[int], window: int, most: int, home: Home
) -> None:
    pieces, start = [], 3
    for length in lengths:
        pieces.append(Segment(start=start, stop=start + length))
        start += length + 2
    episode = Episode(targets=tuple(pieces), calibration=())
    source = replace(home.sources[0], window_samples=window, episodes=(episode,))
    blocks = blocks_of([source], most_samples=[max(window, most)])
    wanted = [s for piece in pieces for s in range(piece.start, piece.stop - window + 1)]
    found = [s for block in blocks for piece in block.segments for s in range(piece.start, piece.stop - window + 1)]
    assert sorted(found) == wanted
    recording = np.arange(start + 10)
    for block in blocks:
        assert len(blocks) == 1 or block.samples <= max(window, most)
        _rows_are_samples(block, recording, window)


def _rows_are_samples(block: Block, recording: np.ndarray, window: int) -> None:
    laid = np.concatenate([recording[piece.start : piece.stop] for piece in block.segments])
    for piece in block.segments:
        starts = np.arange(piece.start, piece.stop - window + 1)
        for first, row in zip(starts, block.rows(starts), strict=True):
            np.testing.assert_array_equal(laid[row : row + window], recording[first : first + window])

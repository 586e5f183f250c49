"""Grey levels of frames, and presentations as a course in time, against what is computed one by one."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurofm.readers.shared.stimulus import StimulusSource, grey_frames, presented
from neurofm.recording import Unreadable
from tests.pictures import film_of

FILM = StimulusSource(template="film")


@pytest.fixture(scope="module")
def film(shared_data: Path) -> npt.NDArray[np.uint8]:
    return film_of(shared_data, frames=100)


@pytest.mark.parametrize("block_bytes", [1, 40 * 20 * 8 * 7, 10**9])
def test_blocks_of_any_size_give_the_same_frames(block_bytes: int, film: npt.NDArray[np.uint8]) -> None:
    half = StimulusSource(template="film", downsample=2, grey=(0, 1))
    with patch("neurofm.readers.shared.stimulus._BLOCK_BYTES", block_bytes):
        np.testing.assert_array_equal(grey_frames(film, source=FILM, where="a"), film)
        smaller = grey_frames(film / 255, source=half, where="a")
    pixels = [film[:, y::2, x::2].astype(np.float64) for y in (0, 1) for x in (0, 1)]
    assert np.abs(smaller - np.mean(pixels, axis=0)).max() <= 0.5 + 1e-9


def test_black_and_white_must_be_said(film: npt.NDArray[np.uint8]) -> None:
    bright = film > 100
    with pytest.raises(Unreadable, match="a holds only 0 and 1; say what is white"):
        grey_frames(bright, source=FILM, where="a")
    said = grey_frames(bright, source=StimulusSource(template="film", grey=(0, 1)), where="a")
    np.testing.assert_array_equal(said, np.where(bright, 255, 0))
    # Grey screens between -1 and 1, as psychophysics has them.
    signed = grey_frames(film / 127.5 - 1, source=StimulusSource(template="film", grey=(-1, 1)), where="a")
    np.testing.assert_array_equal(signed, film)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((2, 4, 4), np.nan), "values from nan to nan"),
        (np.full((2, 4, 4), 256, np.int16), "int16 values from 256 to 256"),
        (np.full((2, 4, 4), -1, np.int16), "int16 values from -1 to -1"),
        (np.full((2, 4, 4), 0.5), "float64 values from 0.5 to 0.5"),
        (np.full((2, 4, 4), 1j), "complex128, not numbers"),
        (np.zeros((0, 4, 4), np.uint8), "nothing is left of 0 frames"),
        (np.zeros((4, 4), np.uint8), r"is \(4, 4\)"),
    ],
)
def test_frames_of_unknown_brightness_are_refused(values: npt.NDArray[np.float64], words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        grey_frames(values, source=FILM, where="a")


@given(data=st.data())
def test_each_moment_has_the_frame_of_its_presentation(data: st.DataObject) -> None:
    """In whole hundredths of a second, so that no rounding decides."""
    spans = data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(-1, 6)), min_size=1))
    at, rows = 0, []
    for pause, length, frame in spans:
        rows.append((at + pause, at + pause + length, frame))
        at += pause + length
    rows = data.draw(st.permutations(rows))
    truth = np.full(at + 2, -1)
    for start, stop, frame in rows:
        truth[start:stop] = frame
    onset_s, stop_s, frames = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    film = np.zeros((7, 2, 2), dtype=np.uint8)

    def course() -> npt.NDArray[np.int32]:
        made = presented(film, onset_s=onset_s / 100, stop_s=stop_s / 100, frame=frames, source=FILM, where="a")
        assert np.all(np.diff(made.time_s) > 0)
        assert made.shown[-1] == -1
        row = np.searchsorted(made.time_s, (np.arange(at + 2) + 0.5) / 100, side="right") - 1
        return np.where(row >= 0, made.shown[row], -1)

    if (truth >= 0).any():
        np.testing.assert_array_equal(course(), truth)
    else:
        with pytest.raises(Unreadable, match="no frame of it was ever shown"):
            course()

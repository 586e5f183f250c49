"""Images and films that were shown, out of NWB 2 and NWB 1.0, from the file to the shard."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from pynwb import NWBHDF5IO, NWBFile
from pynwb.base import ImageReferences, Images
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries, OpticalSeries, RGBImage

from neurofm.errors import UserError
from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording, reader_options
from neurofm.readers.nwb1 import Options
from neurofm.readers.shared.nwb_stimulus import NwbStimulus, read_stimulus
from neurofm.recording import Modality, Recording, Unreadable
from neurofm.shards import Provenance, write_shard
from neurofm.shards.packed import PackedShard
from tests.allen_nwb import film_onsets_s, trains_of, write_brain_observatory, write_ecephys
from tests.pictures import film_of
from tests.servers.allensdk_environment import in_allensdk

Source = Callable[..., ReaderInput]
Film = npt.NDArray[np.uint8]
MOVIE: dict[str, Any] = {"template": "natural_movie_one"}
TABLE = {**MOVIE, "presentations": "natural_movie_one_presentations"}
FRAMES = 120


@pytest.fixture(scope="module")
def film(shared_data: Path) -> Film:
    return film_of(shared_data, frames=FRAMES)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, sample_source: Source, film: Film) -> Path:
    """Spikes, NWB 2."""
    trains = [train[::50] for train in trains_of(sample_source("a2929-hd").path())]  # it is copied often
    return write_ecephys(tmp_path_factory.mktemp("ecephys") / "session_1.nwb", trains, film=film)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, sample_source: Source, film: Film) -> Path:
    """Two-photon, NWB 1.0."""
    folder = tmp_path_factory.mktemp("ophys")
    return write_brain_observatory(folder / "510214538.nwb", sample_source("a0662-2p").path(), film=film)


def _spikes(source_of: Source, path: Path, **stimulus: Any) -> Recording:
    return read_recording("nwb", source_of(path, Modality.SPIKES), {"stimulus": stimulus} if stimulus else {})


def _calcium(source_of: Source, path: Path, **stimulus: Any) -> Recording:
    return read_recording("nwb1", source_of(path, Modality.CALCIUM), {"stimulus": stimulus} if stimulus else {})


def _preprocessed(recording: Recording) -> Recording:
    params = load_params(Path(__file__).resolve().parents[2]).preprocess
    return preprocess_recording(recording, settings=params.of(recording.modality), common=params.common)


def test_nothing_is_read_that_was_not_asked_for(session: Path, experiment: Path, source_of: Source) -> None:
    assert _spikes(source_of, session).stimulus is None
    assert _calcium(source_of, experiment).stimulus is None


@pytest.mark.parametrize("said", [TABLE, MOVIE], ids=["interval table", "index series"])
def test_film_of_an_nwb_2_session(said: dict[str, Any], session: Path, source_of: Source, film: Film) -> None:
    stimulus = _spikes(source_of, session, **said).stimulus
    assert stimulus is not None
    np.testing.assert_array_equal(stimulus.frames, film)
    assert stimulus.shown.tolist() == [*range(FRAMES), -1, *range(FRAMES), -1]
    onset_s = film_onsets_s(FRAMES)
    np.testing.assert_allclose(np.delete(stimulus.time_s, [FRAMES, 2 * FRAMES + 1]), onset_s)
    # A table says when the film ended; without one the last frame stays for one and a half of the usual intervals.
    stayed_s = stimulus.time_s[FRAMES] - onset_s[FRAMES - 1]
    assert stayed_s == pytest.approx((1.0 if "presentations" in said else 1.5) / 30)


def test_film_of_an_nwb_1_experiment(experiment: Path, source_of: Source, film: Film) -> None:
    recording = _calcium(source_of, experiment, **MOVIE)
    assert recording.stimulus is not None
    assert recording.sample_time_s is not None
    np.testing.assert_array_equal(recording.stimulus.frames, film)
    # What the scan's frame 1001 shares between two of the film's goes to the later.
    assert recording.stimulus.shown.tolist() == [*range(FRAMES), *range(FRAMES), -1]
    first, last = 1000, 1000 + 2 * FRAMES - 1
    np.testing.assert_allclose(recording.stimulus.time_s[:-1], recording.sample_time_s[first : last + 1])
    # The last one stays for the two of the scan's frames that it was given, to their end.
    assert recording.stimulus.time_s[-1] == pytest.approx(recording.sample_time_s[last + 2])


@pytest.mark.parametrize("reader", ["nwb", "nwb1"])
def test_shard_gives_the_frame_that_was_seen_at_each_sample(
    session: Path, experiment: Path, tmp_path: Path, source_of: Source, film: Film, *, reader: str
) -> None:
    one = _spikes(source_of, session, **TABLE) if reader == "nwb" else _calcium(source_of, experiment, **MOVIE)
    done = _preprocessed(one)
    said = dict.fromkeys(("archive", "source_id", "version", "licence", "citation"), "-")
    path = tmp_path / "rec.zarr.zip"
    write_shard(done, provenance=Provenance(files=(), libraries={}, **said), path=path)
    shard = PackedShard(path)
    assert done.signal is not None
    assert one.stimulus is not None
    shown = shard.array("stimulus/shown").read(0, len(done.signal.values))
    np.testing.assert_array_equal(shard.array("stimulus/frames").read(40, 90), film[40:90])
    half_s = 0.5 / done.signal.sampling_rate_hz if reader == "nwb" else 0.0
    for frame in (0, 40, FRAMES - 1):
        at_s = done.signal.time_s[shown == frame] + half_s
        begins = one.stimulus.time_s[:-1][one.stimulus.shown[:-1] == frame]
        ends = one.stimulus.time_s[1:][one.stimulus.shown[:-1] == frame]
        assert len(at_s) > 0 or done.signal.sampling_rate_hz < 30
        assert all(np.any((begins <= one_s) & (one_s < ends)) for one_s in at_s)
    assert set(shown[done.signal.time_s < one.stimulus.time_s[0] - 0.1].tolist()) == {-1}


@pytest.mark.parametrize("reader", ["nwb", "nwb1"])
def test_frames_are_made_smaller_by_whole_factors(
    reader: str, session: Path, experiment: Path, source_of: Source, film: Film
) -> None:
    read = _spikes if reader == "nwb" else _calcium
    by_three = read(source_of, session if reader == "nwb" else experiment, **MOVIE, downsample=3).stimulus
    assert by_three is not None
    assert by_three.frames.shape == (FRAMES, 13, 6)
    means = [[film[7, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3].mean() for x in range(6)] for y in range(13)]
    np.testing.assert_array_equal(by_three.frames[7], np.rint(means))
    whole = read(source_of, session if reader == "nwb" else experiment, **MOVIE).stimulus
    assert whole is not None
    np.testing.assert_array_equal(by_three.shown, whole.shown)


def _nwb2(session: Path, folder: Path, change: Callable[[h5py.File], None]) -> Path:
    copy = Path(shutil.copy(session, folder / session.name))
    with h5py.File(copy, "r+") as file:
        change(file)
    return copy


def _put(where: str, index: Any, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[where][index] = value

    return change


def _as_float(scale: float) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        data = file["stimulus/templates/natural_movie_one/data"]
        attributes, values = dict(data.attrs), data[()]
        del file["stimulus/templates/natural_movie_one/data"]
        file["stimulus/templates/natural_movie_one/data"] = (values * scale).astype(np.float32)
        file["stimulus/templates/natural_movie_one/data"].attrs.update(attributes)

    return change


def test_float_frames_are_converted_where_that_is_exact_or_declared(
    session: Path, tmp_path: Path, source_of: Source, film: Film
) -> None:
    exact = _spikes(source_of, _nwb2(session, tmp_path, _as_float(1.0)), **TABLE).stimulus
    assert exact is not None
    np.testing.assert_array_equal(exact.frames, film)
    share = _nwb2(session, tmp_path, _as_float(1 / 255))
    declared = _spikes(source_of, share, **TABLE, grey=[0, 1]).stimulus
    assert declared is not None
    np.testing.assert_array_equal(declared.frames, film)
    negative = _spikes(source_of, share, **TABLE, grey=[1, 0]).stimulus
    assert negative is not None
    np.testing.assert_array_equal(negative.frames, 255 - film)


ROWS = "intervals/natural_movie_one_presentations"


@pytest.mark.parametrize(
    ("change", "said", "words"),
    [
        (_put(f"{ROWS}/frame", 5, 120.0), TABLE, "presentation 5 shows frame 120 of 120"),
        (_put(f"{ROWS}/frame", 5, 2.5), TABLE, "presentation 5 shows frame 2.5"),
        (_put(f"{ROWS}/frame", 5, -2.0), TABLE, "presentation 5 shows frame -2"),
        (_put("stimulus/presentation/natural_movie_one/data", 9, 500), MOVIE, "presentation 9 shows frame 500 of 120"),
        (_put(f"{ROWS}/stop_time", 5, 101.0), TABLE, r"presentations overlap, from 100.167 to 101 s and from 100.2 s"),
        (_put(f"{ROWS}/start_time", 5, np.nan), TABLE, "without a start time"),
        (_as_float(1 / 255), TABLE, r"float32 values from 0 to 1; say which are black and white with `stimulus.grey"),
        (_as_float(1 / 255), {**TABLE, "grey": [0, 0.5]}, r"0 to 1, outside of `stimulus.grey` \[0.0, 0.5\]"),
        (_as_float(0.0), TABLE, "holds only 0 and 1"),
        (lambda file: None, {"template": "film_two"}, "no stimulus 'film_two'; templates are: natural_movie_one"),
        (lambda file: None, {**MOVIE, "presentations": "flashes"}, "no table 'flashes'"),
        (lambda file: None, {**TABLE, "column": "image"}, "no column 'image' in its table"),
        (lambda file: None, {**MOVIE, "presentations": "drifting_gratings_presentations", "column": "stimulus_name"},
         "holds other things than numbers"),
        (lambda file: None, {**TABLE, "downsample": 41}, "nothing is left of 120 frames of 40 x 20 by 41"),
    ],
)  # fmt: skip
def test_refused_in_one_line(
    session: Path,
    tmp_path: Path,
    source_of: Source,
    *,
    change: Callable[[h5py.File], None],
    said: dict[str, Any],
    words: str,
) -> None:
    path = _nwb2(session, tmp_path, change)
    with pytest.raises(Unreadable, match=rf"^session_1\.nwb.*{words}") as raised:
        _spikes(source_of, path, **said)
    assert "\n" not in str(raised.value)


def test_numbers_that_mean_no_frame_can_be_named(session: Path, tmp_path: Path, source_of: Source) -> None:
    # Allen's behavioural sessions write the number of images for a flash that was left out.
    path = _nwb2(session, tmp_path, _put(f"{ROWS}/frame", slice(5, 7), [120.0, np.nan]))
    stimulus = _spikes(source_of, path, **TABLE, blank=[120]).stimulus
    assert stimulus is not None
    assert stimulus.shown.tolist()[:8] == [0, 1, 2, 3, 4, -1, 7, 8]


def test_what_a_file_lacks_may_be_optional(session: Path, experiment: Path, source_of: Source) -> None:
    lacking = {"template": "natural_movie_two", "optional": True}
    assert _spikes(source_of, session, **lacking).stimulus is None
    assert _calcium(source_of, experiment, **lacking).stimulus is None


def test_a_film_past_the_end_of_the_recording_is_refused(session: Path, tmp_path: Path, source_of: Source) -> None:
    def later(file: h5py.File) -> None:
        for column in ("start_time", "stop_time"):
            file[f"{ROWS}/{column}"][...] += 1090.0

    recording = _spikes(source_of, _nwb2(session, tmp_path, later), **TABLE)
    with pytest.raises(Unreadable, match=r"of the 8 s .* lie outside of the recording \(0 to 1[12]\d\d"):
        _preprocessed(recording)


_STACK = "stimulus/templates/natural_movie_one_image_stack/data"
_SHOWN = "stimulus/presentation/natural_movie_one_stimulus"
_TIMES = f"{_SHOWN}/frame_duration"


def _drop(where: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[where]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop(_STACK), f"no {_STACK}"),
        (_put(_TIMES, 0, [5, 2000]), "outside of the 2000 of the recording"),
        (_put(_TIMES, 0, [1000, 1003]), "presentations overlap, from 36.3333 to .* s and from 36.3667 s"),
        (_put(_TIMES, 0, [1000, 990]), "ends before it begins"),
        (
            _put("stimulus/presentation/natural_movie_one_stimulus/data", 3, 120),
            "presentation 3 shows frame 120 of 120",
        ),
    ],
)
def test_damaged_experiment(
    change: Callable[[h5py.File], None], words: str, experiment: Path, tmp_path: Path, source_of: Source
) -> None:
    with pytest.raises(Unreadable, match=rf"^510214538\.nwb.*{words}"):
        _calcium(source_of, _nwb2(experiment, tmp_path, change), **MOVIE)


def test_gratings_are_no_images(experiment: Path, source_of: Source, tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["stimulus/templates/drifting_gratings_image_stack/data"] = np.zeros((2, 4, 4), np.uint8)

    with pytest.raises(Unreadable, match="'drifting_gratings': its presentations have no frame numbers"):
        _calcium(source_of, _nwb2(experiment, tmp_path, change), template="drifting_gratings")


def _made(path: Path, *parts: Any) -> Path:
    file = NWBFile(session_description="-", identifier="1", session_start_time=datetime(2020, 1, 1, tzinfo=UTC))
    for part in parts:
        (file.add_stimulus if isinstance(part, IndexSeries | OpticalSeries) else file.add_stimulus_template)(part)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def _read(path: Path, name: str) -> Any:
    with NWBHDF5IO(path, "r") as io:
        return read_stimulus(io.read(), path.name, NwbStimulus(template=name))


def test_images_in_their_order(tmp_path: Path, film: Film) -> None:
    images = [GrayscaleImage(name=name, data=film[i]) for i, name in enumerate("cab")]
    ordered = Images(name="scenes", images=images, order_of_images=ImageReferences(name="order_of_images", data=images))
    onset_s = [10.0, 10.25, 10.5, 20.0]
    index = IndexSeries(name="shown", data=np.array([2, 0, 1, 0], np.uint32), unit="N/A", indexed_images=ordered,
                        timestamps=onset_s)  # fmt: skip
    stimulus = _read(_made(tmp_path / "a.nwb", ordered, index), "scenes")
    np.testing.assert_array_equal(stimulus.frames, film[:3])  # not by name
    assert stimulus.shown.tolist() == [2, 0, 1, -1, 0, -1]
    np.testing.assert_allclose(stimulus.time_s, [10.0, 10.25, 10.5, 10.875, 20.0, 20.375])


def test_a_film_stored_as_it_was_shown(tmp_path: Path, film: Film) -> None:
    shown = OpticalSeries(name="film", data=film[:20], unit="-", format="raw", starting_time=3.0, rate=30.0,
                          distance=0.2, field_of_view=[1.0, 1.0], orientation="-")  # fmt: skip
    stimulus = _read(_made(tmp_path / "a.nwb", shown), "film")
    np.testing.assert_array_equal(stimulus.frames, film[:20])
    assert stimulus.shown.tolist() == [*range(20), -1]
    np.testing.assert_allclose(stimulus.time_s[:-1], 3.0 + np.arange(20) / 30.0)


def test_images_that_cannot_be_used(tmp_path: Path, film: Film) -> None:
    def series(**more: Any) -> ImageSeries:
        return ImageSeries(name="film", **{"data": film[:3], "unit": "-", "format": "raw", "rate": 1.0, **more})

    colour = series(data=np.repeat(film[:3, :, :, None], 3, axis=3))
    outside = series(data=None, format="external", external_file=["film.avi"], starting_frame=[0], num_samples=9)
    without_order = Images(name="film", images=[GrayscaleImage(name="a", data=film[0])])
    red = [RGBImage(name="a", data=np.repeat(film[0][:, :, None], 3, axis=2))]
    red_images = Images(name="film", images=red, order_of_images=ImageReferences(name="order_of_images", data=red))
    for template, words in (
        (colour, r"is \(3, 40, 20, 3\); expected frames in grey"),
        (outside, "lie in files beside this one"),
        (without_order, "the images have no order"),
        (red_images, r"images are \(40, 20, 3\); expected one size, in grey"),
        (series(), "no index series says when it was shown"),
    ):
        with pytest.raises(Unreadable, match=rf"a\.nwb: stimulus 'film'.*{words}"):
            _read(_made(tmp_path / "a.nwb", template), "film")


def test_a_wrong_option_is_one_line() -> None:
    for said, words in (
        ({"template": "a", "grey": [1, 1]}, "black and white are the same value"),
        ({"template": "a", "downsample": 0}, "downsample"),
        ({"downsample": 2}, "template"),
    ):
        with pytest.raises(UserError, match=words):
            reader_options("nwb1", {"stimulus": said}, where="data/catalog/a.yaml: reader_options")
    assert Options().stimulus is None


_ASK = """
from allensdk.core.brain_observatory_nwb_data_set import BrainObservatoryNwbDataSet
data = BrainObservatoryNwbDataSet(path)
table = data.get_stimulus_table('natural_movie_one')
answer = {'film': data.get_stimulus_template('natural_movie_one').tolist(), 'frame': table['frame'].tolist(),
          'start': table['start'].tolist(), 'end': table['end'].tolist()}
"""


def test_allensdk_reads_the_same_film(experiment: Path, source_of: Source) -> None:
    theirs = in_allensdk(_ASK, path=str(experiment))
    ours = _calcium(source_of, experiment, **MOVIE)
    assert ours.stimulus is not None
    assert ours.sample_time_s is not None
    np.testing.assert_array_equal(ours.stimulus.frames, np.array(theirs["film"]))
    begins_s = ours.sample_time_s[theirs["start"]]
    row = np.searchsorted(ours.stimulus.time_s, begins_s, side="right") - 1
    np.testing.assert_array_equal(ours.stimulus.shown[row], theirs["frame"])

"""Confounds: what nilearn gives on a real run, and tables of fMRIPrep that do not fit."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nilearn.interfaces.fmriprep as of_nilearn
import numpy as np
import numpy.typing as npt
import pytest
from nilearn.interfaces.fmriprep import load_confounds_strategy
from nilearn.maskers import NiftiLabelsMasker
from nilearn.signal import clean

from neurofm.parcels import load_atlas, parcel_means
from neurofm.preprocess import Common
from neurofm.preprocess._confounds import Scrub, drift_only, strategy_regressors
from neurofm.preprocess._motion import framewise_displacement
from neurofm.preprocess._regression import degrees_of_freedom_left, residuals
from neurofm.preprocess.fmri import ModalitySettings, preprocess
from neurofm.recording import Modality, Recording, Step, Unreadable
from neurofm.recording.recording import Confounds
from tests.preprocess.conftest import MakeRecording

TABLES = Path(of_nilearn.__file__).parent / "data"
OLD = "test_desc-confounds_regressors"
STEADY = "no_nonsteady_desc-confounds_regressors"
MOVED = "test-v21_desc-confounds_timeseries"
"""fMRIPrep 1.4 with one volume before the steady state, and without; fMRIPrep 21, three such, much motion."""
VOLUMES, RATE_HZ = 82, 1 / 2.2
AROMA = "sub-01_task-rest_space-MNI152NLin6Asym_desc-smoothAROMAnonaggr_bold.nii.gz"
LOOSE = Scrub(fd_threshold_mm=4.0, std_dvars_threshold=3.0, min_segment_volumes=0)
"""Leaves much of the table with much motion; each of the three numbers bears on which volumes."""


def _table(name: str, volumes: int = VOLUMES) -> Confounds:
    """Return a table of fMRIPrep; its 30 rows go back and forth, the first one aside, until there are enough."""
    header, *lines = (TABLES / f"{name}.tsv").read_text().splitlines()
    rows = np.array([[np.nan if cell == "n/a" else float(cell) for cell in line.split("\t")] for line in lines])
    order = np.concatenate([[0], 1 + np.pad(np.arange(len(rows) - 1), (0, volumes), mode="reflect")])[:volumes]
    described = TABLES / f"{name}.json"
    known = json.loads(described.read_text()) if described.is_file() else {}
    return Confounds(columns=tuple(header.split("\t")), values=rows[order], described=known)


def _without(table: Confounds, *names: str) -> Confounds:
    left = [i for i, name in enumerate(table.columns) if not name.startswith(names)]
    return replace(table, columns=tuple(table.columns[i] for i in left), values=table.values[:, left])


def _set(table: Confounds, name: str, rows: slice, value: float) -> Confounds:
    values = table.values.copy()
    values[rows, table.columns.index(name)] = value
    return replace(table, values=values)


def _beside(folder: Path, table: Confounds, image: str = "sub-1_task-t_desc-preproc_bold.nii.gz") -> str:
    """Lay the table beside an image's name, as fMRIPrep does."""
    lines = ["\t".join("n/a" if np.isnan(cell) else repr(float(cell)) for cell in row) for row in table.values]
    text = "\n".join(["\t".join(table.columns), *lines])
    (folder / "sub-1_task-t_desc-confounds_timeseries.tsv").write_text(text)
    (folder / "sub-1_task-t_desc-confounds_timeseries.json").write_text(json.dumps(table.described))
    return str(folder / image)


@pytest.fixture(scope="module")
def files(sample_raw: Callable[[str], Path]) -> tuple[Path, Path]:
    """Return a real BOLD run and its parcellation."""
    bold = sample_raw("ds205-bold") / "sub-ds205s03_task-functionallocalizer_run-01_bold_volreg.nii.gz"
    return bold, bold.with_name(bold.name.replace("volreg", "parc"))


@pytest.fixture(scope="module")
def parcels(files: tuple[Path, Path]) -> npt.NDArray[np.float64]:
    """[volume, parcel] its means."""
    bold, labels = files
    return parcel_means(bold, atlas=load_atlas(labels, space="scanner"), space="scanner").values


@pytest.fixture
def run(make_recording: MakeRecording, parcels: npt.NDArray[np.float64]) -> Callable[..., Recording]:
    """Return a function from a table to the real run with it."""

    def with_table(table: Confounds | None, **parts: object) -> Recording:
        recording = make_recording(Modality.FMRI, parcels, rate_hz=RATE_HZ)
        return replace(recording, confounds=table, **parts)  # type: ignore[arg-type]

    return with_table


def _settings(**parts: Any) -> ModalitySettings:
    return ModalitySettings(highpass_hz=0.008, **parts)


def _values(recording: Recording) -> npt.NDArray[np.float64]:
    assert recording.signal is not None
    return recording.signal.values.astype(np.float64)


CASES = [
    ("simple", OLD, {}),
    ("simple", MOVED, {"motion": "derivatives"}),
    ("simple", STEADY, {"global_signal": "basic"}),
    ("scrubbing", MOVED, {"fd_threshold": 4.0, "std_dvars_threshold": 3.0, "scrub": 0}),
    ("compcor", MOVED, {"motion": "basic"}),
    ("compcor", OLD, {}),
    ("ica_aroma", OLD, {}),
]


@pytest.mark.parametrize("case", CASES)
def test_kept_volumes_are_those_of_the_masker(
    files: tuple[Path, Path],
    run: Callable[..., Recording],
    common: Common,
    tmp_path: Path,
    case: tuple[Any, str, dict[str, Any]],
) -> None:
    strategy, name, wanted = case
    table = _table(name)
    image = AROMA.replace("sub-01_task-rest", "sub-1_task-t") if strategy == "ica_aroma" else ""
    beside = _beside(tmp_path, table, *([image] if image else []))
    confounds, sample_mask = load_confounds_strategy(beside, denoise_strategy=strategy, **wanted)
    masker = NiftiLabelsMasker(str(files[1]), detrend=True, standardize=None, reports=False)
    expected = np.asarray(masker.fit_transform(str(files[0]), confounds=confounds, sample_mask=sample_mask))

    settings = _settings(
        strategy=strategy,
        motion=wanted.get("motion", "full"),
        global_signal="global_signal" in wanted,
        scrub=LOOSE if "scrub" in wanted else Scrub(),
    )
    made = Step(name="fmriprep", version="23.1.4", params={"image": AROMA})
    done = preprocess(run(table, steps=(made,)), settings=settings, common=common)
    assert done.valid is not None
    assert done.signal is not None
    kept = np.arange(VOLUMES) if sample_mask is None else sample_mask
    assert np.flatnonzero(done.valid).tolist() == kept.tolist()
    np.testing.assert_allclose(_values(done)[kept], expected, rtol=1e-5, atol=1e-5 * expected.std())
    assert expected.std() > 1
    assert done.signal.sampling_rate_hz == RATE_HZ
    assert done.quality["regressors"] == confounds.shape[1]
    assert done.steps[-1].name == "regress_confounds"
    cosines = sum("cosine" in column for column in confounds.columns)
    assert cosines > 0
    assert done.steps[-1].params["high_pass"] == f"{cosines} cosines of the confounds table"


def test_scrubbed_volumes_keep_their_place(run: Callable[..., Recording], common: Common) -> None:
    settings = _settings(strategy="scrubbing", scrub=LOOSE)
    done = preprocess(run(_table(MOVED)), settings=settings, common=common)
    assert done.valid is not None
    values, kept = _values(done), np.flatnonzero(done.valid)
    lost = np.flatnonzero(~done.valid)
    assert len(values) == VOLUMES
    assert 10 < len(lost) < 60
    assert kept[0] > 2  # the three volumes before the steady state
    np.testing.assert_array_equal(values[: kept[0]], np.repeat(values[kept[0]][None], kept[0], axis=0))
    for i in lost[(lost > kept[0]) & (lost < kept[-1])]:
        before, after = kept[kept < i][-1], kept[kept > i][0]
        share = (i - before) / (after - before)
        drawn = (1 - share) * values[before] + share * values[after]
        np.testing.assert_allclose(values[i], drawn, rtol=1e-4, atol=1e-4)
    assert done.quality["usable_minutes"] == pytest.approx(len(kept) * 2.2 / 60)


def test_what_is_kept_beside_the_signal(run: Callable[..., Recording], common: Common) -> None:
    table = _table(OLD)
    done = preprocess(run(table), settings=_settings(), common=common)
    plain = preprocess(run(None), settings=_settings(), common=common)
    none = preprocess(run(table), settings=_settings(strategy="none"), common=common)
    np.testing.assert_array_equal(done.extra_signals["uncleaned"].values, _values(plain).astype(np.float32))
    np.testing.assert_array_equal(_values(none), _values(plain))
    # Regression takes something off, and what is left has nothing of the motion in it.
    assert _values(done)[1:].std() < 0.95 * _values(plain)[1:].std()
    motion = table.values[1:, table.columns.index("trans_y")]
    of_motion = np.abs([np.corrcoef(motion, column)[0, 1] for column in _values(done)[1:].T])
    assert of_motion.max() < 1e-3
    assert [len(kept) for kept in (none.extra_signals, plain.extra_signals, plain.noise)] == [0, 0, 0]
    assert plain.steps[-1].params["strategy"] == "none, no confounds table"
    assert none.steps[-1].params["strategy"] == "none"
    assert done.confounds is None
    for recording in (done, none):
        assert list(recording.noise) == ["framewise_displacement", "std_dvars", "global_signal"]
        for name, series in recording.noise.items():
            column = table.values[:, table.columns.index(name)]
            np.testing.assert_array_equal(series.values[:, 0], column.astype(np.float32))
        assert recording.noise["framewise_displacement"].unit == "mm"
        assert np.isnan(recording.noise["framewise_displacement"].values[0, 0])
        np.testing.assert_allclose(recording.noise["std_dvars"].time_s, np.arange(VOLUMES) * 2.2)


def test_dvars_stands_in_where_it_is_not_standardised(run: Callable[..., Recording], common: Common) -> None:
    table = _without(_table(OLD), "std_dvars", "global_signal", "framewise_displacement", "trans_x")
    done = preprocess(run(table), settings=_settings(strategy="none"), common=common)
    assert list(done.noise) == ["dvars"]
    assert "fd_mean_mm" not in done.quality


def test_table_without_cosines_gets_ours(run: Callable[..., Recording], common: Common) -> None:
    table = _without(_table(STEADY), "cosine")
    done = preprocess(run(table), settings=_settings(), common=common)
    recording = run(table)
    assert recording.signal is not None
    chosen = [i for i, name in enumerate(table.columns) if name.startswith(("trans", "rot"))]
    chosen += [table.columns.index("csf"), table.columns.index("white_matter")]
    confounds = table.values[:, chosen].copy()
    confounds[0, np.isnan(confounds[0])] = confounds[1, np.isnan(confounds[0])]
    drift = drift_only(VOLUMES, highpass_hz=0.008, tr_s=2.2)
    assert drift.high_pass == "2 cosines below 0.008 Hz"
    expected = clean(
        recording.signal.values, standardize=None, filter=False, confounds=np.hstack([confounds, drift.values])
    )
    np.testing.assert_allclose(_values(done), expected, atol=1e-5 * expected.std())
    assert done.steps[-1].params["high_pass"] == "2 cosines below 0.008 Hz; the confounds table has no cosines"


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        (1, "none, the run is too short for a cosine"),
        (28, "none, the run is too short for a cosine"),
        (29, "1 cosines"),
    ],
)
def test_a_drift_needs_half_a_period(volumes: int, said: str) -> None:
    # Half a period of 0.008 Hz lasts 62.5 s: 28.4 volumes.
    assert drift_only(volumes, highpass_hz=0.008, tr_s=2.2).high_pass.startswith(said)


def test_volumes_without_numbers_bear_on_nothing(run: Callable[..., Recording], common: Common) -> None:
    table = _table(STEADY)
    recording = run(table)
    assert recording.signal is not None
    holed = np.array(recording.signal.values, dtype=np.float64)
    holed[40:42] = np.nan
    done = preprocess(
        replace(recording, signal=replace(recording.signal, values=holed)), settings=_settings(), common=common
    )
    assert done.valid is not None
    assert np.flatnonzero(~done.valid).tolist() == [40, 41]
    there = holed[done.valid]
    np.testing.assert_allclose(done.channels.quality["tsnr"], there.mean(axis=0) / there.std(axis=0))
    holed[40:42] = 0.0
    chosen = strategy_regressors(
        recording,
        table,
        strategy="simple",
        motion="full",
        global_signal=False,
        scrub=Scrub(),
        highpass_hz=0.008,
        tr_s=2.2,
    )
    expected = residuals(holed, regressors=chosen.values, kept=done.valid)
    np.testing.assert_allclose(_values(done), expected, rtol=1e-5, atol=1e-4)


def _renamed(table: Confounds) -> Confounds:
    names = {"framewise_displacement": "FramewiseDisplacement", "white_matter": "WhiteMatter", "csf": "CSF"}
    return replace(table, columns=tuple(names.get(name, name) for name in table.columns))


REFUSED: dict[str, tuple[str, Callable[[Confounds], Confounds], str]] = {
    "another length": ("simple", lambda t: replace(t, values=t.values[:-1]), "has 81 rows, the run 82 volumes"),
    "no tissue": ("simple", lambda t: _without(t, "csf", "white_matter"), r"simple: .*wm_csf"),
    "no csf": ("simple", lambda t: _without(t, "csf"), r"lacks, for strategy simple: .*csf"),
    "no derivative": ("simple", lambda t: _without(t, "rot_z_derivative1"), r"missing: .*rot_z_derivative1"),
    "no power": ("scrubbing", lambda t: _without(t, "csf_power2"), r"lacks, for strategy scrubbing: .*csf_power2"),
    "no number": ("simple", lambda t: _set(t, "csf", slice(None), np.nan), "column csf has no number$"),
    "hole": ("simple", lambda t: _set(t, "rot_x", slice(7, 9), np.nan), "rot_x .* in 2 volumes, first in volume 7"),
    "infinite": ("simple", lambda t: _set(t, "rot_x", slice(5, 6), np.inf), "rot_x .* in 1 volumes, first in volume 5"),
    "no displacement": ("scrubbing", lambda t: _without(t, "framewise"), "for strategy scrubbing: framewise_displ"),
    "hole in it": ("scrubbing", lambda t: _set(t, "std_dvars", slice(4, 5), np.nan), "std_dvars .* in volume 4"),
    "no json": ("compcor", lambda t: replace(t, described={}), "compcor needs the JSON file"),
    "json of others": ("compcor", lambda t: replace(t, described={"white_matter": {}}), "compcor: .*'compcor'"),
    "json of words": (
        "compcor",
        lambda t: replace(t, described={"a_comp_cor_00": "x"}),
        "does not describe its columns",
    ),
    "json of nothing": (
        "compcor",
        lambda t: replace(t, described={"a_comp_cor_00": None}),
        "does not describe its col",
    ),
    "no components": ("compcor", lambda t: _without(t, "a_comp_cor_03"), "for strategy compcor: .*a_comp_cor_03"),
    "another image": ("ica_aroma", lambda t: t, "ica_aroma is for fMRIPrep's desc-smoothAROMAnonaggr_bold"),
    "fMRIPrep 1.1": ("simple", _renamed, "camel case"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_does_not_fit_is_refused(
    run: Callable[..., Recording], common: Common, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, broken, said = REFUSED[case]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(Unreadable, match=said) as refused:
        preprocess(run(broken(_table(OLD))), settings=_settings(strategy=strategy), common=common)
    assert str(refused.value).startswith("made/rec: ")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [STEADY, MOVED])
def test_displacement_is_as_fmriprep_has_it(name: str) -> None:
    table = _table(name, volumes=30)
    own = framewise_displacement(table)
    computed = framewise_displacement(_without(table, "framewise_displacement"))
    assert own is not None
    assert computed is not None
    np.testing.assert_allclose(computed, own, atol=1e-9)
    assert framewise_displacement(_without(table, "framewise_displacement", "rot_x")) is None


def test_motion_is_measured(run: Callable[..., Recording], common: Common) -> None:
    table = _table(MOVED)
    done = preprocess(run(table), settings=_settings(), common=common)
    moved = table.values[1:, table.columns.index("framewise_displacement")]
    assert done.quality["fd_mean_mm"] == pytest.approx(moved.mean())
    assert done.quality["fd_max_mm"] == pytest.approx(moved.max())
    assert done.quality["fd_outlier_fraction"] == pytest.approx((moved > 0.5).sum() / (VOLUMES - 1))


@pytest.mark.parametrize(("strategy", "name"), [("simple", OLD), ("scrubbing", MOVED), ("compcor", OLD)])
def test_degrees_of_freedom_are_the_rank_of_what_is_left(
    parcels: npt.NDArray[np.float64], run: Callable[..., Recording], common: Common, strategy: Any, name: str
) -> None:
    table = _table(name)
    chosen = strategy_regressors(
        run(table),
        table,
        strategy=strategy,
        motion="full",
        global_signal=False,
        scrub=LOOSE,
        highpass_hz=0.008,
        tr_s=2.2,
    )
    left = degrees_of_freedom_left(chosen.values, chosen.kept)
    cleaned = residuals(parcels, regressors=chosen.values, kept=chosen.kept)[chosen.kept]
    assert 0 < left < VOLUMES - 20
    assert left == np.linalg.matrix_rank(cleaned, tol=1e-6 * np.linalg.norm(cleaned))
    settings = _settings(strategy=strategy, scrub=LOOSE)
    done = preprocess(run(table), settings=settings, common=common)
    assert (done.quality["dof_left"], done.quality["dof_lost"]) == (left, VOLUMES - left)


def test_regressors_that_leave_nothing_keep_the_run_out(
    make_recording: MakeRecording, parcels: npt.NDArray[np.float64], common: Common
) -> None:
    # fMRIPrep 1.4 wrote 126 components: more than this run has volumes.
    recording = replace(make_recording(Modality.FMRI, parcels[:30], rate_hz=RATE_HZ), confounds=_table(OLD, volumes=30))
    done = preprocess(recording, settings=_settings(strategy="compcor"), common=common)
    assert done.quality["dof_left"] == 0
    assert "degrees of freedom left 0, less than 10 (min_dof_left)" in str(done.quality["excluded_reason"])
    assert not _values(done).any()
    assert done.extra_signals["uncleaned"].values.any()


def test_every_volume_scrubbed(run: Callable[..., Recording], common: Common) -> None:
    scrub = Scrub(fd_threshold_mm=1e-6)
    done = preprocess(run(_table(OLD)), settings=_settings(strategy="scrubbing", scrub=scrub), common=common)
    assert done.valid is not None
    assert not done.valid.any()
    assert done.quality["usable_minutes"] == 0
    assert "0% of the samples are valid" in str(done.quality["excluded_reason"])


def test_run_of_one_volume_with_a_table(make_recording: MakeRecording, common: Common) -> None:
    values = np.full((1, 3), 1000.0)
    recording = replace(make_recording(Modality.FMRI, values, rate_hz=0.5), confounds=_table(OLD, volumes=1))
    done = preprocess(recording, settings=_settings(), common=common)
    assert done.quality["dof_left"] == 0
    assert "excluded_reason" in done.quality

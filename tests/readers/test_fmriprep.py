"""fMRIPrep's outputs: real volumes under fMRIPrep's names, with a real table of confounds."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import nilearn
import numpy as np
import pytest
from nilearn.image import new_img_like
from nilearn.maskers import NiftiLabelsMasker

from neurofm.errors import UserError
from neurofm.readers import ReaderInput, outside_inputs, read_recording
from neurofm.recording import Modality, Recording, Unreadable

Source = Callable[..., ReaderInput]
SPACE = "MNI152NLin6Asym"  # of the names alone: the volumes are in the scanner's space, as is their parcellation
RUN = "sub-03/func/sub-03_task-functionallocalizer_run-01"
TABLES = Path(nilearn.__file__).parent / "interfaces" / "fmriprep" / "data"
DESCRIPTION = {
    "Name": "x",
    "BIDSVersion": "1.10.0",
    "GeneratedBy": [{"Name": "fMRIPrep", "Version": "25.2.5", "Container": {"Tag": "nipreps/fmriprep:25.2.5"}}],
}


@pytest.fixture
def derivatives(tmp_path: Path, sample_source: Source) -> Path:
    """The folder that fMRIPrep would have left of the run of ds000205: its volumes, and a table that fits them."""
    source = sample_source("ds205-bold")
    run = tmp_path / RUN
    run.parent.mkdir(parents=True)
    shutil.copy(source.path(), f"{run}_space-{SPACE}_desc-preproc_bold.nii.gz")
    shutil.copy(source.path("labels"), tmp_path / "labels.nii.gz")
    labels: Any = nib.load(source.path("labels"))
    inside = new_img_like(labels, (np.asarray(labels.dataobj) > 0).astype(np.uint8))
    inside.to_filename(f"{run}_space-{SPACE}_desc-brain_mask.nii.gz")
    Path(f"{run}_space-{SPACE}_desc-preproc_bold.json").write_text('{"RepetitionTime": 2.2}')
    head, first, *rows = (TABLES / "test-v21_desc-confounds_timeseries.tsv").read_text().splitlines(keepends=True)
    # The table is of a shorter run: its rows are taken again, the first one, which has no differences, only once.
    Path(f"{run}_desc-confounds_timeseries.tsv").write_text(head + first + "".join((rows * 3)[:81]))
    shutil.copy(TABLES / "test-v21_desc-confounds_timeseries.json", f"{run}_desc-confounds_timeseries.json")
    (tmp_path / "dataset_description.json").write_text(json.dumps(DESCRIPTION))
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-03\t21\n")
    return tmp_path


@pytest.fixture
def read(derivatives: Path, source_of: Source) -> Callable[..., Recording]:
    """Return a function that reads what is in the folder by then."""

    def now(**options: Any) -> Recording:
        return read_recording("fmriprep", given(derivatives, source_of), chosen(derivatives) | options)

    return now


def given(folder: Path, source_of: Source) -> ReaderInput:
    (main,) = folder.glob("sub-03/func/*_bold.nii.gz")
    extra = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*") if path != main)
    extra.remove("labels.nii.gz")
    return source_of(main, Modality.FMRI, root=folder, extra=extra, subject="openneuro-ds000205:03")


def chosen(folder: Path) -> dict[str, Any]:
    return {"atlas": "carpet", "atlas_file": str(folder / "labels.nii.gz"), "atlas_space": SPACE}


def test_same_numbers_as_nilearn_and_all_that_belongs_to_the_run(
    read: Callable[..., Recording], derivatives: Path
) -> None:
    recording = read()
    assert recording.signal is not None
    masker = NiftiLabelsMasker(derivatives / "labels.nii.gz", standardize=None, resampling_target=None, reports=False)
    theirs = masker.fit_transform(f"{derivatives / RUN}_space-{SPACE}_desc-preproc_bold.nii.gz")
    present = np.isfinite(recording.signal.values).all(axis=0)
    assert present.sum() == 116
    np.testing.assert_allclose(recording.signal.values, theirs, rtol=1e-5)
    assert recording.signal.sampling_rate_hz == 1 / 2.2
    assert (recording.channels.quality["coverage"] == 1).all()
    assert recording.channels.space == SPACE
    assert recording.scalars == {"age": 21}

    assert recording.confounds is not None
    table = Path(f"{derivatives / RUN}_desc-confounds_timeseries.tsv")
    assert recording.confounds.columns == tuple(table.read_text().splitlines()[0].split("\t"))
    values = np.genfromtxt(table, delimiter="\t", skip_header=1)
    np.testing.assert_array_equal(recording.confounds.values, values)
    assert np.isnan(values[0]).any()
    assert "csf" in recording.confounds.columns
    assert recording.confounds.described["a_comp_cor_00"]["Method"] == "aCompCor"

    made, laid_over = recording.steps
    assert (made.name, made.version, made.params) == ("fMRIPrep", "25.2.5", {"container": "nipreps/fmriprep:25.2.5"})
    assert laid_over.params["atlas"] == "carpet"


def test_the_atlas_is_part_of_what_is_read(derivatives: Path, source_of: Source) -> None:
    source, options = given(derivatives, source_of), chosen(derivatives)
    before = outside_inputs("fmriprep", source, options)
    assert list(before) == ["atlas carpet", "its names carpet"]
    values = np.unique(np.asarray(nib.load(derivatives / "labels.nii.gz").dataobj)).astype(int)  # type: ignore[attr-defined]
    (derivatives / "names.tsv").write_text("index\tname\n" + "".join(f"{label}\tp{label}\n" for label in values))
    named = outside_inputs("fmriprep", source, options | {"atlas_names": str(derivatives / "names.tsv")})
    assert [name for name in before if named[name] != before[name]] == ["its names carpet"]
    image: Any = nib.load(derivatives / "labels.nii.gz")
    labels = np.asarray(image.dataobj).copy()
    labels[labels == 101] = 0
    new_img_like(image, labels).to_filename(derivatives / "other.nii.gz")
    options["atlas_file"] = str(derivatives / "other.nii.gz")
    assert outside_inputs("fmriprep", source, options) != before
    options["atlas_file"] = str(derivatives / "none.nii.gz")
    with pytest.raises(UserError, match=r"none\.nii\.gz: no such file"):
        outside_inputs("fmriprep", source, options)
    assert outside_inputs("nifti", source, {"atlas": "a"}) == {}


def test_a_run_without_confounds_or_mask_is_read(read: Callable[..., Recording], derivatives: Path) -> None:
    for path in derivatives.glob("sub-03/func/*confounds*"):
        path.unlink()
    (mask,) = derivatives.glob("sub-03/func/*mask*")
    mask.unlink()
    assert read().confounds is None


def test_another_grid_is_refused_or_the_labels_are_resampled(read: Callable[..., Recording], derivatives: Path) -> None:
    image: Any = nib.load(derivatives / "labels.nii.gz")
    coarse = new_img_like(image, np.asarray(image.dataobj)[:, :, ::2], image.affine @ np.diag([1, 1, 2, 1]))
    coarse.to_filename(derivatives / "labels.nii.gz")
    with pytest.raises(Unreadable, match=r"its grid is not that of atlas carpet .+`resample_atlas: true`"):
        read(atlas="carpet")
    recording = read(resample_atlas=True)
    assert recording.signal is not None
    assert np.isfinite(recording.signal.values).all(axis=0).sum() >= 114
    with pytest.raises(Unreadable, match=f"it is in space {SPACE}, atlas carpet in MNI152NLin2009cAsym"):
        read(atlas_space="MNI152NLin2009cAsym", resample_atlas=True)


def test_a_parcel_outside_the_mask_keeps_its_place(read: Callable[..., Recording], derivatives: Path) -> None:
    labels: Any = nib.load(derivatives / "labels.nii.gz")
    values = np.asarray(labels.dataobj)
    (mask,) = derivatives.glob("sub-03/func/*mask*")
    half = values == 255
    half[:, :27] = False
    new_img_like(labels, ((values > 0) & (values != 101) & ~half).astype(np.uint8)).to_filename(mask)
    recording = read()
    assert recording.signal is not None
    outside, partly = (recording.channels.id.index(f"carpet-{label}") for label in (101, 255))
    series = recording.signal.values
    assert recording.channels.quality["coverage"][outside] == 0
    assert np.isnan(series[:, outside]).all()
    assert 0 < recording.channels.quality["coverage"][partly] < 1
    assert np.isfinite(series[:, partly]).all()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100_000])


def _bold_header(path: Path, *, volumes: int | None, tr_s: float) -> None:
    image: Any = nib.load(path)
    values = np.asarray(image.dataobj)[..., :volumes] if volumes else np.asarray(image.dataobj)[..., 0]
    made = new_img_like(image, values, copy_header=True)
    if volumes:
        made.header["pixdim"][4] = tr_s
    made.to_filename(path)


def _rows(path: Path, rows: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[: rows + 1]))


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "broken gzip": ("_desc-preproc_bold.nii.gz", _cut, "not readable"),
    "not gzip": ("_desc-preproc_bold.nii.gz", lambda path: path.write_bytes(b"x" * 999), "not readable"),
    "3-D": ("_desc-preproc_bold.nii.gz", lambda path: _bold_header(path, volumes=None, tr_s=0), "3-D image"),
    "one volume": ("_desc-preproc_bold.nii.gz", lambda path: _bold_header(path, volumes=1, tr_s=2.2), "one volume"),
    "two repetition times": (
        "_desc-preproc_bold.json",
        lambda path: path.write_text('{"RepetitionTime": 3.0}'),
        "2.2 s in the header, 3.0 s in the JSON file beside it",
    ),
    "short table": ("_desc-confounds_timeseries.tsv", lambda path: _rows(path, 81), "81 rows, the run has 82 volumes"),
    "words": (
        "_desc-confounds_timeseries.tsv",
        lambda path: path.write_text("csf\tcsf_power2\n" + "high\t1\n" * 82),
        "column 'csf' is no column of numbers",
    ),
    "a column twice": (
        "_desc-confounds_timeseries.tsv",
        lambda path: path.write_text("csf\tcsf\n" + "1\t1\n" * 82),
        "column 'csf' occurs twice",
    ),
    # pandas would take the first column for names of the rows, and move all values by one column.
    "longer rows": (
        "_desc-confounds_timeseries.tsv",
        lambda path: path.write_text("csf\twhite_matter\n" + "1\t2\t3\n" * 82),
        "more fields than the header has columns",
    ),
    "a hundred thousand columns": (
        "_desc-confounds_timeseries.tsv",
        lambda path: path.write_text("\t".join(map(str, range(100_000))) + "\n"),
        "100000 columns",
    ),
    "empty table": ("_desc-confounds_timeseries.tsv", lambda path: path.write_text(""), "the file is empty"),
    "no JSON": ("_desc-confounds_timeseries.json", lambda path: path.write_text("{"), "not readable"),
    "nobody made it": ("dataset_description.json", lambda path: path.write_text("{}"), "does not say who made"),
    "no description": ("dataset_description.json", Path.unlink, "`made_by`"),
    "two of them": (
        "participants.tsv",
        lambda path: path.write_text("participant_id\nsub-03\nsub-03\n"),
        "2 rows for 03",
    ),
    "name without space": (
        "_desc-preproc_bold.nii.gz",
        lambda path: path.rename(path.with_name(path.name.replace(f"_space-{SPACE}", ""))),
        "states no standard space",
    ),
}


@pytest.mark.parametrize("what", list(BAD))
def test_bad_input_has_a_clear_reason(what: str, read: Callable[..., Recording], derivatives: Path) -> None:
    ending, spoil, said = BAD[what]
    (path,) = (path for path in derivatives.rglob("*.*") if path.name.endswith(ending))
    spoil(path)
    with pytest.raises(Unreadable, match=said):
        read()


def test_a_repetition_time_that_only_the_sidecar_has(read: Callable[..., Recording], derivatives: Path) -> None:
    (path,) = derivatives.glob("sub-03/func/*_bold.nii.gz")
    _bold_header(path, volumes=82, tr_s=0.0)
    recording = read()
    assert recording.signal is not None
    assert recording.signal.sampling_rate_hz == 1 / 2.2
    (sidecar,) = derivatives.glob("sub-03/func/*_bold.json")
    for said in ('{"RepetitionTime": Infinity}', "{}"):
        sidecar.write_text(said)
        with pytest.raises(Unreadable, match="no repetition time in the header nor the JSON file beside it"):
            read()


def test_who_made_it_can_be_stated(read: Callable[..., Recording], derivatives: Path) -> None:
    (derivatives / "dataset_description.json").unlink()
    first = read(made_by="fMRIPrep 20.2.1").steps[0]
    assert (first.name, first.version) == ("fMRIPrep", "20.2.1")


def test_fmriprep_before_20_2_described_itself_otherwise(read: Callable[..., Recording], derivatives: Path) -> None:
    description = derivatives / "dataset_description.json"
    description.write_text('{"Name": "x", "PipelineDescription": {"Name": "fMRIPrep", "Version": "1.4.1"}}')
    first = read(made_by="somebody else").steps[0]
    assert (first.name, first.version) == ("fMRIPrep", "1.4.1")
    description.write_text('{"Name": "x"}')
    assert read(made_by="fMRIPrep 1.0").steps[0].version == "1.0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"atlas_space": ""}, "needs `atlas_space`"),
        ({"atlas": "shaefer-400", "atlas_file": "", "atlas_space": ""}, "no atlas is called 'shaefer-400'"),
        ({"atlas_resolution": 2}, "chooses among TemplateFlow's"),
        ({"atlas": "subcortex", "atlas_file": "", "atlas_space": "", "atlas_names": "t.tsv"}, "belongs to an image"),
    ],
)
def test_options_that_contradict_themselves(read: Callable[..., Recording], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(**options)


def test_gzip_is_read_to_its_checksum(read: Callable[..., Recording], derivatives: Path) -> None:
    (path,) = derivatives.glob("sub-03/func/*_bold.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the checksum
    path.write_bytes(content)
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(bytes(content))
    with pytest.raises(Unreadable, match="CRC"):
        read()

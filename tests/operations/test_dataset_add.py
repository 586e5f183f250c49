"""A lab's own folder comes into the project with one command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mne
import mne_bids
import pytest

from neurofm.catalog import load_entry, read_yaml
from neurofm.errors import UserError
from neurofm.operations.dataset import add_dataset, found_lines
from neurofm.recording import Modality
from neurofm.sources import build_manifest

PARAMS = """\
# Settings of the project.
datasets:
  a2929-hd: {modality: spikes, reader: nwb}  # the sample
local: {}  # own folders
split:
  folds: 5  # of subjects
"""
RUNS = (
    "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-1",
    "sub-02/func/sub-02_task-rest_dir-AP",
)
TERMS = {"licence": "ODC-By-1.0", "citation": "Zyma 2019"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with nothing of its own yet."""
    root = tmp_path / "project"
    (root / "data" / "catalog").mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS)
    return root


@pytest.fixture(scope="module")
def bids_eeg(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """Two subjects of EEGMAT, rest and task, written as BIDS by mne-bids."""
    root = tmp_path_factory.mktemp("eegmat-bids")
    for path in sorted((shared_data / "eeg" / "eegmat").glob("*.edf"))[:4]:
        subject, part = path.stem.removeprefix("Subject").split("_")
        raw = mne.io.read_raw_edf(path, verbose="error")
        raw.set_channel_types({"ECG ECG": "ecg"}, verbose="error")
        raw.info["subject_info"] = None  # the two runs of a subject state it differently
        task = {"1": "rest", "2": "arithmetic"}[part]
        mne_bids.write_raw_bids(
            raw, mne_bids.BIDSPath(root=root, subject=subject, task=task, datatype="eeg"), verbose="error"
        )
    return root


def added(path: Path, root: Path, **facts: Any) -> tuple[str, list[str]]:
    """Add a folder and check that what was written is what was returned."""
    entry = add_dataset(path, root=root, **(TERMS | facts))
    assert load_entry(entry.id, root=root) == entry
    local = read_yaml(root / "params.yaml")["local"]
    assert local[entry.id] == {
        "modality": entry.modality.value,
        "reader": entry.reader,
        "path": entry.source.path if entry.source.archive == "local" else "",
    }
    return entry.id, found_lines(entry, root=root)


def test_bids_eeg(project: Path, bids_eeg: Path) -> None:
    dataset, lines = added(bids_eeg, project, dataset_id="mine")
    manifest = build_manifest(load_entry(dataset, root=project), root=project)
    assert [recording.id for recording in manifest.recordings] == [
        "sub-00_task-arithmetic",
        "sub-00_task-rest",
        "sub-01_task-arithmetic",
        "sub-01_task-rest",
    ]
    first = manifest.recordings[0]
    assert first.subject == "mine:00"
    assert "participants.tsv" in first.extra
    assert not any("sub-01" in path for path in first.extra)
    assert "4 recordings" in lines[1]
    assert "2 subjects (mine:00, mine:01)" in lines[2]


def test_comments_and_order_of_params_stay(project: Path, bids_eeg: Path) -> None:
    added(bids_eeg, project, dataset_id="one")
    added(bids_eeg, project, dataset_id="two")
    text = (project / "params.yaml").read_text()
    for comment in ("# Settings of the project.", "# the sample", "# own folders", "# of subjects"):
        assert comment in text
    content = read_yaml(project / "params.yaml")
    assert list(content) == ["datasets", "local", "split"]
    assert list(content["local"]) == ["one", "two"]


def test_two_atlases_do_not_double_subjects(project: Path, shared_data: Path) -> None:
    folder = shared_data / "fmri" / "ds000228_pixar_rois"
    with pytest.raises(UserError) as caught:
        added(folder, project, options={"tr_s": 2.0})
    for name in ("atlas-AAL_timeseries.npy", "atlas-BASC064_timeseries.npy", "--pattern"):
        assert name in str(caught.value)
    names = str(shared_data / "atlas" / "ROI_MNI_V4.txt")
    options = {"tr_s": 2.0, "atlas": "AAL", "variable": None, "atlas_names": names}
    dataset, lines = added(folder, project, options=options, pattern="*atlas-AAL*")
    entry = load_entry(dataset, root=project)
    found = dict(entry.reader_options)
    columns = found.pop("names")
    assert isinstance(columns, list)
    assert (len(columns), columns[:3]) == (116, ["Precentral_L", "Precentral_R", "Frontal_Sup_L"])
    assert found == {"tr_s": 2.0, "atlas": "AAL", "axes": "time_channel"}
    assert "117 recordings" in lines[1]
    manifest = build_manifest(entry, root=project)
    assert all("atlas-AAL" in recording.files["main"] for recording in manifest.recordings)
    assert manifest.recordings[0].extra == ("participants.json", "participants.tsv")


def test_outputs_of_fmriprep(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "preprocessed"
    names = [
        "dataset_description.json",
        *(f"{run}_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz" for run in RUNS),
        *(f"{run}_space-MNI152NLin6Asym_desc-preproc_bold.json" for run in RUNS),
        *(f"{run}_space-fsLR_den-91k_bold.dtseries.nii" for run in RUNS),
        *(f"{run}_desc-confounds_timeseries.tsv" for run in RUNS),
        "sub-01/ses-a/anat/sub-01_ses-a_desc-preproc_T1w.nii.gz",
    ]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    with pytest.raises(UserError, match="--atlas, such as schaefer-400"):
        added(folder, project)
    dataset, lines = added(folder, project, options={"atlas": "schaefer-400"})
    manifest = build_manifest(load_entry(dataset, root=project), root=project)
    assert [one.id for one in manifest.recordings] == ["sub-01_ses-a_task-rest_run-1", "sub-02_task-rest_dir-AP"]
    first, second = manifest.recordings
    assert first.files["main"].endswith("_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz")
    assert len(first.extra) == 3
    assert second.extra[0] == "dataset_description.json"
    assert "2 subjects" in lines[2]
    dataset, _ = added(
        folder, project, dataset_id="surface", pattern="*.dtseries.nii", options={"atlas": "schaefer-400+subcortex"}
    )
    manifest = build_manifest(load_entry(dataset, root=project), root=project)
    assert manifest.recordings[0].files["main"].endswith("_space-fsLR_den-91k_bold.dtseries.nii")


ASYM_C, ASYM_6 = (f"MNI152NLin{template}Asym_res-2_desc-preproc" for template in ("2009c", "6"))
MNI, AROMA = "MNI152NLin2009cAsym_res-1_desc-preproc", "MNI152NLin6Asym_desc-smoothAROMAnonaggr"


@pytest.mark.parametrize(
    ("outputs", "pattern", "taken"),
    [
        ({"01": ["T1w_desc-preproc", MNI]}, "", {"01": MNI}),  # no atlas is in a run's own space
        # The first kind is there too, but would leave a subject out.
        ({"01": [ASYM_C, ASYM_6], "02": [ASYM_6]}, "", {"01": ASYM_6, "02": ASYM_6}),
        ({"01": [ASYM_C], "02": [ASYM_6]}, "", {"01": ASYM_C, "02": ASYM_6}),
        ({"01": [MNI, AROMA]}, "", {"01": MNI}),
        ({"01": [MNI, AROMA]}, "*AROMA*", {"01": AROMA}),
    ],
)
def test_which_of_fmripreps_outputs(
    project: Path, tmp_path: Path, outputs: dict[str, list[str]], pattern: str, taken: dict[str, str]
) -> None:
    folder = tmp_path / "preprocessed"
    stems = {label: f"sub-{label}/func/sub-{label}_task-rest_ce-gad_space-" for label in outputs}
    for label, kinds in outputs.items():
        (folder / stems[label]).parent.mkdir(parents=True)
        for kind in kinds:
            (folder / f"{stems[label]}{kind}_bold.nii.gz").touch()
    dataset, _ = added(folder, project, pattern=pattern, options={"atlas": "schaefer-400"})
    recordings = build_manifest(load_entry(dataset, root=project), root=project).recordings
    assert [one.files["main"] for one in recordings] == [f"{stems[n]}{kind}_bold.nii.gz" for n, kind in taken.items()]


def test_a_run_in_its_own_space_alone_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "sub-01" / "func").mkdir(parents=True)
    (tmp_path / "out" / "sub-01" / "func" / "sub-01_task-rest_space-T1w_desc-preproc_bold.nii.gz").touch()
    with pytest.raises(UserError, match="in a standard space"):
        added(tmp_path / "out", project, options={"atlas": "schaefer-400"})


def test_nwb_spikes_are_found_by_looking(project: Path, shared_data: Path) -> None:
    folder = shared_data / "ephys" / "neurosuite_A2929-200711"
    dataset, lines = added(folder, project, species="Mus musculus", subject="A2929")
    assert load_entry(dataset, root=project).modality is Modality.SPIKES
    assert "sub-A2929_ses-A2929-200711" in lines[1]


def test_nwb_imaging_must_be_told(project: Path, sample_raw: Any) -> None:
    folder = sample_raw("cnmfe-miniscope")
    facts = {"species": "Mus musculus", "pattern": r"(?P<subject>[A-Z]\d+)-(?P<session>\d+)\.nwb"}
    with pytest.raises(UserError, match="--modality calcium or miniscope"):
        added(folder, project, **facts)
    dataset, lines = added(folder, project, modality=Modality.MINISCOPE, **facts)
    assert load_entry(dataset, root=project).modality is Modality.MINISCOPE
    assert "2 subjects" in lines[2]


def test_folder_inside_the_project_is_stored_relative(project: Path, bids_eeg: Path) -> None:
    shutil.copytree(bids_eeg, project / "data" / "own")
    dataset, _ = added(project / "data" / "own", project)
    source = load_entry(dataset, root=project).source
    assert source.archive == "local"
    assert source.path == "data/own"


@pytest.mark.parametrize(
    ("folder", "facts", "said"),
    [
        ("eeg/eegmat", {}, "holds nothing that is known here"),
        ("nowhere", {}, "not a folder"),
        ("fmri/ds000228_pixar_rois", {"licence": " "}, "no licence"),
        ("fmri/ds000228_pixar_rois", {"citation": ""}, "no citation"),
        ("fmri/ds000228_pixar_rois", {}, "--tr-s SECONDS"),
        ("fmri/ds000228_pixar_rois", {"options": {"tr_s": -1.0}, "pattern": "*AAL*"}, "`tr_s`"),
        ("fmri/ds000228_pixar_rois", {"options": {"tr_s": 2.0, "tr": 1}, "pattern": "*AAL*"}, "`tr`: unknown key"),
        ("fmri/ds000228_pixar_rois", {"options": {"tr_s": 2.0}, "pattern": "*Schaefer*"}, "matches none"),
        ("fmri/ds000228_pixar_rois", {"options": {"tr_s": 2.0}, "modality": Modality.EEG}, "which is fmri"),
        (
            "fmri/ds000228_pixar_rois",
            {"options": {"tr_s": 2.0}, "pattern": "*AAL*", "dataset_id": "a2929-hd"},
            "names a",
        ),
        ("fmri/ds000228_pixar_rois", {"options": {"tr_s": 2.0}, "pattern": "*AAL*", "dataset_id": "A B"}, "`id`"),
        ("ephys/neurosuite_A2929-200711", {"subject": "A2929"}, "of which species"),
        ("ephys/neurosuite_A2929-200711", {"species": "Mus musculus"}, "do not say whose they are"),
        (
            "ephys/neurosuite_A2929-200711",
            {"subject": "A", "species": "M", "modality": Modality.CALCIUM},
            "may be spikes",
        ),
    ],
)
def test_refusal_writes_nothing(
    project: Path, shared_data: Path, folder: str, facts: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        added(shared_data / folder, project, **facts)
    assert said in str(caught.value)
    assert (project / "params.yaml").read_text() == PARAMS
    assert list((project / "data" / "catalog").iterdir()) == []


def test_meg_is_to_be_written_by_hand(project: Path, tmp_path: Path, sample_raw: Callable[[str], Path]) -> None:
    raw = mne.io.read_raw_fif(sample_raw("mne-sample-eeg") / "test_raw.fif", verbose="error")
    raw.info["line_freq"] = 60
    where = mne_bids.BIDSPath(root=tmp_path / "meg", subject="01", task="audiovisual", datatype="meg")
    mne_bids.write_raw_bids(raw, where, verbose="error")
    with pytest.raises(UserError, match=r"holds BIDS MEG.*reader_options: \{picks: mag\}"):
        added(tmp_path / "meg", project)


def test_taken_id_is_refused(project: Path, bids_eeg: Path) -> None:
    added(bids_eeg, project, dataset_id="mine")
    with pytest.raises(UserError, match="there is a dataset 'mine' already"):
        added(bids_eeg, project, dataset_id="mine")


def test_damaged_nwb_is_named(project: Path, tmp_path: Path, shared_data: Path) -> None:
    whole = shared_data / "ephys" / "neurosuite_A2929-200711" / "A2929-200711.nwb"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "A2929-200711.nwb").write_bytes(whole.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"A2929-200711\.nwb: not readable as NWB"):
        added(tmp_path / "broken", project, subject="A2929", species="Mus musculus")


def test_own_tables_are_listed_and_added_by_a_mapping(project: Path, tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "ephys" / "m1_chewie_myow"
    with pytest.raises(UserError, match=r"data\.firing_rates list of 159 x \[11, 174\].*--mapping FILE") as caught:
        added(folder, project)
    assert "data.velocity" in str(caught.value)
    mapping = tmp_path / "map.yaml"
    mapping.write_text("signal: {path: data.firing_rates, axes: trial time unit}\nperiod_s: 0.1\nunits: Hz\n")
    facts: dict[str, Any] = {"species": "Macaca mulatta", "mapping": mapping}
    with pytest.raises(UserError, match="say --modality"):
        added(folder, project, **facts)
    with pytest.raises(UserError, match="whose the recordings are"):
        added(folder, project, modality=Modality.SPIKES, **facts)
    dataset, lines = added(folder, project, modality=Modality.SPIKES, subject="chewie", **facts)
    entry = load_entry(dataset, root=project)
    assert entry.reader == "trials"
    assert entry.reader_options["units"] == "Hz"
    assert "1 recordings" in lines[1]
    mapping.write_text("signal: {path: data.firing_rates, axes: trial time cell}\nperiod_s: 0.1\n")
    with pytest.raises(UserError, match="not an order of trial, time and unit"):
        added(folder, project, modality=Modality.SPIKES, subject="chewie", dataset_id="other", **facts)

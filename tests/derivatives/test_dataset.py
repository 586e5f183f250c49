"""What a participant's derivatives depend on, and what does not run them again."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest

from neurofm.containers import EngineName
from neurofm.derivatives.dataset import _Planner, chosen_participants, derive_dataset, site_for, surroundings_of
from neurofm.derivatives.inputs import input_digests, unseen_link
from neurofm.derivatives.methods import method_of
from neurofm.derivatives.participant import process
from neurofm.derivatives.settings import DerivativesSettings
from neurofm.errors import UserError
from neurofm.light.sidecars import metadata
from neurofm.recording import Modality
from neurofm.units import Resources, SlurmSite, UnitsSite, key, open_executor

PROJECT = Path(__file__).resolve().parents[2]
DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a raw BIDS folder of two participants; what is in the images is not looked at."""
    bids = tmp_path / "bids"
    for label in ("01", "02"):
        for name in ("anat/sub-{}_T1w.nii.gz", "func/sub-{}_task-rest_bold.nii.gz", "fmap/sub-{}_epi.nii.gz"):
            path = bids / f"sub-{label}" / name.format(label)
            path.parent.mkdir(parents=True)
            path.write_text(name)
    (bids / "dataset_description.json").write_text('{"Name": "n", "BIDSVersion": "1.10.0"}')
    (bids / "participants.tsv").write_text("participant_id\tage\nsub-01\t20\nsub-02\t30\n")
    (bids / "task-rest_bold.json").write_text('{"RepetitionTime": 2.2}')
    pin = {"reference": "r", "digest": DIGEST, "platforms": [], "purpose": "p", "verified": False}
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers" / "images.yaml").write_text(json.dumps({"images": {"fmriprep": pin}}))
    return tmp_path


def _settings(**more: object) -> DerivativesSettings:
    return DerivativesSettings.parse({"bids": "bids", **more}, where="params.yaml", mend="-")


def _keys(root: Path, settings: DerivativesSettings | None = None, *, image: str = DIGEST) -> dict[str, str]:
    chosen = settings or _settings()
    here = surroundings_of(root, engine=EngineName.AUTO)
    planner = _Planner("study", chosen, method_of(chosen), surroundings=here)
    units = [planner.unit(participant) for participant in chosen_participants(chosen, root=root)]
    assert all(unit.container == image for unit in units)
    return {unit.id: unit.key for unit in units}


def _append(path: Path, text: str = " ") -> None:
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ("bids/sub-02/fmap/sub-02_epi.nii.gz", {"sub-02"}),
        ("bids/task-rest_bold.json", {"sub-01", "sub-02"}),
        ("bids/participants.tsv", set()),
        ("bids/dataset_description.json", set()),
    ],
)
def test_a_file_runs_those_again_that_may_read_it(root: Path, changed: str, again: set[str]) -> None:
    before = _keys(root)
    _append(root / changed)
    after = _keys(root)
    assert {unit for unit, key in after.items() if key != before[unit]} == again


def test_another_image_and_other_options_run_everybody_again_and_resources_nobody(root: Path) -> None:
    before = _keys(root)
    same: tuple[dict[str, object], ...] = (
        {"mem_mb": 64000, "nthreads": 16, "omp_nthreads": 8, "low_mem": True, "fetch_templates": True},
        {"random_seed": 42, "output_spaces": ["MNI152NLin2009cAsym:res-2"]},
    )
    for options in same:
        assert _keys(root, _settings(options=options)) == before
    others: tuple[dict[str, object], ...] = (
        {"random_seed": 1},
        {"fs_no_reconall": True},
        {"bids_filters": {"t1w": {"session": None}}},
        {"extra": ["--fd-spike-threshold", "0.4"]},
    )
    for options in others:
        assert not set(_keys(root, _settings(options=options)).values()) & set(before.values())
    images = root / "containers" / "images.yaml"
    other = "sha256:" + "2" * 64
    images.write_text(images.read_text().replace(DIGEST, other))
    assert not set(_keys(root, image=other).values()) & set(before.values())


def test_light_runs_in_no_image_and_depends_on_its_own_options(root: Path) -> None:
    shutil.copytree(PROJECT / "containers" / "antspyx", root / "containers" / "antspyx")
    (root / "bids" / "sub-02" / "anat" / "sub-02_T1w.nii.gz").unlink()

    def keys(**more: object) -> dict[str, str]:
        return _keys(root, _settings(engine="light", **more), image="")

    before = keys()
    assert set(before) == {"sub-01", "sub-02"}
    assert not set(before.values()) & set(_keys(root).values())
    assert not [one for one in chosen_participants(_settings(engine="light"), root=root) if one.missing]
    assert keys(options={"mem_mb": 64000, "random_seed": 3}) == before
    for more in ({"light": {"seed": 3}}, {"light": {"resolution_mm": 3}}, {"options": {"task": "rest"}}):
        assert not set(keys(**more).values()) & set(before.values())
    _append(root / "containers" / "antspyx" / "requirements.lock", "# another\n")
    assert not set(keys().values()) & set(before.values())


def test_precomputed_derivatives_count_as_inputs(root: Path) -> None:
    anat = root / "smriprep" / "sub-01" / "anat" / "sub-01_desc-preproc_T1w.nii.gz"
    anat.parent.mkdir(parents=True)
    anat.write_text("one")
    found = input_digests(root / "bids", "01", precomputed=[("smriprep", root / "smriprep")])
    assert "derivatives/smriprep/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz" in found
    assert {name.split("/")[0] for name in found} == {"derivatives", "sub-01", "task-rest_bold.json"}


def test_a_link_that_leads_out_of_the_folder_is_named(root: Path) -> None:
    bids = root / "bids"
    assert unseen_link(bids, "01") == ""
    bold = bids / "sub-01" / "func" / "sub-01_task-rest_bold.nii.gz"
    bold.rename(root / "elsewhere.nii.gz")
    bold.symlink_to(root / "elsewhere.nii.gz")
    assert "sub-01/func/sub-01_task-rest_bold.nii.gz: a link that leads out" in unseen_link(bids, "01")
    assert unseen_link(bids, "02") == ""


@pytest.mark.parametrize("linked", ["sub-01", "sub-01/func"])
def test_what_lies_in_a_linked_folder_counts_and_the_link_is_named(root: Path, linked: str) -> None:
    bids = root / "bids"
    (bids / linked).rename(root / "elsewhere")
    (bids / linked).symlink_to(root / "elsewhere")
    (root / "elsewhere" / "again").symlink_to(root / "elsewhere")
    name = "sub-01/func/sub-01_task-rest_bold.nii.gz"
    before = input_digests(bids, "01")
    _append(bids / name)
    assert {one for one, digest in input_digests(bids, "01").items() if digest != before[one]} == {name}
    assert "a link that leads out" in unseen_link(bids, "01")


def test_the_folder_is_its_real_one_so_that_side_files_are_found(root: Path) -> None:
    (root / "linked").symlink_to(root / "bids")
    (participant, _) = chosen_participants(_settings(bids="linked/../linked"), root=root)
    (bold,) = participant.runs[0].files
    assert metadata(bold, bids=(root / "linked").resolve()) == {"RepetitionTime": 2.2}


@pytest.mark.parametrize("place", ["data/derivatives/study", "data/derivatives/other/raw", "data", "."])
def test_raw_files_where_derivatives_are_made_are_refused(root: Path, place: str) -> None:
    (root / place).mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match="lie in each other"):
        chosen_participants(_settings(bids=place), root=root)


def _derive(root: Path) -> None:
    chosen = _settings(engine="light")
    derive_dataset(
        "study",
        chosen,
        surroundings=surroundings_of(root, engine=EngineName.AUTO),
        runs_here=True,
        executor=open_executor(process, site=UnitsSite(), modality=Modality.FMRI, running=root / "running"),
    )


def test_a_folder_that_was_filled_by_others_is_left_alone(root: Path) -> None:
    published = root / "data" / "derivatives" / "study" / "sub-01" / "func" / "sub-01_bold.nii.gz"
    published.parent.mkdir(parents=True)
    published.write_text("downloaded, 2 TB")
    shutil.copytree(PROJECT / "containers" / "antspyx", root / "containers" / "antspyx")
    with pytest.raises(UserError, match=r"study: it has files that were not made here.+Mend: choose another id"):
        _derive(root)
    assert published.read_text() == "downloaded, 2 TB"


def test_precomputed_derivatives_that_are_not_there_are_said_first(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FS_LICENSE", str(root / "license.txt"))
    (root / "license.txt").write_text("someone@example.org\n1\n *C\n FS\n")
    chosen = _settings(options={"fetch_templates": True, "derivatives": {"smriprep": str(tmp_path / "nowhere")}})
    with pytest.raises(UserError, match=r"nowhere: there is no such folder, and `options.derivatives.smriprep` names"):
        method_of(chosen).require(chosen, surroundings_of(root, engine=EngineName.AUTO), runs_here=False)


@pytest.mark.parametrize("module", ["light.ants_worker", "light.motion", "fmriprep.bids_names"])
def test_the_code_of_light_is_all_that_decides_bytes(root: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PROJECT / "containers" / "antspyx", root / "containers" / "antspyx")
    before = _keys(root, _settings(engine="light"), image="")
    tree_of = key._tree
    other = ast.parse("changed = True")
    monkeypatch.setattr(key, "_tree", lambda name: other if name == f"neurofm.{module}" else tree_of(name))
    assert not set(_keys(root, _settings(engine="light"), image="").values()) & set(before.values())


def test_a_folder_that_is_not_there_is_said_so(root: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder"):
        chosen_participants(_settings(bids="nowhere"), root=root)


def test_participants_get_what_their_options_take() -> None:
    settings = _settings(options={"nthreads": 4, "omp_nthreads": 1, "mem_mb": 16000})
    site = site_for(UnitsSite(workers=64), settings)
    assert 1 <= site.workers < 64
    slurm = site.slurm.of(Modality.FMRI)
    assert (slurm.cpus, slurm.minutes) == (4, 1200.0)
    assert slurm.memory_gb == pytest.approx(16000e6 * 1.2 / 2**30)
    assert site.slurm.of(Modality.EEG) == Resources()
    short = site_for(UnitsSite(slurm=SlurmSite(longest_hours=8.0)), settings).slurm
    assert short.of(Modality.FMRI).minutes == 475.0
    with pytest.raises(ValueError, match=r"does not hold the 600 minutes of one participant"):
        SlurmSite(longest_hours=8.0, derivatives=Resources(minutes=600.0))

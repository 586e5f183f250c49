"""The container that is asked for: what it sees, what it may take, and what is looked at before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from neurofm.containers import Image, Job
from neurofm.errors import UserError
from neurofm.fmriprep import FmriprepOptions, Folders, arguments, find_participants, fmriprep_job
from neurofm.fmriprep import folders as looked_at
from neurofm.fmriprep.folders import file_system, find_licence, find_templates, find_work, templates_for

LICENCE = "someone@example.org\n12345\n *Cxyz\n FSabc\n"
IMAGE = Image(name="fmriprep", run_by="sha256:0", digest="sha256:0")


def options(**given: Any) -> FmriprepOptions:
    return FmriprepOptions.parse(given, where="test", mend="")


@pytest.fixture
def folders(bids: Path, tmp_path: Path) -> Folders:
    (tmp_path / "license.txt").write_text(LICENCE)
    (tmp_path / "templateflow").mkdir()
    return Folders(
        bids=bids,
        output=tmp_path / "out" / "sub-01",
        work=tmp_path / "work" / "sub-01",
        licence=tmp_path / "license.txt",
        templates=tmp_path / "templateflow",
    )


def job_for(folders: Folders, wanted: FmriprepOptions) -> Job:
    return fmriprep_job(
        find_participants(folders.bids, options=wanted)[0], wanted, folders=folders, image=IMAGE, seconds=60
    )


def test_what_the_container_sees_and_may_take(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "smriprep").mkdir()
    wanted = options(
        derivatives={"smriprep": str(tmp_path / "smriprep")}, bids_filters={"bold": {"run": ["1", None]}}, mem_mb=20000
    )
    job = job_for(folders, wanted)
    assert {str(one.inside): (one.source, one.writable) for one in job.mounts} == {
        "/data": (folders.bids, False),
        "/out": (folders.output, True),
        "/scratch": (folders.work, True),
        "/license.txt": (folders.licence, False),
        "/templateflow": (folders.templates, False),
        "/derivatives/smriprep": (tmp_path / "smriprep", False),
        "/bids_filters.json": (folders.work / "bids_filters.json", False),
    }
    assert json.loads((folders.work / "bids_filters.json").read_text()) == {"bold": {"run": ["1", None]}}
    assert folders.output.is_dir()
    assert (job.network, job.keep_entrypoint, job.limits.seconds) == (False, True, 60)
    assert job.limits.memory_gb == pytest.approx(24e9 / 2**30, abs=1e-3)
    assert job.environment["TEMPLATEFLOW_AUTOUPDATE"] == "off"
    assert "--derivatives smriprep=/derivatives/smriprep" in " ".join(job.command)
    assert LICENCE.split(maxsplit=1)[0] not in repr(job)


def test_a_network_only_to_fetch_templates(folders: Folders) -> None:
    shutil.rmtree(folders.templates)
    job = job_for(folders, options(fetch_templates=True))
    assert job.network
    assert {one.source for one in job.mounts if one.writable} == {folders.output, folders.work, folders.templates}
    assert "TEMPLATEFLOW_AUTOUPDATE" not in job.environment


def test_the_arguments_word_for_word() -> None:
    assert " ".join(arguments("01", options())) == (
        "/data /out participant --participant-label 01 --fs-license-file /license.txt --work-dir /scratch "
        "--level full --skip-bids-validation --notrack --stop-on-first-crash "
        "--output-spaces MNI152NLin2009cAsym:res-2 --nthreads 8 --omp-nthreads 4 --mem-mb 28000 --random-seed 42 "
        "--skull-strip-fixed-seed"
    )


@pytest.mark.parametrize(
    ("output", "work", "said"),
    [
        ("bids/out", "work", "the output folder .+ lies in"),
        ("bids", "work", "the output folder .+ lies in"),
        ("bids/derivatives/fmriprep", "bids/derivatives/work", "the work folder .+ lies in"),
        ("out", "out/work", "the work folder .+ lies in"),
    ],
)
def test_folders_that_lie_in_each_other(folders: Folders, tmp_path: Path, output: str, work: str, said: str) -> None:
    mixed = Folders(
        bids=folders.bids,
        output=tmp_path / output,
        work=tmp_path / work,
        licence=folders.licence,
        templates=folders.templates,
    )
    with pytest.raises(UserError, match=said):
        job_for(mixed, options())
    assert not (tmp_path / "out").exists()


def test_derivatives_may_be_kept_in_the_bids_folder(folders: Folders) -> None:
    inside = folders.bids / "derivatives" / "fmriprep"
    kept = Folders(**{**vars(folders), "output": inside})
    assert inside in {one.source for one in job_for(kept, options()).mounts}


def test_the_licence_is_looked_at_first_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "license.txt"

    def refused() -> str:
        with pytest.raises(UserError) as caught:
            find_licence({"FS_LICENSE": str(path)})
        return str(caught.value)

    with pytest.raises(UserError, match="FS_LICENSE is not set"):
        find_licence({})
    assert "No such file" in refused()
    for content in ("", "secret words\nof another\nkind\n", "someone@example.org\n"):
        path.write_text(content)
        assert "is none." in refused()
        assert not content or content.split()[0] not in refused()
    path.write_text(LICENCE)
    assert find_licence({"FS_LICENSE": str(path)}) == path
    for command in (("init", "-q"), ("add", "license.txt")):
        assert find_licence({"FS_LICENSE": str(path)}) == path
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert "is tracked by git" in refused()


@pytest.mark.parametrize("text", [LICENCE, " ".join(LICENCE.split()), LICENCE * 100])
def test_a_licence_that_is_in_the_variable_itself_is_not_shown(text: str) -> None:
    with pytest.raises(UserError, match="FS_LICENSE holds its text") as caught:
        find_licence({"FS_LICENSE": text})
    assert not [word for word in LICENCE.split() if word in str(caught.value)]


def test_work_is_on_this_machines_own_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"TMPDIR": "/nowhere", "SLURM_TMPDIR": str(tmp_path)}
    assert find_work(name="sub-01", environment=both) == tmp_path / f"neurofm-fmriprep-{os.getuid()}" / "sub-01"
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(tmp_path) not in {"", "proc"}
    monkeypatch.setattr(looked_at, "file_system", lambda path: "nfs4")
    with pytest.raises(UserError, match=r"would lie on nfs4, which other machines share\. Mend: .+TMPDIR"):
        find_work(name="sub-01", environment=both)


def test_templates_are_there_or_may_be_fetched(tmp_path: Path) -> None:
    light = options(fs_no_reconall=True)
    assert templates_for(light) == ("MNI152NLin2009cAsym", "OASIS30ANTs")
    assert set(templates_for(options(cifti_output="91k"))) >= {"MNI152NLin6Asym", "fsLR", "fsaverage"}
    environment = {"TEMPLATEFLOW_HOME": str(tmp_path)}
    for name in templates_for(light):
        (tmp_path / f"tpl-{name}").mkdir()
        image = tmp_path / f"tpl-{name}" / "image.nii.gz"
        image.touch()  # As TemplateFlow's skeleton has it.
        with pytest.raises(UserError, match=f"{name}.+are not there, and the run has no network"):
            find_templates(light, environment=environment)
        image.write_bytes(b"x")
    assert find_templates(light, environment=environment) == tmp_path
    assert find_templates(options(fetch_templates=True), environment=environment) == tmp_path

"""The project's own stages in the project's own image: the same bytes, and what docs/containers.md says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from neurofm.containers import Engine, EngineName, find_engine, find_image
from neurofm.errors import UserError
from neurofm.operations.images import container_problems
from neurofm.operations.in_container import run_stage_inside
from neurofm.operations.sbom import write_bill
from neurofm.operations.stage import read_costs
from neurofm.operations.unit_status import units_facts, units_status
from neurofm.params import Site, load_params
from neurofm.units import ExecutorName, read_receipts
from tests.integration.test_pipeline import Project
from tests.servers.podman import PROJECT, Podman

PAGE = PROJECT / "docs" / "containers.md"
DATASETS = FMRI, EEG = "gw-rest", "tiny-bids-eeg"
FETCHING = ("manifest", "download")
SPY = """
import os, pathlib
if os.environ.get("NEUROFM_IMAGE"):
    try:
        pathlib.Path("src/spoilt").touch()
    except OSError as error:
        print("SPY", error.strerror)
    print("SPY", sorted(os.listdir("/sys/class/net")))
    limits = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    print("SPY", next(path for path in map(pathlib.Path, limits) if path.exists()).read_text().strip())
"""
"""What the stage `preprocess` says of where it runs, in these tests."""
OUTSIDE, INSIDE = "env NEUROFM_CONTAINER=0", "env NEUROFM_CONTAINER=1"


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory, sample_raw: Callable[[str], Path]) -> Path:
    """A copy of the project with two of its datasets, downloaded and nothing more."""
    root = tmp_path_factory.mktemp("containers") / "neurofm"
    for name in ("src", "stages", "data/catalog", "containers"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", "params.yaml", "requirements.lock", "pyproject.toml"):
        shutil.copy(PROJECT / name, root / name)
    project = Project(root)
    assert project.dvc("init", "--no-scm").returncode == 0
    for dataset in DATASETS:
        sample_raw(dataset)
    shutil.copytree(PROJECT / ".neurofm" / "packages", root / ".neurofm" / "packages")
    envs = PROJECT / ".neurofm" / "envs"
    envs.mkdir(exist_ok=True)
    (root / ".neurofm" / "envs").symlink_to(envs)  # The tool that writes bills of materials is made once.
    script = root / "stages" / "preprocess.py"
    script.write_text(script.read_text().replace('    """Fill', f'    exec({SPY!r})\n    """Fill'))
    project.set(["streamed"], {})
    kept = {
        name: {"modality": str(one.modality), "reader": one.reader}
        for name, one in load_params(PROJECT).datasets.items()
    }
    project.set(["datasets"], {name: kept[name] for name in DATASETS})
    assert len(project.repro("download")) == 2 * len(DATASETS)  # manifest and download
    return root


@pytest.fixture
def project(downloaded: Path, tmp_path: Path, podman: Podman, project_image: str) -> Project:
    """A copy of that for one test, whose image is the one that the session built."""
    root = shutil.copytree(downloaded, tmp_path / "neurofm", symlinks=True)
    (root / "site.yaml").write_text(f"image: {project_image}\n")
    return Project(root)


def run(project: Project, command: str) -> str:
    done = project.run(*shlex.split(command))
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def shards(project: Project, dataset: str) -> dict[Path, str]:
    """Digests of a dataset's shards."""
    found = {path.relative_to(project.root): digest for path, digest in project.shards().items()}
    return {path: digest for path, digest in found.items() if dataset in path.parts}


def containers(project: Project, dataset: str) -> list[str]:
    """In which images its recordings were made, on this machine."""
    receipts = read_receipts(project.root / "data" / "receipts" / f"{dataset}.jsonl").values()
    costs = [one.cost for one in receipts if one.cost]
    assert {cost.host for cost in costs} == {os.uname().nodename}
    return sorted(cost.container for cost in costs)


@dataclass(frozen=True)
class Inside:
    """A project in which docs/containers.md was followed: everything was preprocessed in the image."""

    project: Project
    digest: str
    said: dict[str, str]


@pytest.fixture(scope="module")
def inside(
    downloaded: Path, tmp_path_factory: pytest.TempPathFactory, store: Podman, project_image: str
) -> Iterator[Inside]:
    """The page's commands for podman, word for word with the small image; building took place already."""
    page = PAGE.read_text().split("<!-- tested -->")[1].split("<!-- end -->")[0]
    commands = re.findall(r"^    (\S.+?)(?: +#.*)?$", page, re.MULTILINE)
    assert len(commands) == 5
    (site,) = re.findall(r"```yaml\n(.+?)```", page, re.DOTALL)
    project = Project(shutil.copytree(downloaded, tmp_path_factory.mktemp("page") / "neurofm", symlinks=True))
    (project.root / "site.yaml").write_text(f"{site}image: {project_image}\nmemory_gb: 3.0\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        said = {command: run(project, command) for command in commands}
        image = find_image(project_image, engine=find_engine(EngineName.PODMAN), root=project.root)
    yield Inside(project=project, digest=image.digest, said=said)
    assert store.containers() == []


def test_the_page_is_followed_word_for_word(inside: Inside, project_image: str) -> None:
    said = inside.said["neurofm container list"]
    assert re.search(rf"^{project_image} +by requirements.lock +yes +sha256:", said, re.MULTILINE)
    assert " 0 whole already" in inside.said["neurofm run preprocess --dataset gw-rest --container"]
    by_dvc = inside.said["dvc repro preprocess"]
    assert re.findall(r"Running stage '([^']+)'", by_dvc) == [f"preprocess@{dataset}" for dataset in DATASETS]
    facts = json.loads(inside.said["neurofm status gw-rest --json"])
    assert inside.digest in json.dumps(facts)
    log = inside.project.root / ".neurofm" / "stages" / "preprocess@gw-rest.log"
    assert "gw-rest: 0 recordings preprocessed" in log.read_text()
    # Read-only but for its outputs, without a network, and within the limits of site.yaml.
    assert set(re.findall("SPY (.*)", by_dvc)) == {"Read-only file system", "['lo']", f"{3 << 30}"}


def test_the_same_bytes_in_a_container_and_nothing_runs_again_on_the_way(inside: Inside, project: Project) -> None:
    """EEG here; fMRI in the next test, which makes some of its recordings inside and the others outside."""
    assert " 0 whole already" in run(project, f"{OUTSIDE} python stages/preprocess.py {EEG}")
    made = shards(project, EEG)
    assert len(made) == 1
    assert shards(inside.project, EEG) == made
    for one, image, other in ((inside.project, inside.digest, OUTSIDE), (project, "", INSIDE)):
        assert containers(one, EEG) == [image]
        assert read_costs(one.root)[f"preprocess@{EEG}"].container == image
        # Moved to the other side, all is there.
        assert " 0 recordings preprocessed" in run(one, f"{other} python stages/preprocess.py {EEG}")
        assert shards(one, EEG) == made
        (facts,) = units_status(load_params(one.root), root=one.root, dataset=EEG)
        assert units_facts(facts)["containers"] == {image: 1}


def test_stages_that_fetch_have_a_network_in_the_image(project: Project, project_image: str) -> None:
    (project.root / "site.yaml").write_text(f"image: {project_image}\ncontainer: true\n")
    manifest = project.root / "data" / "manifests" / f"{EEG}.json"
    before = manifest.read_bytes()
    done = project.dvc("repro", "--force", f"download@{EEG}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"Running stage '([^']+)'", done.stdout) == [f"{stage}@{EEG}" for stage in FETCHING]
    assert manifest.read_bytes() == before
    costs = read_costs(project.root)
    assert len({costs[f"{stage}@{EEG}"].container for stage in FETCHING} - {""}) == 1
    assert project.repro(f"download@{EEG}") == []


def wait_for(happened: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.002)


def process_inside(script: str, dataset: str) -> int:
    """Return the process of a stage's script in a container: in another namespace of processes than ours."""
    ours = Path("/proc/self/ns/pid").readlink()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):  # it has ended, or is the kernel's
            command = (folder / "cmdline").read_text().split("\0")[:-1]
            is_it = "python" in command[0] and command[-2].endswith(script) and command[-1] == dataset
            if is_it and (folder / "ns" / "pid").readlink() != ours:
                return int(folder.name)
    raise AssertionError(f"nothing in a container runs {script} {dataset}")


def is_pending(process: int, number: signal.Signals) -> bool:
    """Whether a signal waits for a process that is stopped."""
    status = Path(f"/proc/{process}/status").read_text()
    return bool(int(re.findall(r"ShdPnd:\s*(\w+)", status)[0], 16) >> (number - 1) & 1)


def test_ctrl_c_reaches_the_stage_inside_and_it_goes_on_outside_to_the_same_bytes(
    inside: Inside, project: Project, project_image: str, podman: Podman
) -> None:
    assert containers(inside.project, FMRI) == [inside.digest] * 5
    # One after the other, so that some are left when the first has ended.
    (project.root / "site.yaml").write_text(f"image: {project_image}\nworkers: 1\n")
    command = [sys.executable, "stages/preprocess.py", FMRI]
    environment = os.environ | {"PYTHONPATH": str(project.root / "src"), "NEUROFM_CONTAINER": "1"}
    process = subprocess.Popen(
        command, cwd=project.root, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    journals = project.root / ".neurofm" / "receipts" / FMRI
    wait_for(lambda: any(path.stat().st_size for path in journals.glob("*.jsonl")), "the end of a recording")
    # The signal takes a while to get into the container, and the others must not end meanwhile.
    held = process_inside("stages/preprocess.py", FMRI)
    os.kill(held, signal.SIGSTOP)
    os.killpg(process.pid, signal.SIGINT)
    wait_for(lambda: is_pending(held, signal.SIGINT), "the signal inside")
    os.kill(held, signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert podman.containers() == []
    assert process.returncode == 130
    assert said.count("interrupted; run it again to go on where it stopped") == 1
    assert "Traceback" not in said
    (project.root / "site.yaml").unlink()
    told = run(project, f"{OUTSIDE} python stages/preprocess.py {FMRI}")
    whole = int(re.findall(r"(\d) whole already", told)[0])
    assert 1 <= whole < 5
    assert containers(project, FMRI) == [""] * (5 - whole) + [inside.digest] * whole
    made = shards(project, FMRI)
    assert len(made) == 5
    assert shards(inside.project, FMRI) == made


def test_what_cannot_be_run_is_refused_before_anything_runs(
    project: Project, project_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    (project.root / "site.yaml").write_text("image: fmriprep\n")
    said = project.run("neurofm", "run", "preprocess", "--dataset", EEG, "--container")
    assert said.returncode == 2
    (line,) = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: podman has no image 'fmriprep' (docker.io/nipreps/fmriprep@sha256:")
    assert "Mend: podman pull docker.io/nipreps/fmriprep@sha256:" in line

    site = Site(image=project_image, container=True)
    log = project.root / "log"
    with pytest.raises(UserError, match="'pretrain' needs torch, which the image 'neurofm-preprocess' has not"):
        run_stage_inside("pretrain", site=site, log=log)
    slurm = site.model_copy(update={"executor": ExecutorName.SLURM})
    with pytest.raises(UserError, match="cannot run in a container and send its recordings to Slurm"):
        run_stage_inside("preprocess", site=slurm, log=log)
    assert container_problems(site, root=project.root) == []
    lock = project.root / "requirements.lock"
    lock.write_text(lock.read_text() + "six==1.0\n")
    another = f"the image '{project_image}' was built from another requirements.lock: "
    with pytest.raises(UserError, match=another):
        run_stage_inside("preprocess", site=site, log=log)
    (problem,) = container_problems(site, root=project.root)
    assert problem.startswith(another)
    assert project.shards() == {}


def test_the_image_holds_the_lock_and_says_what_is_in_it(
    project: Project, engine: Engine, podman: Podman, project_image: str
) -> None:
    path = project.root / run(project, f"neurofm container sbom {project_image}").strip()
    content = path.read_bytes()
    bill = json.loads(content)
    packages = {
        canonicalize_name(part["name"]): part["version"]
        for part in bill["components"]
        if part["purl"].startswith("pkg:pypi/")
    }
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if not line.startswith("#")]
    lock = {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in wanted
        if one.marker is None or one.marker.evaluate({"python_full_version": "3.11.2"})  # The image's.
    }
    assert {name: version for name, version in packages.items() if lock[name] != version} == {}
    assert {"mne", "nilearn", "zarr", "dvc"} <= packages.keys()
    assert not {"torch", "pytest", "ruff", "pip", "uv"} & packages.keys()
    debian = {
        part["name"]: {one["license"].get("id") or one["license"]["name"] for one in part.get("licenses", [])}
        for part in bill["components"]
        if part["purl"].startswith("pkg:deb/debian/")
    }
    assert "libc6" in debian
    assert "MPL-2.0" in debian["ca-certificates"]
    image = find_image(project_image, engine=engine, root=project.root)
    again = write_bill(project_image, image, engine=engine, root=project.root)
    assert again.read_bytes() == content
    user = podman.ask("image", "inspect", "--format", "{{.Config.User}}", "localhost/neurofm:preprocess")
    assert user == "1000:1000"

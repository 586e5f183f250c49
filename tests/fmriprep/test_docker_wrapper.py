"""The line of ``docker run`` that fMRIPrep's own wrapper writes is that of our job, as far as it can say it."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from neurofm.containers import Engine, EngineName, Image
from neurofm.containers.command import Caller, command_line
from neurofm.containers.ending import Ending
from neurofm.errors import UserError
from neurofm.fmriprep import FmriprepOptions, Folders, arguments, find_participants, fmriprep_job
from neurofm.fmriprep.docker_wrapper import require_fmriprep_docker, run_fmriprep_docker

DIGEST = "sha256:" + "1" * 64
IMAGE = Image(name="fmriprep", run_by=DIGEST, digest=DIGEST)
DOCKER = """#!{python}
import json, sys
words = sys.argv[1:]
with open({record!r}, "a") as file:
    file.write(json.dumps(words) + "\\n")
answers = {{"version": "27.0.3", "images": "1111" if {there} else ""}}
print("Mem: {memory} 0 0" if "--entrypoint=free" in words else answers.get(words[0], ""))
sys.exit({code} if words[0] == "run" and "--entrypoint=free" not in words else 0)
"""
OPTIONS = FmriprepOptions(
    output_spaces=("MNI152NLin2009cAsym:res-2", "fsaverage5"),
    task="rest",
    sessions=("a",),
    bids_filters={"t1w": {"acquisition": None}},
    dummy_scans=3,
    extra=("--fd-spike-threshold", "0.4"),
)


@pytest.fixture
def folders(bids: Path, tmp_path: Path) -> Folders:
    (tmp_path / "license.txt").write_text("someone@example.org\n1\n *C\n FS\n")
    (tmp_path / "templateflow").mkdir()
    return Folders(
        bids=bids,
        output=tmp_path / "out",
        work=tmp_path / "work",
        licence=tmp_path / "license.txt",
        templates=tmp_path / "templateflow",
    )


def _run(folders: Folders, **docker: int) -> tuple[Ending, list[list[str]]]:
    """Run the wrapper with a docker that writes down what it is told, and return its lines of `run`."""
    record = folders.bids.parent / "told"
    binaries = folders.bids.parent / "bin"
    binaries.mkdir(exist_ok=True)
    facts = {"memory": 32000, "there": 1, "code": 0} | docker
    (binaries / "docker").write_text(DOCKER.format(python=sys.executable, record=str(record), **facts))
    (binaries / "docker").chmod(0o755)
    engine = Engine(name=EngineName.DOCKER, program=str(binaries / "docker"))
    record.unlink(missing_ok=True)
    participant = find_participants(folders.bids, options=OPTIONS)[1]
    ending = run_fmriprep_docker(
        participant, OPTIONS, folders=folders, image=IMAGE, engine=engine, log=folders.bids.parent / "log"
    )
    told = [json.loads(line) for line in record.read_text().splitlines()]
    return ending, [line for line in told if line[0] == "run"]


def _mounts(line: list[str]) -> set[tuple[str, str, bool]]:
    """Source, target and whether it is read-only, of ``-v`` and of ``--mount``."""
    found = set()
    for flag, value in pairwise(line):
        if flag == "-v":
            source, target, *mode = value.split(":")
            found.add((source, target, mode == ["ro"]))
        elif flag == "--mount":
            parts = dict(part.partition("=")[::2] for part in value.split(","))
            found.add((parts["source"], parts["target"], "readonly" in parts))
    return found


def _grouped(words: list[str]) -> set[tuple[str, ...]]:
    """Arguments with their values, whatever their order."""
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("-") or not groups:
            groups.append([])
        groups[-1].append({"-w": "--work-dir", "--mem_mb": "--mem-mb"}.get(word, word))
    return {tuple(group) for group in groups}


def test_its_line_is_that_of_our_job(folders: Folders) -> None:
    ending, told = _run(folders)
    assert (ending.code, ending.image) == (0, DIGEST), (folders.bids.parent / "log").read_text()
    line = told[-1]
    participant = find_participants(folders.bids, options=OPTIONS)[1]
    job = fmriprep_job(participant, OPTIONS, folders=folders, image=IMAGE)
    engine = Engine(name=EngineName.DOCKER, program="docker")
    ours = command_line(job, engine=engine, name="n", caller=Caller.here(), scratch=folders.work)
    # User, network and limits are the same words; what the wrapper itself has to say comes after them.
    until = ours.index("--mount")
    assert line[1:3] == ["--name", ending.container]
    assert line[3 : until - 1] == ours[4:until]
    assert {"--user", "--network", "--memory", "--cpus", "--pull"} <= set(line[3 : until - 1])
    assert not {"-it", "-i", "-t"} & set(line)
    # It looks how much memory there is in the same image, under no name.
    assert "--entrypoint=free" in told[0]
    assert not {"--name", ending.container} & set(told[0])
    # It mounts licence and filter elsewhere, the filter writable, and has the image's templates.
    elsewhere = {
        "/license.txt": "/opt/freesurfer/license.txt",
        "/bids_filters.json": "/tmp/bids_filter.json",
    }
    assert {(source, target) for source, target, _ in _mounts(line)} == {
        (source, elsewhere.get(target, target)) for source, target, _ in _mounts(ours) if target != "/templateflow"
    }
    assert {target for _, target, readonly in _mounts(line) if readonly} == {"/data", "/opt/freesurfer/license.txt"}
    # The same arguments, but that the licence is found where it is mounted.
    inside = line[line.index(DIGEST) + 1 :]
    assert inside[:3] == ["/data", "/out", "participant"]
    wanted = [elsewhere.get(word, word) for word in arguments(participant.label, OPTIONS)]
    where = wanted.index("--fs-license-file")
    assert _grouped(inside) == {
        ("--bids-filter-file", "/tmp/bids_filter.json") if group[0] == "--bids-filter-file" else group
        for group in _grouped([*wanted[:where], *wanted[where + 2 :]])
    }
    variables = {value for flag, value in pairwise(line) if flag == "-e"}
    assert {"HOME=/tmp", "TEMPLATEFLOW_AUTOUPDATE=off"} <= variables


@pytest.mark.parametrize("docker", [{"memory": 4000}, {"there": 0}])
def test_it_asks_nothing(folders: Folders, docker: dict[str, int]) -> None:
    """Its questions (little memory, an image that it would fetch) would wait for an answer that nobody gives."""
    ending, told = _run(folders, **docker)
    log = (folders.bids.parent / "log").read_text()
    assert ending.code == 0, log
    assert "[y/N]" not in log
    assert told[-1][0] == "run"


def test_how_the_container_ended_is_how_it_ended(folders: Folders) -> None:
    ending, _ = _run(folders, code=137)
    assert ending.code == 137
    assert "killed" in ending.reason


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"output_spaces": ("MNI152NLin2009aSym",)}, "'MNI152NLin2009aSym': it is taken for a folder"),
        ({"derivatives": {"smriprep": Path("/data/smriprep")}}, "loses their names"),
        ({"fetch_templates": True}, "thrown away"),
    ],
)
def test_what_it_cannot_pass_on_is_refused(given: dict[str, Any], told: str) -> None:
    require_fmriprep_docker(OPTIONS)
    with pytest.raises(UserError, match=told):
        require_fmriprep_docker(FmriprepOptions(**given))

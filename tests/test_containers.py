"""Command lines of three engines, pins, exit codes; what needs a real engine is in tests/integration/containers."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from neurofm.catalog import read_yaml
from neurofm.containers import INSIDE, Engine, EngineName, Image, Job, Limits, Mount, Pin, find_engine, read_pins
from neurofm.containers.command import Caller, command_line, environment_for
from neurofm.containers.ending import code_of, reason_of
from neurofm.containers.image import find_image, how_to_get, lock_digest, short, sif_path
from neurofm.containers.pins import pin_of
from neurofm.errors import UserError
from neurofm.operations.images import build_command, container_problems
from neurofm.operations.in_container import handed_on, stage_environment, stage_mounts
from neurofm.params import Site, load_site

PROJECT = Path(__file__).resolve().parent.parent
IMAGE = Image(name="neurofm", run_by="sha256:1234", digest="sha256:abcd")
ME = Caller(uid=1000, gid=100, host="lab")
ROOT = Caller(uid=0, gid=0, host="lab")
PODMAN = Engine(name=EngineName.PODMAN, program="/usr/bin/podman", is_podman=True)
ROOTLESS = Engine(name=EngineName.PODMAN, program="/usr/bin/podman", is_podman=True, is_rootless=True)
DOCKER = Engine(name=EngineName.DOCKER, program="/usr/bin/docker")
APPTAINER = Engine(name=EngineName.APPTAINER, program="/usr/bin/apptainer")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job with everything: mounts inside one another, variables with a secret, limits."""
    for name in ("a", "a/out", "b"):
        (tmp_path / name).mkdir()
    return Job(
        image=IMAGE,
        command=("python", "x.py", "--flag"),
        mounts=(
            Mount(source=tmp_path / "a" / "out", writable=True),
            Mount(source=tmp_path / "a"),
            Mount(source=tmp_path / "b", target=Path("/data")),
        ),
        environment={"HOME": "/tmp", "USER": "neurofm"},
        inherited=("TOKEN", "USER"),
        workdir=tmp_path / "a",
        limits=Limits(memory_gb=1.5, cpus=2),
    )


def line(job: Job, engine: Engine, caller: Caller = ME) -> list[str]:
    return command_line(job, engine=engine, name="neurofm-1", caller=caller, scratch=Path("/scratch/neurofm-1"))


def test_command_of_podman_without_root(job: Job, tmp_path: Path) -> None:
    assert line(job, ROOTLESS) == [
        *("/usr/bin/podman", "run", "--name", "neurofm-1", "--label", "org.neurofm.container=run"),
        *("--init", "--pull", "never", "--log-driver", "none"),
        *("--security-opt", "no-new-privileges", "--security-opt", "label=disable"),
        *("--userns", "keep-id", "--user", "1000:100"),
        *("--hostname", "lab", "--network", "none", "--shm-size", "1g"),
        *("--memory", "1610612736", "--memory-swap", "1610612736", "--cpus", "2"),
        *("--mount", "type=bind,source=" + f"{tmp_path}/b,target=/data,readonly"),
        *("--mount", f"type=bind,source={tmp_path}/a,target={tmp_path}/a,readonly"),
        *("--mount", f"type=bind,source={tmp_path}/a/out,target={tmp_path}/a/out"),
        *("--env", "TOKEN", "--env", "HOME=/tmp", "--env", "USER=neurofm", "--workdir", f"{tmp_path}/a"),
        *("--entrypoint", "python", "sha256:1234", "x.py", "--flag"),
    ]


def test_command_of_docker_and_of_podman_as_root_differ_in_who_runs(job: Job) -> None:
    docker = line(job, DOCKER)
    assert docker[0] == "/usr/bin/docker"
    assert "--userns" not in docker
    assert docker[docker.index("--user") + 1] == "1000:100"
    assert docker[docker.index("--cap-drop") + 1] == "all"
    as_root = line(job, PODMAN, ROOT)
    assert as_root[as_root.index("--user") + 1] == "0:0"
    assert "--cap-drop" not in as_root  # Root reads what belongs to others, inside as outside.
    rootless = line(job, Engine(name=EngineName.DOCKER, program="docker", is_rootless=True))
    assert rootless[rootless.index("--user") + 1] == "0:0"  # Who is root inside is the caller outside.


def test_command_of_apptainer(job: Job, tmp_path: Path) -> None:
    """Never run here: apptainer is in none of the registries that can be reached."""
    assert line(job, APPTAINER) == [
        *("/usr/bin/apptainer", "exec", "--cleanenv", "--contain", "--workdir", "/scratch/neurofm-1", "--pid"),
        *("--home", "/scratch/neurofm-1/home:/tmp", "--net", "--network", "none"),
        *("--memory", "1610612736", "--cpus", "2"),
        *("--bind", f"{tmp_path}/b:/data:ro"),
        *("--bind", f"{tmp_path}/a:{tmp_path}/a:ro", "--bind", f"{tmp_path}/a/out:{tmp_path}/a/out:rw"),
        *("--pwd", f"{tmp_path}/a", "sha256:1234", "python", "x.py", "--flag"),
    ]


@pytest.mark.parametrize(
    ("engine", "said"),
    [(PODMAN, ["--device", "nvidia.com/gpu=all"]), (DOCKER, ["--gpus", "all"]), (APPTAINER, ["--nv"])],
)
def test_gpus_and_network_only_where_asked(job: Job, engine: Engine, said: list[str]) -> None:
    """Never run here: there is no GPU."""
    plain = " ".join(line(job, engine))
    asked = " ".join(line(Job(image=IMAGE, command=("x",), gpus=True, network=True), engine))
    assert " ".join(said) in asked
    assert " ".join(said) not in plain
    assert "--network none" in plain
    assert "--network none" not in asked


def test_an_entrypoint_that_is_kept_gets_the_command_as_arguments() -> None:
    job = Job(image=IMAGE, command=("/data", "/out", "participant"), keep_entrypoint=True)
    for engine in (PODMAN, DOCKER):
        assert line(job, engine)[-4:] == ["sha256:1234", "/data", "/out", "participant"]
        assert "--entrypoint" not in line(job, engine)
    assert line(job, APPTAINER)[1] == "run"


def test_what_is_handed_on_stands_in_no_command_line_and_the_engine_keeps_its_own_home(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Podman without root finds its images below HOME, docker its context."""
    monkeypatch.setenv("TOKEN", "hunter2")
    monkeypatch.setenv("HOME", "/home/me")
    for engine in (PODMAN, ROOTLESS, DOCKER, APPTAINER):
        assert not any("hunter2" in word for word in line(job, engine))
        assert environment_for(job, engine=engine)["HOME"] == "/home/me"
    assert environment_for(job, engine=DOCKER) == dict(os.environ)
    apptainers = environment_for(job, engine=APPTAINER)
    assert (apptainers["APPTAINERENV_TOKEN"], apptainers["APPTAINERENV_USER"]) == ("hunter2", "neurofm")
    assert "APPTAINERENV_HOME" not in apptainers  # It would be refused.
    assert "hunter2" not in repr(job)


@pytest.mark.parametrize("name", ["with,comma", "with:colon", 'with"quote'])
def test_a_path_that_would_be_read_as_an_option_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="cannot be mounted"):
        Job(image=IMAGE, command=("x",), mounts=(Mount(source=tmp_path / name),))


def test_a_mount_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Docker would make it, as root's."""
    with pytest.raises(UserError, match="is not there"):
        Job(image=IMAGE, command=("x",), mounts=(Mount(source=tmp_path / "none"),))


@pytest.mark.parametrize(
    ("returned", "last", "code", "words"),
    [
        (0, "", 0, ""),
        (3, "said\nwhy\n", 3, "exit code 3: why"),
        (1, "ERROR (catatonit:6): failed to exec pid1: No such file or directory", 127, "'tool' is not in the image"),
        (1, "ERROR (catatonit:6): failed to exec pid1: Permission denied", 126, "'tool' cannot be executed"),
        (125, "Error: container-init binary not found on the host", 125, "apt-get install catatonit"),
        (125, "Error: unknown flag", 125, "the engine could not start it: Error: unknown flag"),
        (137, "", 137, "most likely it took more than the 2 GB that it was given"),
        (139, "", 139, "ended by SIGSEGV"),
        (170, "said\nwhy\n", 170, "exit code 170: why"),
        (-15, "", 143, "ended by SIGTERM"),
    ],
)
def test_exit_codes_in_words(returned: int, last: str, code: int, words: str) -> None:
    found = code_of(returned, last)
    assert found == code
    said = reason_of(found, program="tool", last=last, out_of_memory=False, memory_gb=2)
    assert words in said
    assert bool(said) == bool(code)


def test_a_kill_is_called_by_its_cause_where_that_is_known() -> None:
    known = reason_of(137, program="x", last="", out_of_memory=True, memory_gb=2)
    assert known == "killed: it took more than the 2 GB that it was given"
    assert "somebody" in reason_of(137, program="x", last="", out_of_memory=False, memory_gb=None)


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_first_engine_that_answers_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A docker client whose daemon does not answer is no engine."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UserError, match=r"podman: not on the PATH; docker: not on.*apptainer: not on.*install podman"):
        find_engine()
    silent = 'echo "Cannot connect to the Docker daemon." >&2; [ "$1" = --version ]'
    program(tmp_path / "bin", "docker", f"{silent} && echo Docker version 28")
    with pytest.raises(UserError, match=r"docker: does not answer: Cannot connect to the Docker daemon\)") as caught:
        find_engine(EngineName.DOCKER)
    assert "\n" not in str(caught.value)
    program(tmp_path / "bin", "apptainer", "echo apptainer version 1.4")
    assert find_engine().name is EngineName.APPTAINER
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("PATH", "bin")
        assert find_engine().program == str(tmp_path / "bin" / "apptainer")  # It is run from another folder.
    program(tmp_path / "bin", "docker", 'echo "[name=seccomp name=rootless]"')
    assert find_engine() == Engine(name=EngineName.DOCKER, program=str(tmp_path / "bin" / "docker"), is_rootless=True)
    program(tmp_path / "bin", "podman", '[ "$1" = --version ] && echo podman version 5 || echo true')
    found = find_engine()
    assert (found.name, found.is_podman, found.is_rootless) == (EngineName.PODMAN, True, True)


def test_the_projects_pins_are_whole() -> None:
    pins = read_pins(PROJECT)
    assert {"neurofm", "neurofm-cuda", "neurofm-preprocess", "fmriprep", "python"} <= pins.keys()
    assert pins["fmriprep"].address == f"docker.io/nipreps/fmriprep@{pins['fmriprep'].digest}"
    for name, pin in pins.items():
        assert pin.digest or (PROJECT / pin.built_from).is_file(), name
        assert pin.evidence, name
    # The base stands in the Containerfile too, for whoever builds by hand.
    containerfile = (PROJECT / pins["neurofm"].built_from).read_text()
    assert f"ARG BASE={pins['python'].reference}@{pins['python'].digest}\n" in containerfile
    # Apptainer's definitions name the same images.
    assert (
        pins["fmriprep"].address.removeprefix("docker.io/")
        in (PROJECT / "containers/fmriprep/apptainer.def").read_text()
    )


def test_pins_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    path = tmp_path / "containers" / "images.yaml"
    path.write_text("images: {x: {reference: a/b:1, platforms: [], purpose: p, verified: true}}")
    with pytest.raises(UserError, match=r"either a digest or a `built_from`"):
        read_pins(tmp_path)
    path.write_text("images: {x: {reference: a/b:1, digest: 'sha256:12', platforms: [], purpose: p, verified: true}}")
    with pytest.raises(UserError, match=r"images\.x\.digest"):
        read_pins(tmp_path)


def test_an_image_of_a_site_is_named_by_its_digest() -> None:
    digest = "sha256:" + "a" * 64
    pin = pin_of(f"registry.example.org:5000/lab/neurofm@{digest}", root=PROJECT)
    assert pin.address == f"registry.example.org:5000/lab/neurofm@{digest}"
    with pytest.raises(UserError, match="neither in containers/images"):
        pin_of("registry.example.org/lab/neurofm:latest", root=PROJECT)


def test_repository_of_a_reference_with_a_port() -> None:
    def repository(reference: str) -> str:
        return Pin(
            reference=reference, digest="sha256:" + "0" * 64, platforms=(), purpose="", verified=False
        ).repository

    assert repository("localhost:5000/a/b:tag") == "localhost:5000/a/b"
    assert repository("localhost:5000/a/b") == "localhost:5000/a/b"
    assert repository("python:3.11") == "python"


def test_the_command_that_brings_an_image() -> None:
    pins = read_pins(PROJECT)

    def get(name: str, engine: Engine) -> str:
        return how_to_get(name, pins[name], engine=engine, root=PROJECT)

    assert get("neurofm", PODMAN) == "neurofm container build neurofm"
    assert get("fmriprep", DOCKER) == f"docker pull {pins['fmriprep'].address}"
    sif = sif_path("fmriprep", pins["fmriprep"], root=PROJECT)
    assert get("fmriprep", APPTAINER) == f"apptainer build {sif} docker://{pins['fmriprep'].address}"
    assert "docker-archive:neurofm.tar" in get("neurofm", APPTAINER)


def test_apptainers_file_of_another_lock_is_refused(tmp_path: Path) -> None:
    """Only what apptainer prints is imitated here; a real one was not to be had."""
    (tmp_path / "containers").symlink_to(PROJECT / "containers")
    (tmp_path / "requirements.lock").write_text("six==1.17.0\n")
    said = '{"data": {"attributes": {"labels": {"org.neurofm.lock": "%s"}}}}'
    program(tmp_path / "bin", "apptainer", f"echo '{said % lock_digest(tmp_path)}'")
    engine = Engine(name=EngineName.APPTAINER, program=str(tmp_path / "bin" / "apptainer"))
    with pytest.raises(UserError, match=r"apptainer has no image 'neurofm'.*apptainer build .*neurofm-\w{16}\.sif"):
        find_image("neurofm", engine=engine, root=tmp_path)
    sif = sif_path("neurofm", read_pins(PROJECT)["neurofm"], root=tmp_path)
    sif.parent.mkdir(parents=True)
    sif.touch()
    assert find_image("neurofm", engine=engine, root=tmp_path).run_by == str(sif)
    assert find_image("neurofm", engine=engine, root=tmp_path).digest == f"lock:{lock_digest(tmp_path)}"
    # What a file was converted from cannot be compared, and is not recorded as if it were.
    pin = read_pins(PROJECT)["fmriprep"]
    sif_path("fmriprep", pin, root=tmp_path).touch()
    program(tmp_path / "bin", "apptainer", "echo '{}'")
    fmriprep = find_image("fmriprep", engine=engine, root=tmp_path)
    assert fmriprep.digest == f"unverified:{pin.digest}"
    assert short(fmriprep.digest) == "unverified:sha256:15cbf8dcd174"
    program(tmp_path / "bin", "apptainer", f"echo '{said % 'other'}'")
    with pytest.raises(UserError, match=r"built from another requirements\.lock: other"):
        find_image("neurofm", engine=engine, root=tmp_path)


def test_the_build_takes_the_pinned_base_and_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUROFM_BASE_IMAGE", raising=False)
    pins = read_pins(PROJECT)
    for engine in (PODMAN, DOCKER):
        command = build_command(pins["neurofm-cuda"], engine=engine, root=PROJECT, base=pins["python"].address)
        assert f"BASE={pins['python'].address}" in command
        assert f"LOCK={lock_digest(PROJECT)}" in command
        assert "TORCH=cuda" in command
        assert ("--volume" in command) <= engine.is_podman
    with pytest.raises(UserError, match="apptainer does not build"):
        build_command(pins["neurofm"], engine=APPTAINER, root=PROJECT, base="x")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "neurofm"
    for name in ("src", "stages", ".dvc", "data"):
        (root / name).mkdir(parents=True)
    (tmp_path / "labdata").mkdir()
    (tmp_path / "scratch" / "raw").mkdir(parents=True)
    (tmp_path / "cache").mkdir()
    (root / "data" / "raw").symlink_to(tmp_path / "scratch" / "raw")
    (root / "params.yaml").write_text("local: {rest: {modality: fmri, reader: tables, path: ../labdata}}\n")
    (root / ".dvc" / "config").write_text("[cache]\n    dir = ../../cache\n['remote \"x\"']\n    url = s3://x\n")
    return root


def test_a_stage_sees_its_project_and_what_it_names(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = project.parent
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(lab / "atlases"))
    (lab / "atlases").mkdir()
    mounts = stage_mounts(
        project, code=project / "src", script=project / "stages" / "x.py", extra=(str(lab / "scratch"),), fetches=False
    )
    assert {mount.source for mount in mounts if not mount.writable} == {
        project,
        lab / "labdata",
        lab / "cache",
        lab / "scratch",
        lab / "atlases",
    }
    inside = {".neurofm", "data", "metrics", "models", "reports"}
    assert {mount.source for mount in mounts if mount.writable} == {
        *(project / name for name in inside),
        lab / "scratch" / "raw",
    }
    assert all(mount.inside == mount.source for mount in mounts)
    with pytest.raises(UserError, match=r"`mounts` names /nowhere"):
        stage_mounts(project, code=project, script=project / "x.py", extra=("/nowhere",), fetches=False)


def test_what_is_reached_through_links_is_there_by_every_name(project: Path) -> None:
    """A dataset, a cache and outputs on other disks; where `..` stands behind a link, it leads up from its end."""
    lab = project.parent
    (lab / "disk" / "x" / "rest").mkdir(parents=True)
    (lab / "disk" / "cache").mkdir()
    (lab / "disk" / "models").mkdir()
    (lab / "shared").symlink_to("disk/x")
    (lab / "fast").symlink_to("disk/models")
    (lab / "cache").rmdir()
    (lab / "cache").symlink_to("disk/cache")
    (project / "models").symlink_to("../fast")
    (project / "params.yaml").write_text("local: {rest: {path: ../shared/rest}, all: {path: ../shared/../cache}}\n")
    mounts = stage_mounts(
        project, code=project / "src", script=project / "x.py", extra=(str(lab / "labdata"),), fetches=False
    )
    inside = {mount.inside: mount.source for mount in mounts}
    assert len(inside) == len(mounts)
    rest, cache, models = lab / "disk" / "x" / "rest", lab / "disk" / "cache", lab / "disk" / "models"
    for name, source in {
        lab / "shared" / "rest": rest,
        rest: rest,
        lab / "cache": cache,
        cache: cache,
        lab / "fast": models,
        models: models,
        lab / "labdata": lab / "labdata",
    }.items():
        assert inside[name] == source
    assert project / "models" not in inside  # The link itself is in the project's mount.
    assert {mount.inside for mount in mounts if mount.writable} >= {lab / "fast", models}


def test_logins_are_seen_only_by_what_fetches(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = project.parent / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".netrc").touch()
    monkeypatch.setenv("HOME", str(home))
    for name in ("NETRC", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    environ = {"AWS_SECRET_ACCESS_KEY": "s", "OMP_NUM_THREADS": "1", "NEUROFM_CONTAINER": "1", "EDITOR": "vi"}
    for fetches in (False, True):
        seen = {
            mount.source
            for mount in stage_mounts(project, code=project, script=project / "x.py", extra=(), fetches=fetches)
        }
        assert ({home / ".aws", home / ".netrc"} <= seen) is fetches
        secret = ("AWS_SECRET_ACCESS_KEY",) if fetches else ()
        assert handed_on(environ, fetches=fetches) == (*secret, "OMP_NUM_THREADS")
        inside = stage_environment(image=IMAGE, code=project / "src", fetches=fetches)
        assert inside["HOME"] == (str(home) if fetches else "/tmp")
        assert inside[INSIDE] == "sha256:abcd"


def test_settings_of_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUROFM_CONTAINER", raising=False)
    assert load_site(tmp_path).container is False
    (tmp_path / "site.yaml").write_text("container: true\nengine: docker\n")
    site = load_site(tmp_path)
    assert (site.container, site.engine, site.image) == (True, EngineName.DOCKER, "neurofm")
    monkeypatch.setenv("NEUROFM_CONTAINER", "0")
    assert load_site(tmp_path).container is False
    monkeypatch.setenv("NEUROFM_CONTAINER", "yes")
    with pytest.raises(UserError, match=r"NEUROFM_CONTAINER: `container`"):
        load_site(tmp_path)
    monkeypatch.delenv("NEUROFM_CONTAINER")
    (tmp_path / "site.yaml").write_text("engine: rkt\n")
    with pytest.raises(UserError, match="`engine`"):
        load_site(tmp_path)


def test_preflight_says_when_there_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert container_problems(Site(), root=PROJECT) == []
    (problem,) = container_problems(Site(container=True), root=PROJECT)
    assert problem.startswith("no container engine answers")


def test_the_examples_name_the_settings() -> None:
    example = (PROJECT / "site.example.yaml").read_text()
    settings = (PROJECT / "docs" / "settings.md").read_text()
    for key in ("container", "engine", "image", "gpus", "mounts", "memory_gb", "cpus"):
        assert re.search(rf"^(# )?{key}:", example, re.MULTILINE), key
        assert f"`{key}`" in settings, key
    assert read_yaml(PROJECT / "site.example.yaml")
    assert os.access(PROJECT / "docs" / "containers.md", os.R_OK)

"""A stage in the project's image: the same script, the same folder at the same path, the same bytes."""

from __future__ import annotations

import configparser
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import neurofm
from neurofm.catalog import read_yaml
from neurofm.containers import INSIDE, Image, Job, Limits, Mount, find_engine, find_image, run
from neurofm.containers.image import TORCH_LABEL
from neurofm.errors import EXIT_INTERRUPTED, UserError
from neurofm.fetch.pip_settings import read_pip_settings
from neurofm.params import CONTAINER, PARAMS, Site
from neurofm.templates import TEMPLATEFLOW_HOME, templates_folder
from neurofm.units import ExecutorName

WRITABLE = (".neurofm", "data", "metrics", "models", "reports")
"""Folders of the project into which stages write; the rest of it is read-only inside."""
FETCHING = frozenset({"manifest", "download", "stream"})
"""Stages that ask archives; the others have no network inside."""
WITH_UNITS = frozenset({"preprocess", "stream"})
WITH_TORCH = frozenset({"pretrain", "finetune", "evaluate", "slice", "report", "ablation"})
_ALWAYS = ("NEUROFM_", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_", "VECLIB_", "CUDA_VISIBLE_DEVICES")
"""Beginnings of the names of variables that are handed on: how many threads, which kernels of a library."""
_OF_FETCHING = (
    *("AWS_", "PIP_", "GIT_SSL_", "GIT_CONFIG_GLOBAL", "NETRC", "XDG_CONFIG_"),
    *("SSL_CERT_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""The same, for stages that fetch: credentials, certificates, proxies."""
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PIP_CERT", "AWS_CA_BUNDLE", "GIT_SSL_CAINFO")
_OF_HOME = (".netrc", ".aws", ".config/pip", ".pip", ".config/neurofm", ".gitconfig")
"""What fetching reads in the caller's home: logins, mirrors, accepted terms."""
_ENGINE_CODES = frozenset({124, 125, 126, 127, 137, 143})
"""Exit codes that no stage ends with by itself: they need words."""


def run_stage_inside(stage: str, *, site: Site, log: Path) -> int:
    """Run this very script in the project's image, and return its exit code.

    Parameters
    ----------
    stage
        As in `stage_run`.
    site
        Which engine and image, and what else is mounted.
    log
        Gets all that the stage writes, which is seen here too.

    Raises
    ------
    UserError
        If there is no engine or no image, if the image is not the pinned one, or if the stage cannot run in it.
    """
    root = Path.cwd()
    if stage in WITH_UNITS and site.executor is ExecutorName.SLURM:
        raise UserError(
            f"stage {stage!r} cannot run in a container and send its recordings to Slurm: tasks must reach it.",
            mend="leave `container` or `executor: slurm` out of site.yaml, or say --no-container or --executor local",
        )
    engine = find_engine(site.engine)
    image = find_image(site.image, engine=engine, root=root)
    if stage in WITH_TORCH and image.labels.get(TORCH_LABEL) == "none":
        raise UserError(
            f"stage {stage!r} needs torch, which the image {site.image!r} has not.",
            mend="set `image: neurofm` in site.yaml",
        )
    fetches = stage in FETCHING
    code, script = Path(neurofm.__file__).resolve().parents[1], Path(sys.argv[0]).resolve()
    job = Job(
        image=image,
        command=("python", str(script), *sys.argv[1:]),
        mounts=stage_mounts(root, code=code, script=script, extra=site.mounts, fetches=fetches),
        environment=stage_environment(image=image, code=code, fetches=fetches),
        inherited=handed_on(os.environ, fetches=fetches),
        workdir=root,
        limits=Limits(memory_gb=site.memory_gb, cpus=site.cpus),
        network=fetches,
        gpus=site.gpus,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        ending = run(job, engine=engine, log=log, show=True)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED  # The stage inside has said so.
    if ending.code in _ENGINE_CODES:
        sys.stderr.write(f"error: {stage} in the image {site.image!r}: {ending.reason}; log: {log}\n")
    return ending.code


def handed_on(environ: Mapping[str, str], *, fetches: bool) -> tuple[str, ...]:
    """Name the variables that are handed on: threads and kernels; credentials only where something is fetched."""
    beginnings = _ALWAYS + (_OF_FETCHING if fetches else ())
    return tuple(sorted(name for name in environ if name.startswith(beginnings) and name != CONTAINER))


def stage_environment(*, image: Image, code: Path, fetches: bool) -> dict[str, str]:
    """Return the variables that are the container's own."""
    return {
        # Fetching finds its logins below the caller's home; nothing else needs one.
        "HOME": str(Path.home()) if fetches else "/tmp",  # noqa: S108  # of the container
        "USER": "neurofm",
        "LOGNAME": "neurofm",
        "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108  # of the container
        "PYTHONPATH": str(code),
        # Its default lies below the caller's home.
        TEMPLATEFLOW_HOME: str(templates_folder()),
        INSIDE: image.digest,
    }


def stage_mounts(root: Path, *, code: Path, script: Path, extra: Iterable[str], fetches: bool) -> tuple[Mount, ...]:
    """Return what a stage sees of this machine.

    The project at its own path, read-only but for the folders that stages write into; what it names outside of itself
    (folders of local datasets, DVC's cache, TemplateFlow's atlases, `mounts` of site.yaml); and for fetching, the
    caller's logins and mirrors.
    What is reached through a link is there by every name: stages ask by the one that was written.

    Raises
    ------
    UserError
        If `mounts` of site.yaml names what is not there.
    """
    writable = []
    for name in WRITABLE:
        (root / name).mkdir(exist_ok=True)
        # A folder on another disk behind a link is mounted where the link leads.
        links = [path for path in (root / name).iterdir() if path.is_symlink() and path.is_dir()]
        writable += [path for link in (root / name, *links) for path in _names(link)]
    named = [Path(path).expanduser().absolute() for path in extra]
    for path in named:
        if not path.exists():
            raise UserError(f"site.yaml: `mounts` names {path}, which is not there.", mend="correct or remove it")
    atlases = templates_folder()
    readable = [root, code, script.parent, *named, atlases, *_outside(root), *(_logins() if fetches else ())]
    seen = _without_nested(path for there in readable if there.exists() for path in _names(there))
    # A link in the project is in its mount.
    changed = _without_nested(path for path in writable if not (path.is_symlink() and root in path.parents))
    return (
        *(Mount(source=path.resolve(), target=path) for path in seen),
        *(Mount(source=path.resolve(), target=path, writable=True) for path in changed),
    )


def _names(path: Path) -> Iterator[Path]:
    """Yield the names of a file or folder: as it is written, where a link leads, and what it is called itself."""
    path = _without_dots(path)
    yield path
    while path.is_symlink():
        path = _without_dots(path.parent / path.readlink())
        yield path
    yield path.resolve()


def _without_dots(path: Path) -> Path:
    """Return a path as it is written, links and all, but without `..`, which leads up from where a link leads."""
    found = Path(path.anchor)
    for part in path.parts[1:]:
        found = found.resolve().parent if part == ".." else found / part
    return found


def _without_nested(paths: Iterable[Path]) -> list[Path]:
    """Return paths each once, and none below another."""
    there = sorted(set(paths))
    return [path for path in there if not any(other in path.parents for other in there)]


def _outside(root: Path) -> list[Path]:
    """Return what the project names outside of its folder: local datasets and DVC's cache."""
    params: Any = read_yaml(root / PARAMS) if (root / PARAMS).is_file() else {}
    local = (params or {}).get("local") or {}
    found = [
        root / str(dataset["path"]) for dataset in local.values() if isinstance(dataset, dict) and "path" in dataset
    ]
    for name in ("config", "config.local"):
        config = configparser.RawConfigParser()
        config.read(root / ".dvc" / name, encoding="utf-8")
        if folder := config.get("cache", "dir", fallback=""):
            found.append(root / ".dvc" / Path(folder).expanduser())
    return found


def _logins() -> list[Path]:
    """Return the files that fetching reads beside the project: logins, certificates, a package mirror in folders."""
    settings = read_pip_settings()
    named = [*settings.find_links, *(url.removeprefix("file://") for url in settings.index_urls), settings.cert or ""]
    named += [os.environ.get(name, "") for name in _CERTIFICATES]
    named += [str(Path.home() / name) for name in _OF_HOME] + [os.environ.get("NETRC", ""), "/etc/pip.conf"]
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "PIP_CONFIG_FILE", "GIT_CONFIG_GLOBAL"):
        named.append(os.environ.get(name, ""))
    return [Path(path) for path in named if path.startswith("/") and path != os.devnull]

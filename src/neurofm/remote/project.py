"""The project as DVC sees it: its remote, its artefacts, its cache. The only module that speaks DVC's own API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurofm.errors import UserError
from neurofm.remote.address import RemoteAddress, parse_address
from neurofm.remote.complaints import answered, only_errors_speak

_PLAIN = frozenset({"url", "endpointurl", "region", "profile", "verify", "jobs", "cache_regions"})
"""Settings of an S3 remote that our own transfer understands; with any other, DVC's is used."""


@dataclass(frozen=True, kw_only=True)
class RemoteSettings:
    """What a project's DVC configuration says of its default remote."""

    name: str
    address: RemoteAddress
    endpoint: str = ""
    region: str = ""
    profile: str = ""
    jobs: int = 0
    """Most requests side by side; 0 for our own choice."""
    verify: bool = False
    """Whether plain `dvc pull` checks the digest of what comes."""
    plain: bool = True
    """Nothing is set that only DVC itself knows how to do."""
    others: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What else is set, for DVC; keys may be among it."""


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """One output of a stage that is kept in the cache."""

    stage: str
    """As DVC calls it: ``preprocess@gw-rest``."""
    path: str
    """Relative to the project's root."""
    oid: str
    """MD5 of the file; of a folder, MD5 of its list, with ``.dir`` at the end."""
    size: int | None
    files: int | None

    @property
    def is_folder(self) -> bool:
        """Whether `oid` is a list of files."""
        return self.oid.endswith(".dir")


class NoRemote(UserError):
    """Nothing is amiss, and nobody else gets the data."""


class DvcProject:
    """A project that is open and locked, as DVC's own commands do it."""

    def __init__(self, repo: Any, *, root: Path) -> None:
        self._repo = repo
        self.root = root

    def remote(self) -> RemoteSettings:
        """Return the default remote.

        Raises
        ------
        UserError
            If there is none.
        """
        return _settings(self._repo.config)

    def artefacts(self, *, stage: str = "", dataset: str = "") -> list[Artefact]:
        """Return what is kept in the cache, in the order of the pipeline's names.

        Parameters
        ----------
        stage
            Only this one: ``preprocess`` (with ``preprocess_local``), ``preprocess@gw-rest``, ``pretrain``.
        dataset
            Only stages that run for this dataset.

        Raises
        ------
        UserError
            If nothing is of that name.
        """
        with _told("read dvc.yaml and dvc.lock"):
            outs = list(self._repo.index.outs)
        found = [
            Artefact(
                stage=out.stage.addressing,
                path=Path(out.fs_path).relative_to(self.root).as_posix(),
                oid=out.hash_info.value,
                size=out.meta.size,
                files=out.meta.nfiles or 1,
            )
            for out in outs
            if out.use_cache and out.can_push and out.hash_info and out.is_in_repo
        ]
        chosen = [item for item in found if _is_of(item.stage, stage=stage, dataset=dataset)]
        if not chosen and (stage or dataset):
            known = ", ".join(sorted({item.stage for item in found})) or "nothing yet"
            raise UserError(
                f"dvc.lock has no outputs of {' and '.join(part for part in (stage, dataset) if part)}.",
                mend=f"choose of {known}; or run it first: dvc repro",
            )
        return sorted(chosen, key=lambda item: (item.stage, item.path))

    def cached(self, oid: str) -> Path:
        """Return where an object is, or would be, in the cache."""
        return Path(self._repo.cache.local.oid_to_path(oid))

    def protect(self, path: Path) -> None:
        """Give an object of the cache the mode that tells DVC that it was verified."""
        self._repo.cache.local.protect(str(path))

    def make_folder(self, folder: Path) -> None:
        """Make a folder of the cache, for the group if the cache is shared."""
        self._repo.cache.local.makedirs(str(folder))

    def checkout(self, targets: list[str], *, force: bool) -> None:
        """Put what is in the cache into the workspace; DVC leaves alone what is right already.

        Parameters
        ----------
        targets
            Stages; none for all. DVC reads dvc.lock once more for each.
        force
            Replace files that were changed here.

        Raises
        ------
        UserError
            If a file was changed here, or is not in the cache.
        """
        with _told("put the files into their places"):
            # Stages that never ran have no files anywhere; without targets DVC would complain of them.
            self._repo.checkout(targets=targets or None, force=force, allow_missing=not targets)

    def push_by_dvc(self, targets: list[str]) -> int:
        """Push as plain ``dvc push`` does; returns how many files were sent."""
        with _told("push"):
            return int(self._repo.push(targets=targets or None))

    def fetch_by_dvc(self, targets: list[str]) -> int:
        """Fetch as plain ``dvc fetch`` does; returns how many files came."""
        with _told("fetch"):
            return int(self._repo.fetch(targets=targets or None))

    def put_by_dvc(self, path: Path, key: str) -> None:
        """Send one large file in parts, by the file system that DVC itself uses; raises `Answer` or `OSError`."""
        with answered():
            self._files().put_file(str(path), key)

    def get_by_dvc(self, key: str, path: Path) -> None:
        """Bring one large file in parts, by the file system that DVC itself uses; raises `Answer` or `OSError`."""
        with answered():
            self._files().get_file(key, str(path))

    def _files(self) -> Any:
        return self._repo.cloud.get_remote().fs


def folder_list(content: bytes) -> list[tuple[str, str]]:
    """Return path and MD5 of every file that a folder's list (an object ``.dir``) names.

    Raises
    ------
    ValueError
        If it is no such list.
    """
    found = json.loads(content)
    try:
        return [(str(item["relpath"]), str(item["md5"])) for item in found]
    except (TypeError, KeyError) as error:
        msg = f"not a list of files: {error}"
        raise ValueError(msg) from None


@contextmanager
def open_project(root: Path) -> Iterator[DvcProject]:
    """Open a project and hold DVC's lock, so that no other command changes it meanwhile.

    Raises
    ------
    UserError
        If there is no project, its files cannot be read, or another command of DVC is at work.
    """
    from dvc.repo import Repo, lock_repo  # type: ignore[import-untyped]  # noqa: PLC0415  # half a second

    only_errors_speak()
    with _told("open the project"):
        repo = Repo(str(root))
    try:
        with _told("work"), lock_repo(repo):
            yield DvcProject(repo, root=Path(repo.root_dir))
    finally:
        repo.close()


def read_settings(root: Path) -> RemoteSettings:
    """Return the default remote without opening the whole project.

    Raises
    ------
    UserError
        If there is none.
    """
    return _settings(_config(root))


def write_settings(root: Path, settings: RemoteSettings, *, shared: bool = True) -> None:
    """Make a remote the default: what all share into ``.dvc/config``, a profile into ``.dvc/config.local``.

    Parameters
    ----------
    root
        The project's root.
    settings
        What to write.
    shared
        False: everything into ``.dvc/config.local``, which git does not see.
    """
    config = _config(root)
    facts: dict[str, Any] = {"url": settings.address.url}
    if settings.endpoint:
        facts["endpointurl"] = settings.endpoint
    if settings.region:
        facts["region"] = settings.region
    if settings.address.scheme in {"s3", "gs", "azure"}:
        # Without it DVC believes whatever comes, and a damaged shard would be recorded as right.
        facts["verify"] = True
    own = {"profile": settings.profile} if settings.profile else {}
    with _told("write .dvc/config"):
        if shared:
            with config.edit("repo") as content:
                content["remote"][settings.name] = facts
                content["core"]["remote"] = settings.name
        with config.edit("local") as content:
            content["remote"].pop(settings.name, None)
            content["core"].pop("remote", None)
            if not shared:
                content["remote"][settings.name] = facts | own
                content["core"]["remote"] = settings.name
            elif own:
                content["remote"][settings.name] = own


def file_system(settings: RemoteSettings) -> tuple[Any, str]:
    """Return the file system by which DVC reaches a remote, and the remote's path there."""
    from dvc.fs import get_cloud_fs  # type: ignore[import-untyped]  # noqa: PLC0415

    facts = {"endpointurl": settings.endpoint, "region": settings.region, "profile": settings.profile}
    conf = {**settings.others, **{key: value for key, value in facts.items() if value}}
    kind, config, path = get_cloud_fs({}, url=settings.address.url, **conf)
    return kind(**config), path


def _config(root: Path) -> Any:
    from dvc.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415

    folder = root / ".dvc"
    if not folder.is_dir():
        raise UserError(f"{root.resolve()} is not a project.", mend="run neurofm in the project's folder")
    with _told("read .dvc/config"):
        return Config(str(folder))


def _settings(config: Mapping[str, Any]) -> RemoteSettings:
    name = config["core"].get("remote", "")
    if not name:
        raise NoRemote("no remote is configured.", mend="neurofm remote use s3://BUCKET/neurofm")
    if name not in config["remote"]:
        raise UserError(
            f"the default remote is {name!r}, and there is no such remote.",
            mend="neurofm remote use s3://BUCKET/neurofm",
        )
    facts = config["remote"][name]
    set_ = {key for key, value in facts.items() if value not in (None, False, "")}
    return RemoteSettings(
        name=name,
        address=parse_address(str(facts["url"])),
        endpoint=facts.get("endpointurl") or "",
        region=facts.get("region") or "",
        profile=facts.get("profile") or "",
        jobs=int(facts.get("jobs") or 0),
        verify=bool(facts.get("verify")),
        plain=set_ <= _PLAIN | {"use_ssl"},
        others={key: facts[key] for key in set_ - _PLAIN},
    )


def _is_of(name: str, *, stage: str, dataset: str) -> bool:
    base, _, key = name.partition("@")
    return (not dataset or key == dataset) and (not stage or stage in {name, base} or base.startswith(f"{stage}_"))


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """Turn DVC's own errors into one line."""
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]  # noqa: PLC0415
    from dvc.lock import LockError  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        yield
    except LockError:
        raise UserError(
            "another command of DVC is at work in this project.", mend="wait until it has ended, then run this again"
        ) from None
    except DvcException as error:
        told = " ".join(str(error).split())
        raise UserError(
            f"DVC cannot {doing}: {told}.", mend=_MENDS.get(type(error).__name__, "see `dvc doctor`")
        ) from None


_MENDS = {
    "ConfirmRemoveError": "keep your changes elsewhere, or give --force to replace them",
    "NotDvcRepoError": "run neurofm in the project's folder",
    "CheckoutError": "the remote lacks them: `neurofm push` on the machine that has them",
    "DownloadError": "check the credentials and the network, then run it again",
    "UploadError": "check the credentials and the network, then run it again",
}

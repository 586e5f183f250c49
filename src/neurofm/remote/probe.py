"""Whether a remote can be used with the credentials of this environment: an object is written, read and removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurofm.remote.complaints import complaint, only_errors_speak, reason_of
from neurofm.remote.project import RemoteSettings, file_system

NAME = "neurofm-probe"
"""Always the same, so that a bucket that forbids removal holds one and not thousands."""
_CONTENT = b"neurofm asks whether it may write here; this may be removed\n"
_PATIENCE_S = 5.0
"""How long a server may take to answer one request; the file systems' own limits do not bound a write."""
_TRIES = 3
"""Somebody else's probe may remove the object between our writing and our reading it."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """What the credentials are good for."""

    read: bool
    write: bool


def probe_remote(settings: RemoteSettings) -> Access:
    """Write an object, read it back and remove it; if it may not be written, look whether reading is allowed.

    A bucket that forbids removal is as good as any: nothing but ``dvc gc`` removes. The object stays there then.

    Raises
    ------
    UserError
        If the remote cannot even be read, or does strange things; the mend is named.
    """
    settings.address.require_plugin()
    where = settings.address.url
    only_errors_speak()
    try:
        files, folder, limit = _files(settings)
        if not settings.address.scheme:
            files.makedirs(folder, exist_ok=True)
    except Exception as error:  # noqa: BLE001  # what the clouds' libraries raise has no common root
        raise complaint(error, doing="go there", where=where) from None
    path = f"{folder}/{NAME}"
    for _ in range(_TRIES):
        try:
            files.pipe_file(path, _CONTENT, **limit)
        except Exception as error:  # noqa: BLE001
            if _is_refusal(error):
                _require_reading(files, folder, limit=limit, where=where, refused=error)
                return Access(read=True, write=False)
            raise complaint(error, doing="write", where=where) from None
        if _came_back(files, path, limit=limit, where=where):
            break
    else:
        raise complaint(OSError("other bytes came back than were written"), doing="read", where=where)
    try:
        files.rm_file(path, **limit)
    except FileNotFoundError:
        pass
    except Exception as error:  # noqa: BLE001
        if not _is_refusal(error):
            raise complaint(error, doing="remove what was written", where=where) from None
    return Access(read=True, write=True)


def _came_back(files: Any, path: str, *, limit: dict[str, float], where: str) -> bool:
    try:
        return bool(files.cat_file(path, **limit) == _CONTENT)
    except FileNotFoundError:
        return False
    except Exception as error:  # noqa: BLE001
        raise complaint(error, doing="read back what was written", where=where) from None


def _is_refusal(error: BaseException) -> bool:
    return reason_of(error) == "AccessDenied" or isinstance(error, PermissionError)


def _files(settings: RemoteSettings) -> tuple[Any, str, dict[str, float]]:
    """Return the file system that DVC uses, the remote's path on it, and an option that bounds each of its requests."""
    import s3fs  # type: ignore[import-untyped]  # noqa: PLC0415  # half a second
    from dvc_s3 import S3FileSystem  # type: ignore[import-untyped]  # noqa: PLC0415
    from fsspec.asyn import AsyncFileSystem  # noqa: PLC0415

    files, path = file_system(settings)
    inner = files.fs
    if isinstance(files, S3FileSystem):
        inner = s3fs.S3FileSystem(**files.fs_args)
        inner.retries = 1
        inner.connect()
    return inner, path, {"timeout": _PATIENCE_S} if isinstance(inner, AsyncFileSystem) else {}


def _require_reading(files: Any, folder: str, *, limit: dict[str, float], where: str, refused: BaseException) -> None:
    try:
        files.ls(folder, refresh=True, **limit)
    except FileNotFoundError:
        return
    except Exception:  # noqa: BLE001
        raise complaint(refused, doing="read or write", where=where) from None

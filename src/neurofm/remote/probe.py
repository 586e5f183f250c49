"""Whether a remote can be used with the credentials of this environment: an object is written, read and removed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from neurofm.remote.complaints import complaint, reason_of
from neurofm.remote.project import RemoteSettings, file_system

_CONTENT = b"neurofm asks whether it may write here; this may be removed\n"


@dataclass(frozen=True, kw_only=True)
class Access:
    """What the credentials are good for."""

    read: bool
    write: bool


def probe_remote(settings: RemoteSettings) -> Access:
    """Write an object, read it back and remove it; if it may not be written, look whether reading is allowed.

    Raises
    ------
    UserError
        If the remote cannot even be read, or does strange things; the mend is named.
    """
    settings.address.require_plugin()
    where = settings.address.url
    try:
        files, folder = _files(settings)
        if not settings.address.scheme:
            files.makedirs(folder, exist_ok=True)
    except Exception as error:  # noqa: BLE001  # what the clouds' libraries raise has no common root
        raise complaint(error, doing="go there", where=where) from None
    path = f"{folder}/neurofm-probe-{secrets.token_hex(8)}"
    try:
        files.pipe_file(path, _CONTENT)
    except Exception as error:  # noqa: BLE001
        if reason_of(error) == "AccessDenied" or isinstance(error, PermissionError):
            _require_reading(files, folder, where=where, refused=error)
            return Access(read=True, write=False)
        raise complaint(error, doing="write", where=where) from None
    doing = "read back what was written"
    try:
        same = files.cat_file(path) == _CONTENT
        doing = "remove what was written (nothing else needs that right, but `dvc gc` does)"
        files.rm_file(path)
    except Exception as error:  # noqa: BLE001
        raise complaint(error, doing=doing, where=where) from None
    if not same:
        raise complaint(OSError("other bytes came back than were written"), doing="read", where=where)
    return Access(read=True, write=True)


def _files(settings: RemoteSettings) -> tuple[Any, str]:
    """Return the file system that DVC uses, and the remote's path on it; that of S3 gives up soon."""
    import s3fs  # type: ignore[import-untyped]  # noqa: PLC0415  # half a second
    from dvc_s3 import S3FileSystem  # type: ignore[import-untyped]  # noqa: PLC0415

    files, path = file_system(settings)
    if not isinstance(files, S3FileSystem):
        return files.fs, path
    inner = s3fs.S3FileSystem(**files.fs_args)
    inner.retries = 1
    inner.connect()
    return inner, path


def _require_reading(files: Any, folder: str, *, where: str, refused: BaseException) -> None:
    try:
        files.ls(folder, refresh=True)
    except FileNotFoundError:
        return
    except Exception:  # noqa: BLE001
        raise complaint(refused, doing="read or write", where=where) from None

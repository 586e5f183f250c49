"""What storage answers, in words that name the mend."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from neurofm.errors import UserError
from neurofm.remote.words import some

_AGAIN = "run it again: what is there stays, and only the rest is sent"
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
REASONS: Mapping[str, tuple[str, str]] = {
    "NoCredentials": ("no credentials were found", f"set {_KEYS}; for a profile of your own: --profile NAME"),
    "ProfileNotFound": ("there is no such profile on this machine", "correct --profile, or `aws configure` it"),
    "InvalidAccessKeyId": ("the access key is not known there", f"correct {_KEYS}"),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", f"correct {_KEYS}"),
    "ExpiredToken": ("the credentials have expired", f"get new ones (`aws sso login`), then {_AGAIN}"),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set the clock (timedatectl set-ntp true)"),
    "AccessDenied": (
        "this key may not do that there",
        "ask whoever keeps the bucket for the right, or use another key",
    ),
    "RoleRefused": (
        "this key may not take the role of its profile",
        "ask whoever keeps the role, correct `role_arn` in ~/.aws/config, or use another profile",
    ),
    "NoSuchBucket": ("there is no such bucket", "make it, or correct the address"),
    "WrongRegion": ("the bucket is in another region", "give it: neurofm remote use URL --region REGION"),
    "Unreachable": ("the server cannot be reached", "check the endpoint and the network; is the server running?"),
    "BadDigest": ("what was sent was damaged on the way or here", _AGAIN),
    "ServerTrouble": ("the server has trouble, maybe a full disk", f"look at its log and its disk, then {_AGAIN}"),
}
"""Why a remote does not do what it is asked, and the mend, by the codes below."""

_SAME_AS = {
    "ExpiredTokenException": "ExpiredToken",
    "InvalidToken": "ExpiredToken",
    "TokenRefreshRequired": "ExpiredToken",
    "RequestExpired": "ExpiredToken",
    "InvalidClientTokenId": "InvalidAccessKeyId",
    "UnrecognizedClientException": "InvalidAccessKeyId",
    "AuthFailure": "InvalidAccessKeyId",
    "Forbidden": "AccessDenied",
    "AllAccessDisabled": "AccessDenied",
    "403": "AccessDenied",
    "401": "AccessDenied",
    "PermanentRedirect": "WrongRegion",
    "AuthorizationHeaderMalformed": "WrongRegion",
    "IllegalLocationConstraintException": "WrongRegion",
    "301": "WrongRegion",
    "InternalError": "ServerTrouble",
    "ServiceUnavailable": "ServerTrouble",
    "SlowDown": "ServerTrouble",
    "500": "ServerTrouble",
    "503": "ServerTrouble",
    "507": "ServerTrouble",
}
_CLASSES = {
    "NoCredentialsError": "NoCredentials",
    "PartialCredentialsError": "NoCredentials",
    "ProfileNotFound": "ProfileNotFound",
    "TokenRetrievalError": "ExpiredToken",
    "SSOTokenLoadError": "ExpiredToken",
    "UnauthorizedSSOTokenError": "ExpiredToken",
    "CredentialRetrievalError": "ExpiredToken",
}
"""Errors of botocore by their names: importing it takes half a second."""
_LOGGERS = ("dvc", "dvc_data", "dvc_objects", "botocore", "aiobotocore", "s3fs")
FINAL = frozenset(REASONS) - {"Unreachable", "ServerTrouble", "BadDigest"}
"""After these the next request cannot go better."""


class Answer(Exception):
    """A server's answer that is not the one hoped for.

    Parameters
    ----------
    code
        As S3 has it (``AccessDenied``), or the HTTP status.
    """

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code

    @property
    def is_absent(self) -> bool:
        """Whether it says that there is no such object."""
        return self.code in {"404", "NoSuchKey"}


def only_errors_speak() -> None:
    """Keep libraries from saying, with a traceback or for every file, what the error says in one line."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def answered() -> Iterator[None]:
    """Turn what botocore and s3fs raise into an `Answer`; what this disk does stays an `OSError`."""
    try:
        yield
    except Exception as error:  # what they raise has no common root
        reason = reason_of(error)
        if isinstance(error, OSError) and not reason:
            raise
        raise Answer(reason or type(error).__name__, " ".join(str(error).split())[:200]) from error


def reason_of(error: BaseException) -> str:
    """Return the key of `REASONS` that an error stands for; empty if there is none."""
    for cause in _causes(error):
        code = _code(cause)
        if code in REASONS:
            return code
    return ""


def complaint(error: BaseException, *, doing: str, where: str) -> UserError:
    """Turn whatever storage raised into one line.

    Parameters
    ----------
    error
        What was raised.
    doing
        What was tried: ``"write"``.
    where
        The remote's address.
    """
    reason = reason_of(error)
    if reason:
        problem, mend = REASONS[reason]
        return UserError(f"{where}: cannot {doing}: {problem}.", mend=mend)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UserError(f"{where}: cannot {doing}: no space is left on this disk.", mend=f"free some, then {_AGAIN}")
    told = " ".join(str(error).split())[:300] or type(error).__name__
    return UserError(f"{where}: cannot {doing}: {told}.", mend="check the address, the network and the credentials")


def damaged_there(paths: Sequence[str], *, where: str, through: str = "") -> UserError:
    """Return the line on files that a remote holds with other bytes; `through` says how many came."""
    return UserError(
        f"{some(paths)}: what {where} holds is damaged{f'; {through}' if through else ''}.",
        mend="`neurofm push --reread` on a machine that has it whole (docs/remote.md), then pull again",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__]


def _code(error: BaseException) -> str:
    """Return the code that one error carries."""
    answer: Any = getattr(error, "response", None)
    if isinstance(error, Answer):
        code = error.code
    elif isinstance(answer, Mapping) and isinstance(answer.get("Error"), Mapping):
        code = str(answer["Error"].get("Code", ""))
        if code == "AccessDenied" and str(getattr(error, "operation_name", "")).startswith("AssumeRole"):
            code = "RoleRefused"
    else:
        names = [kind.__name__ for kind in type(error).__mro__]
        code = next((_CLASSES[name] for name in names if name in _CLASSES), "")
        if not code and (isinstance(error, ConnectionError | TimeoutError) or _is_network(names)):
            code = "Unreachable"
    return _SAME_AS.get(code, code)


def _is_network(names: list[str]) -> bool:
    """Whether an error of botocore or aiohttp is about the connection."""
    return any(
        name
        in {"ConnectionError", "HTTPClientError", "ClientConnectionError", "ClientPayloadError", "ServerTimeoutError"}
        for name in names
    )

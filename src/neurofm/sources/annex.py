"""What git-annex keeps in its branch: keys, which hold size and digest, and logs of where a key's content lies."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from neurofm.recording.manifest import FIRST_USE

BRANCH = "refs/heads/git-annex"
OBJECTS = "annex/objects/"
"""Part of the path to a key's content: in a link's target, and at the beginning of a pointer file."""

_KEY = re.compile(r"(?P<backend>[A-Z0-9_]+)(?P<fields>(-[a-zA-Z]\d+)*)--(?P<name>.+)", re.DOTALL)
_SIZE = re.compile(r"-s(\d+)")
_DIGESTS = {"MD5": ("md5", 32), "SHA256": ("sha256", 64), "BLAKE2B512": ("blake2b", 128)}
"""Backend (an ``E`` at its end only says that the extension follows) to the digest's kind and length in hex."""
_ESCAPED = re.compile(r"&(\d{1,6});")
_PUBLIC_BUCKETS = frozenset({"openneuro.org", "openneuro-derivatives"})
_DEAD = "X"
_HERE = "1"


@dataclass(frozen=True, kw_only=True)
class AnnexKey:
    """The name that git-annex gives to a content."""

    name: str
    size: int | None
    """Bytes; some keys of files that were never here do not tell."""
    digest: str
    """As in a manifest; `FIRST_USE` where the key holds none of a kind that we compute."""

    @classmethod
    def parse(cls, name: str) -> AnnexKey | None:
        """Read a key such as ``SHA256E-s608--<64 hex>.set``; None if it is none.

        The digest is cut by its length, since an extension need not begin with a dot (``..9caCOR-001``).
        """
        match = _KEY.fullmatch(name)
        if match is None or "/" in name:
            return None
        size = _SIZE.search(match["fields"])
        kind, length = _DIGESTS.get(match["backend"].removesuffix("E"), ("", 0))
        value = match["name"][:length]
        known = kind and re.fullmatch(f"[0-9a-f]{{{length}}}", value)
        return cls(name=name, size=int(size[1]) if size else None, digest=f"{kind}:{value}" if known else FIRST_USE)

    @classmethod
    def of_link(cls, target: str) -> AnnexKey | None:
        """Return the key that a symbolic link, or a pointer file, stands for; None for another link."""
        folders, _, name = target.strip().rpartition("/")
        return cls.parse(name) if OBJECTS in f"{folders}/" else None

    def log(self, extension: str) -> str:
        """Return what git calls one of the key's logs: ``.log`` (where it is), ``.log.rmet`` (as which version)."""
        folder = hashlib.md5(self.name.encode(), usedforsecurity=False).hexdigest()
        return f"{BRANCH}:{folder[:3]}/{folder[3:6]}/{self.name}{extension}"


@dataclass(frozen=True, kw_only=True)
class S3Remote:
    """A bucket that git-annex knows."""

    uuid: str
    bucket: str
    prefix: str = ""
    is_tree: bool = True
    """Objects are named by the file's path; otherwise by its key."""
    is_public: bool = True

    def object_name(self, key: AnnexKey, path: str) -> str:
        """Return what an object is called there."""
        return self.prefix + (path if self.is_tree else key.name)


@dataclass(frozen=True, kw_only=True)
class Place:
    """An object in a bucket."""

    bucket: str
    name: str
    version_id: str = ""

    @property
    def origin(self) -> str:
        """Address in a manifest."""
        return f"s3://{self.bucket}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Remotes:
    """Buckets that are not given up, by git-annex's name for them."""

    by_uuid: Mapping[str, S3Remote] = field(default_factory=dict)

    @classmethod
    def parse(cls, remote_log: str, trust_log: str) -> Remotes:
        """Read ``remote.log`` and ``trust.log``: of several lines on one remote the newest holds."""
        settings: dict[str, tuple[float, dict[str, str]]] = {}
        for line in remote_log.splitlines():
            uuid, *words = line.split() or [""]
            values = {name: _unescaped(value) for name, _, value in (word.partition("=") for word in words)}
            when = _seconds(values.get("timestamp", ""))
            if uuid and when >= settings.get(uuid, (-1.0, {}))[0]:
                settings[uuid] = (when, values)
        return cls(
            by_uuid={
                uuid: S3Remote(
                    uuid=uuid,
                    bucket=values["bucket"],
                    prefix=values.get("fileprefix", ""),
                    is_tree=values.get("exporttree") == "yes" or values.get("importtree") == "yes",
                    is_public=values["bucket"] in _PUBLIC_BUCKETS
                    or values.get("publicurl", "no") not in {"", "no"}
                    or values.get("public") == "yes",
                )
                for uuid, (_, values) in settings.items()
                if values.get("type") == "S3" and values.get("bucket") and uuid not in _dead(trust_log)
            }
        )

    def places(self, key: AnnexKey, path: str, *, rmet: str, log: str) -> tuple[Place, ...]:
        """Return where a key's content is, best first.

        Parameters
        ----------
        key
            Of the file.
        path
            Of the file in its dataset.
        rmet, log
            The key's logs; empty where it has none.

        Returns
        -------
        tuple of Place
            Versions that anybody may read come first, then those under the file's own path, then the newest. A bucket
            that has the content but no version of it on record follows, without one.
        """
        ranked = []
        for uuid, value, when in _versions(rmet):
            remote = self.by_uuid.get(uuid)
            version_id, _, name = value.partition("#")
            if remote is None or not version_id or not name:
                continue
            own = name == remote.object_name(key, path)
            version = "" if version_id == "null" else version_id
            place = Place(bucket=remote.bucket, name=name, version_id=version)
            ranked.append(((remote.is_public, bool(version), own, when, uuid), place))
        for uuid in _present(log):
            if remote := self.by_uuid.get(uuid):
                place = Place(bucket=remote.bucket, name=remote.object_name(key, path))
                ranked.append(((remote.is_public, False, True, 0.0, uuid), place))
        ranked.sort(key=lambda item: item[0], reverse=True)
        return tuple(place for _, place in ranked)

    def is_public(self, place: Place) -> bool:
        """Tell whether anybody may read there."""
        return any(remote.is_public for remote in self.by_uuid.values() if remote.bucket == place.bucket)


def _dead(trust_log: str) -> frozenset[str]:
    newest: dict[str, tuple[float, str]] = {}
    for line in trust_log.splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        when = _seconds(words[2].removeprefix("timestamp=")) if len(words) > 2 else 0.0
        if when >= newest.get(words[0], (-1.0, ""))[0]:
            newest[words[0]] = (when, words[1])
    return frozenset(uuid for uuid, (_, trust) in newest.items() if trust == _DEAD)


def _versions(rmet: str) -> Iterator[tuple[str, str, float]]:
    """Yield remote, value and time of the versions that are on record and were not withdrawn since.

    A line is ``<seconds>s <field> +<value> -<value> ..``, with several fields at times; a value with spaces in it is
    written as ``!`` and base64.
    """
    newest: dict[tuple[str, str], tuple[float, bool]] = {}
    for line in rmet.splitlines():
        when_text, *words = line.split(" ")
        when, current = _seconds(when_text), ""
        for word in words:
            if not word.startswith(("+", "-")):
                current = word
                continue
            value = _value(word[1:])
            uuid, _, name = current.partition(":")
            if value and name == "V" and when >= newest.get((uuid, value), (-1.0, False))[0]:
                newest[uuid, value] = (when, word[0] == "+")
    for (uuid, value), (when, is_set) in newest.items():
        if is_set:
            yield uuid, value, when


def _present(log: str) -> list[str]:
    """Return the remotes that have a content, by its location log: ``<seconds>s <1|0|X> <uuid>``."""
    newest: dict[str, tuple[float, str]] = {}
    for line in log.splitlines():
        words = line.split()
        if len(words) == 3 and (when := _seconds(words[0])) >= newest.get(words[2], (-1.0, ""))[0]:
            newest[words[2]] = (when, words[1])
    return sorted(uuid for uuid, (_, state) in newest.items() if state == _HERE)


def _value(text: str) -> str:
    if not text.startswith("!"):
        return text
    try:
        return base64.b64decode(text[1:], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _seconds(text: str) -> float:
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        return 0.0


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1])), text)

"""From a file's origin, which is stable and free of secrets, to the request that brings it: one way per scheme."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from neurofm.errors import UserError
from neurofm.fetch.ask import Ask
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.request import NoRequest, Request
from neurofm.fetch.signing import Signer
from neurofm.fetch.surroundings import Surroundings
from neurofm.recording import ManifestFile

_FILES_QUERY = (
    "query($id: ID!, $tag: String!) "
    "{ snapshot(datasetId: $id, tag: $tag) { files(recursive: true) { filename urls } } }"
)
MIRRORS = frozenset({"openneuro", "openneuro-derivatives"})


class Origins:
    """Turns origins into requests. Credentials are read from the environment or netrc when they are first needed.

    Parameters
    ----------
    site
        Hosts and buckets.
    """

    def __init__(self, site: FetchSite) -> None:
        self._site = site
        self.surroundings = Surroundings()
        self._place = cache(site.hosts.place)
        self._signer: Signer | None = None
        self._login: tuple[str, str] | None = None
        self._minted: dict[tuple[str, str], dict[str, str]] = {}
        self._lock = threading.Lock()
        self.requests = 0
        """Questions asked on the way (mints of presigned addresses)."""

    def request(self, file: ManifestFile) -> Request:
        """Return the request for a file. Blocks where an address has to be minted first.

        Raises
        ------
        NoRequest
            If the origin is not one that can be asked.
        UserError
            If credentials are missing, or the archive does not mint.
        """
        scheme, _, rest = file.origin.partition("://")
        ways: dict[str, Callable[[ManifestFile, str], Request]] = {
            "s3": self._s3,
            "http": self._http,
            "https": self._http,
            "crcns": self._crcns,
            "allen": self._allen,
            "openneuro": self._openneuro,
        }
        way = ways.get(scheme)
        if way is None:
            raise NoRequest(f"no way is known to ask for origins like {scheme}://")
        return way(file, rest)

    def blocks(self, file: ManifestFile) -> bool:
        """Tell whether `request` may have to ask somebody first."""
        return file.origin.startswith("openneuro://")

    def renew(self, file: ManifestFile, refused: Request) -> bool:
        """Forget the address by which a file was refused; tells whether another can be had."""
        if not file.origin.startswith("openneuro://"):
            return False
        accession, tag, path = _openneuro_parts(file.origin)
        with self._lock:
            # Addresses are minted for a whole snapshot, so another file may have renewed this one already.
            known = self._minted.get((accession, tag), {})
            if known.get(path) == refused.url:
                del self._minted[accession, tag]
        return True

    def _s3(self, file: ManifestFile, rest: str) -> Request:
        bucket, _, key = rest.partition("/")
        url = self._site.hosts.object_url(bucket, key, version_id=file.version_id)
        place = self._place(bucket)
        if not place.signed:
            return Request(url=url)
        with self._lock:
            self._signer = self._signer or Signer()
        return Request(url=url, headers=self._signer.headers("GET", url, region=place.region))

    def _http(self, file: ManifestFile, rest: str) -> Request:
        host = urlsplit(file.origin).hostname
        if not host:
            raise NoRequest(f"{rest!r} names no host")
        key = os.environ.get("DANDI_API_KEY", "")
        if key and file.origin.startswith(self._site.hosts.dandi_api.rstrip("/") + "/"):
            return Request(url=file.origin, headers={"Authorization": f"token {key}"})
        login = self.surroundings.login(host)
        if login is None:
            return Request(url=file.origin)
        basic = base64.b64encode(":".join(login).encode()).decode()
        return Request(url=file.origin, headers={"Authorization": f"Basic {basic}"})

    def _allen(self, _file: ManifestFile, rest: str) -> Request:
        return Request(url=f"{self._site.hosts.allen_api.rstrip('/')}/{rest.lstrip('/')}")

    def _crcns(self, _file: ManifestFile, rest: str) -> Request:
        url = self._site.hosts.crcns
        with self._lock:
            self._login = self._login or crcns_login(self._site, self.surroundings)
        username, password = self._login
        form = {"username": username, "password": password, "fn": rest, "submit": "Login"}
        return Request(url=url, form=form, login="crcns")

    def _openneuro(self, file: ManifestFile, _rest: str) -> Request:
        accession, tag, path = _openneuro_parts(file.origin)
        with self._lock:
            if (accession, tag) not in self._minted:
                self._minted[accession, tag] = self._mint(accession, tag)
            url = self._minted[accession, tag].get(path)
        if not url:
            raise NoRequest(f"OpenNeuro gives no address for it in {accession} {tag}")
        return Request(url=url)

    def _mint(self, accession: str, tag: str) -> dict[str, str]:
        """Ask for the addresses of a whole snapshot: one question, and each lives for days."""
        url = self._site.hosts.openneuro_graphql
        body = {"query": _FILES_QUERY, "variables": {"id": accession, "tag": tag}}
        with Ask(self._site) as ask:
            answer = ask.json(url, body=body)
        self.requests += 1
        try:
            files = answer["data"]["snapshot"]["files"]
            return {str(file["filename"]): str(file["urls"][0]) for file in files if file.get("urls")}
        except (KeyError, TypeError, AttributeError):
            raise UserError(
                f"OpenNeuro gives no addresses for the files of {accession} {tag}.",
                mend="check accession and version in the catalogue entry",
            ) from None


def _openneuro_parts(origin: str) -> tuple[str, str, str]:
    accession, _, rest = origin.removeprefix("openneuro://").partition("/")
    tag, _, path = rest.partition("/")
    return accession, tag, path


@dataclass(frozen=True, kw_only=True)
class MirrorOrigin:
    """Parts of ``git://<mirror>/<accession>@<commit>/<path>``."""

    mirror: str
    accession: str
    commit: str
    path: str

    @classmethod
    def parse(cls, origin: str) -> MirrorOrigin:
        """Take an origin apart.

        Raises
        ------
        NoRequest
            If it is not one.
        """
        mirror, _, rest = origin.removeprefix("git://").partition("/")
        repository, _, path = rest.partition("/")
        accession, _, commit = repository.partition("@")
        if mirror not in MIRRORS or not accession or not commit or not path:
            raise NoRequest("its origin is not git://<mirror>/<accession>@<commit>/<path>")
        return cls(mirror=mirror, accession=accession, commit=commit, path=path)

    @property
    def blob(self) -> str:
        """What git resolves to the file's content."""
        return f"{self.commit}:{self.path}"


def crcns_login(site: FetchSite, surroundings: Surroundings) -> tuple[str, str]:
    """Return the user's name and password at crcns.org: from the environment, else from netrc.

    Raises
    ------
    UserError
        If there are none.
    """
    name, password = os.environ.get("CRCNS_USERNAME", ""), os.environ.get("CRCNS_PASSWORD", "")
    if name and password:
        return name, password
    for machine in ("crcns.org", urlsplit(site.hosts.crcns).hostname or ""):
        if found := surroundings.login(machine):
            return found
    missing = "CRCNS_USERNAME and CRCNS_PASSWORD" if not name else "CRCNS_PASSWORD"
    raise UserError(
        "crcns.org wants a login, and there is none.",
        mend=f"set {missing} (or machine crcns.org in ~/.netrc); an account is had at https://crcns.org/register",
    )

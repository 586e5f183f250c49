"""Stands for openneuro.org: its GraphQL interface, and the route by which it hands out what is not exported.

It answers out of bare git repositories, as OpenNeuro's own worker does (`datalad_service/common/annex.py`): the id of a
file is its annex key or its blob's SHA-1, its address that of the version that git-annex has on record. Queries are
parsed and checked against the schema (`packages/openneuro-server/src/graphql/schema.ts`), from which `key` is gone.
Files themselves lie in a real S3 server. The official client `openneuro-py` downloads from it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote_plus, unquote, urlsplit

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\$?[A-Za-z_]\w*|-?\d+|[{}():!\[\]]')
_SCHEMA: dict[str, dict[str, str]] = {
    "Query": {"dataset": "Dataset", "snapshot": "Snapshot"},
    "Dataset": {"id": "", "snapshots": "Snapshot", "latestSnapshot": "Snapshot"},
    "Snapshot": {"id": "", "tag": "", "hexsha": "", "description": "Description", "files": "DatasetFile"},
    "Description": {"Name": "", "License": "", "DatasetDOI": "", "BIDSVersion": ""},
    "DatasetFile": {"id": "", "filename": "", "size": "", "annexed": "", "urls": "", "directory": ""},
}
_KEY = re.compile(r"[A-Z0-9]+-s(?P<size>\d+)--[a-f0-9]+")

Presign = Callable[[str, str, str], str]
"""From bucket, object's name and version to an address that holds for a while."""


@dataclass(frozen=True, kw_only=True)
class _Field:
    name: str
    arguments: Mapping[str, Any]
    fields: tuple[_Field, ...]


class _Invalid(Exception):
    """The query is not of the schema."""


@dataclass(kw_only=True)
class OpenNeuroServer:
    """What it serves; can be changed while it runs."""

    repositories: Path
    """Bare repositories, ``<accession>`` each."""
    s3: str
    """Address under which buckets lie."""
    url: str = ""
    private: set[str] = field(default_factory=set)
    """Datasets that nobody may see without a login."""
    presigned: Presign | None = None
    """If given, addresses are presigned, as OpenNeuro does by mistake for public sets at times (#3690)."""
    spoil: Callable[[str], str] = lambda url: url
    """Changes every address that it gives: for its known mistakes."""
    failing: str = ""
    """Message of the error that every question is answered with."""
    annex: dict[str, bytes] = field(default_factory=dict)
    """Contents by key that it has itself: not exported yet."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the questions."""
    handed_out: list[str] = field(default_factory=list)
    """Paths of files that were asked of the server itself."""

    @property
    def graphql(self) -> str:
        return f"{self.url}/crn/graphql"

    def answer(self, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer a question with status and JSON."""
        self.asked.append(dict(body))
        try:
            wanted = _parse(str(body["query"]), body.get("variables") or {})
            _check(wanted, "Query")
        except _Invalid as error:
            return 400, {"errors": [{"message": str(error), "extensions": {"code": "GRAPHQL_VALIDATION_FAILED"}}]}
        if self.failing:
            return 200, {"errors": [{"message": self.failing}], "data": None}
        data: dict[str, Any] = {}
        for one in wanted:
            accession = one.arguments.get("id") or one.arguments.get("datasetId")
            if accession in self.private:
                return 200, {
                    "errors": [{"message": "You do not have access to read this dataset.", "path": [one.name]}],
                    "data": {one.name: None},
                }
            data[one.name] = self._resolve(one, str(accession))
        return 200, {"data": data}

    def content(self, accession: str, name: str) -> bytes | None:
        """Return the content of an object that is in git, or in the server's own annex."""
        if name in self.annex:
            return self.annex[name]
        return self._git(accession, "cat-file", "blob", name) if re.fullmatch("[0-9a-f]{40}", name) else None

    def _resolve(self, wanted: _Field, accession: str) -> Any:
        if not (self.repositories / accession).is_dir():
            return None
        tags = (self._git(accession, "tag", "--list", "--sort=version:refname") or b"").decode().split()
        if wanted.name == "snapshot":
            tag = wanted.arguments.get("tag")
            return self._snapshot(accession, tag, wanted.fields) if tag in tags else None
        found: dict[str, Any] = {"id": accession}
        for one in wanted.fields:
            if one.name == "snapshots":
                found[one.name] = [self._snapshot(accession, tag, one.fields) for tag in tags]
            elif one.name == "latestSnapshot":
                found[one.name] = self._snapshot(accession, tags[-1], one.fields)
        return {one.name: found[one.name] for one in wanted.fields}

    def _snapshot(self, accession: str, tag: str, wanted: tuple[_Field, ...]) -> dict[str, Any]:
        made: dict[str, Callable[[_Field], Any]] = {
            "id": lambda _: f"{accession}:{tag}",
            "tag": lambda _: tag,
            "hexsha": lambda _: (self._git(accession, "rev-parse", f"{tag}^{{commit}}") or b"").decode().strip(),
            "description": lambda one: _only(
                json.loads(self._git(accession, "show", f"{tag}:dataset_description.json") or b"{}"), one
            ),
            "files": lambda one: [_only(file, one) for file in self._files(accession, tag)],
        }
        return {one.name: made[one.name](one) for one in wanted}

    def _files(self, accession: str, tag: str) -> Iterator[dict[str, Any]]:
        dead = {
            line.split()[0] for line in self._log(accession, "trust.log").splitlines() if line.split()[1:2] == ["X"]
        }
        remote: dict[str, str] = {}
        for line in self._log(accession, "remote.log").splitlines():
            settings = dict(word.split("=", maxsplit=1) for word in line.split()[1:])
            if settings.get("type") == "S3" and line.split()[0] not in dead:
                remote = settings | {"uuid": line.split()[0]}
        for line in (self._git(accession, "ls-tree", "-r", "-l", "-z", tag) or b"").decode().split("\0"):
            if not line:
                continue
            about, _, path = line.partition("\t")
            mode, _, blob, size = about.split()
            identity, bytes_ = blob, int(size) if size.isdigit() else 0
            if mode == "160000":
                continue
            if mode == "120000":
                key = (self._git(accession, "cat-file", "blob", blob) or b"").decode().rsplit("/", 1)[-1]
                match = _KEY.match(key)
                identity, bytes_ = (key, int(match["size"])) if match else (blob, 0)
            url = self._address(accession, identity, path, remote=remote)
            yield {
                "id": identity,
                "filename": path,
                "size": bytes_,
                "annexed": identity != blob,
                "urls": [self.spoil(url)],
                "directory": False,
            }

    def _address(self, accession: str, identity: str, path: str, *, remote: Mapping[str, str]) -> str:
        key = f"GIT--{identity}" if len(identity) == 40 else identity
        folder = hashlib.md5(key.encode()).hexdigest()
        log = self._log(accession, f"{folder[:3]}/{folder[3:6]}/{key}.log.rmet")
        lines = [line for line in log.splitlines() if remote and remote["uuid"] in line]
        if not lines:
            filename = quote_plus(path.rsplit("/", 1)[-1])
            return f"{self.url}/crn/datasets/{accession}/objects/{identity}?filename={filename}"
        value = lines[-1].split("V +")[1]
        if value.startswith("!"):
            value = base64.b64decode(value[1:]).decode()
        version, name = value.split("#")
        if self.presigned:
            return self.presigned(remote["bucket"], name, version)
        return f"{self.s3}/{remote['bucket']}/{quote_plus(name, safe='/').replace('+', '%20')}?versionId={version}"

    def _log(self, accession: str, path: str) -> str:
        return (self._git(accession, "cat-file", "blob", f"git-annex:{path}") or b"").decode()

    def _git(self, accession: str, *arguments: str) -> bytes | None:
        done = subprocess.run(
            ["git", "--git-dir", str(self.repositories / accession), *arguments], capture_output=True, check=False
        )
        return done.stdout if done.returncode == 0 else None


def _parse(query: str, variables: Mapping[str, Any]) -> tuple[_Field, ...]:
    tokens = _TOKEN.findall(query)
    if tokens[:1] == ["query"]:
        tokens = tokens[tokens.index("{") :]
    fields, rest = _fields(tokens, variables)
    if rest:
        msg = f"Syntax Error: Unexpected {rest[0]!r}."
        raise _Invalid(msg)
    return fields


def _fields(tokens: list[str], variables: Mapping[str, Any]) -> tuple[tuple[_Field, ...], list[str]]:
    """Read ``{ name(argument: value) { .. } .. }``; returns what follows, too."""
    if tokens[:1] != ["{"]:
        return (), tokens
    tokens = tokens[1:]
    found = []
    while tokens and tokens[0] != "}":
        name, arguments, tokens = tokens[0], {}, tokens[1:]
        if tokens[:1] == ["("]:
            end = tokens.index(")")
            inside, tokens = tokens[1:end], tokens[end + 1 :]
            for argument, _, value in zip(inside[::3], inside[1::3], inside[2::3], strict=True):
                arguments[argument] = variables[value[1:]] if value.startswith("$") else json.loads(value)
        below, tokens = _fields(tokens, variables)
        found.append(_Field(name=name, arguments=arguments, fields=below))
    if not tokens:
        msg = "Syntax Error: Expected Name, found <EOF>."
        raise _Invalid(msg)
    return tuple(found), tokens[1:]


def _check(wanted: tuple[_Field, ...], kind: str) -> None:
    for one in wanted:
        if one.name not in _SCHEMA[kind]:
            msg = f'Cannot query field "{one.name}" on type "{kind}".'
            raise _Invalid(msg)
        below = _SCHEMA[kind][one.name]
        if bool(below) != bool(one.fields):
            msg = f'Field "{one.name}" of type "{below or "String"}" has or lacks a selection of subfields.'
            raise _Invalid(msg)
        if below:
            _check(one.fields, below)


def _only(values: Mapping[str, Any], wanted: _Field) -> dict[str, Any]:
    return {one.name: values.get(one.name) for one in wanted.fields}


@contextmanager
def openneuro_server(repositories: Path, *, s3: str) -> Iterator[OpenNeuroServer]:
    """Run the server on a free port."""
    state = OpenNeuroServer(repositories=repositories, s3=s3)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = state.answer(body)
            self._send(status, json.dumps(answer).encode())

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            route = re.fullmatch(r"/crn/datasets/(ds\d{6})/objects/([^/]+)", unquote(urlsplit(self.path).path))
            state.handed_out.append(self.path)
            content = state.content(route[1], route[2]) if route else None
            self._send(200, content) if content is not None else self._send(404, b'{"error": "not found"}')

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Stands for the Hugging Face Hub, as far as models are fetched from it and sent to it over HTTP (without Xet).

What it answers is what ``huggingface_hub`` 2.4 asks for and reads: names and commits (``/api/models/...``), the listing
of a commit (``/tree/``), files (``/<name>/resolve/<commit>/<file>``: small ones at once with their git id as ETag,
others by a redirect to another host whose ETag is their SHA-256, to which no token must go), errors by
``X-Error-Code``, and for sending: making a model, validating the card, ``preupload``, Git LFS's batch, and a commit as
ndjson. What the real Hub does beyond that (limits, pages of long listings, Xet) is not here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of-a-test"
LARGE = (".safetensors",)
"""Ends of names of files that the Hub wants through LFS."""


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(kw_only=True)
class Model:
    """One model on the Hub."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by commit."""
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], *, ref: str = "main") -> str:
        """Add files to what is there."""
        whole = self.commits.get(self.refs.get(ref, ""), {}) | dict(files)
        listing = json.dumps([len(self.commits), sorted((name, git_id(one)) for name, one in whole.items())])
        sha = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[sha], self.refs[ref] = whole, sha
        return sha


@dataclass(kw_only=True)
class Hub:
    """A running Hub."""

    models: dict[str, Model] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files, by SHA-256."""
    cut: dict[str, int] = field(default_factory=dict)
    """Bytes of a file that are sent, whole as it is said to be."""
    etags: dict[str, str] = field(default_factory=dict)
    """ETag of a small file, in place of its git id."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, host and path of every request."""
    tokens: list[tuple[str, str]] = field(default_factory=list)
    """Path and token of every request that came with one."""
    url: str = ""
    store: str = ""
    """The same under another name, as large files lie on another host."""

    def paths(self, start: str) -> list[str]:
        return [path for _, _, path in self.asked if path.startswith(start)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append((self.command, self.headers["Host"], path))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token:
            self.hub.tokens.append((path, token))
        match path.strip("/").split("/"):
            case ["cdn", digest]:
                self._large(digest, body)
            case ["api", "repos", "create"]:
                self._make(json.loads(body), token)
            case ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            case ["api", "models", owner, name, *rest]:
                self._model(f"{owner}/{name}", rest, body, token)
            case [owner, name, "info", "lfs", "objects", "batch"]:
                self._batch(json.loads(body), writes=token == TOKEN, name=f"{owner}/{name.removesuffix('.git')}")
            case [owner, name, "resolve", revision, *file]:
                self._resolve(f"{owner}/{name}", revision, "/".join(file), token)
            case _:
                self._error(404, "EntryNotFound")

    def _may_see(self, name: str, token: str) -> Model | None:
        model = self.hub.models.get(name)
        if model is None or (model.private and token != TOKEN):
            self._error(401 if not token else 404, "RepoNotFound")
            return None
        if model.gated and token != TOKEN:
            self._error(403 if token else 401, "GatedRepo")
            return None
        return model

    def _commit_of(self, model: Model, revision: str) -> str | None:
        sha = model.refs.get(revision, revision)
        if sha in model.commits:
            return sha
        self._error(404, "RevisionNotFound")
        return None

    def _model(self, name: str, rest: list[str], body: bytes, token: str) -> None:
        model = self._may_see(name, token)
        if model is None:
            return
        if rest[:1] in (["preupload"], ["commit"]):
            if token != TOKEN:
                self._error(403, "")
            elif rest[0] == "preupload":
                modes = [
                    {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular"}
                    for one in json.loads(body)["files"]
                ]
                self._json({"files": [one | {"shouldIgnore": False} for one in modes]})
            else:
                self._commit(name, model, body, ref=rest[1])
            return
        sha = self._commit_of(model, rest[1] if rest else "main")
        if sha is None:
            return
        files = model.commits[sha]
        if rest[:1] == ["tree"]:
            self._json([self._listed(path, content) for path, content in files.items()])
        else:
            self._json(
                {"id": name, "sha": sha, "private": model.private, "siblings": [{"rfilename": f} for f in files]}
            )

    @staticmethod
    def _listed(path: str, content: bytes) -> dict[str, Any]:
        line: dict[str, Any] = {"type": "file", "oid": git_id(content), "size": len(content), "path": path}
        if path.endswith(LARGE):
            line["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return line

    def _resolve(self, name: str, revision: str, file: str, token: str) -> None:
        model = self._may_see(name, token)
        sha = self._commit_of(model, revision) if model is not None else None
        if model is None or sha is None:
            return
        content = model.commits[sha].get(file)
        if content is None:
            self._error(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": sha}
        if not file.endswith(LARGE):
            etag = self.hub.etags.get(file, git_id(content))
            self._send(200, content[: self.hub.cut.get(file)], {"ETag": f'"{etag}"'} | headers)
            return
        digest = hashlib.sha256(content).hexdigest()
        self.hub.stored[digest] = content[: self.hub.cut.get(file)]
        self._send(
            302,
            b"",
            headers
            | {
                "Location": f"{self.hub.store}/cdn/{digest}",
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(content)),
            },
        )

    def _large(self, digest: str, body: bytes) -> None:
        if self.command == "PUT":
            if hashlib.sha256(body).hexdigest() == digest:
                self.hub.stored[digest] = body
            self._send(200 if digest in self.hub.stored else 400, b"", {})
            return
        self._send(200, self.hub.stored[digest], {"ETag": f'"{digest}"'})

    def _make(self, asked: Mapping[str, Any], token: str) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if token != TOKEN:
            self._error(401, "", message="Invalid username or password.")
        elif name in self.hub.models:
            self._json({"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}, status=409)
        else:
            self.hub.models[name] = Model(private=asked.get("visibility") == "private")
            self.hub.models[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
            self._json({"url": f"{self.hub.url}/{name}"})

    def _batch(self, asked: Mapping[str, Any], *, writes: bool, name: str) -> None:
        if not writes or name not in self.hub.models:
            self._error(401, "RepoNotFound")
            return
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.store}/cdn/{one['oid']}"}}} for one in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, model: Model, body: bytes, *, ref: str) -> None:
        files: dict[str, bytes] = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
        sha = model.commit(files, ref=ref)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})

    def _error(self, status: int, code: str, *, message: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {}
        self._send(status, b"", headers | ({"X-Error-Message": message} if message else {}))

    def _json(self, value: object, *, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Run a Hub on loopback."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        hub.store = f"http://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()

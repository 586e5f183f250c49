"""Datasets' git repositories, as OpenNeuro's git mirror serves them: links of git-annex, and its branch of logs.

`publish` makes one with the real git-annex and exports it to a real S3 server, with the settings that OpenNeuro's own
worker uses (`datalad_service/common/s3.py`). `BareRepository` writes objects by hand: for trees that nobody writes by
accident, and for many files at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.seaweed import SeaweedServer

BUCKET = "openneuro.org"
UUID = "57894849-d0c8-4c62-8418-3627be18a196"
_NOBODY = {
    name: value
    for role in ("AUTHOR", "COMMITTER")
    for name, value in ((f"GIT_{role}_NAME", "a"), (f"GIT_{role}_EMAIL", "a@example.org"))
}


class NoAnnex(Exception):
    """Git-annex is not installed."""


@dataclass(kw_only=True)
class Dataset:
    """A dataset's repository with git-annex, as its maker has it: `folder` is the working tree."""

    accession: str
    folder: Path
    server: SeaweedServer
    bucket: str = BUCKET

    def commit(self, files: Mapping[str, bytes], *, annexed: Iterable[str], tag: str = "") -> str:
        """Write files, those that end in one of `annexed` into the annex, and commit; returns the commit."""
        endings = tuple(annexed)
        for path, content in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.write_bytes(content)
        large = [path for path in files if path.endswith(endings)]
        if large:
            self.git("annex", "add", "--quiet", "--force-large", *large)
        self.git("add", "--", *(path for path in files if not path.endswith(endings)))
        self.git("commit", "--quiet", "--allow-empty", "-m", tag or "more")
        if tag:
            self.git("tag", "--force", tag)
        return self.git("rev-parse", "HEAD").strip()

    def add_remote(self, name: str, **settings: str) -> None:
        """Make a special remote in the bucket; keywords change OpenNeuro's own settings."""
        options = {
            "type": "S3",
            "host": "127.0.0.1",
            "port": str(self.server.port),
            "protocol": "http",
            "requeststyle": "path",
            "bucket": self.bucket,
            "exporttree": "yes",
            "versioning": "yes",
            "partsize": "1GiB",
            "encryption": "none",
            "fileprefix": f"{self.accession}/",
            "autoenable": "true",
            "publicurl": f"https://s3.amazonaws.com/{self.bucket}",
            "public": "no",
        } | settings
        self.git("annex", "initremote", "--quiet", name, *(f"{key}={value}" for key, value in options.items()))

    def export(self, revision: str, *, to: str = "s3-PUBLIC") -> None:
        """Put a revision's files into the bucket."""
        self.git("annex", "export", "--quiet", revision, "--to", to)

    def mirror(self, host: Path) -> Path:
        """Push to a bare repository at a git host's address; returns it."""
        bare = host / self.accession
        if not bare.exists():
            bare.parent.mkdir(parents=True, exist_ok=True)
            self.git("init", "--quiet", "--bare", "-b", "main", str(bare))
        self.git("push", "--quiet", "--force", str(bare), "main", "git-annex", "--tags")
        return bare

    def git(self, *arguments: str) -> str:
        """Run git there, with the server's credentials and nobody's settings."""
        home = self.folder.parent
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "GIT_CONFIG_NOSYSTEM": "1",
                "AWS_ACCESS_KEY_ID": self.server.access_key,
                "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
                **_NOBODY,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
        return done.stdout


def annexed_dataset(folder: Path, accession: str, *, server: SeaweedServer, bucket: str = BUCKET) -> Dataset:
    """Return an empty dataset with the real git-annex in it.

    Raises
    ------
    NoAnnex
        If git-annex is not here.
    """
    if shutil.which("git-annex") is None:
        raise NoAnnex("git-annex is not installed: apt-get install git-annex")
    work = folder / accession
    work.mkdir(parents=True)
    dataset = Dataset(accession=accession, folder=work, server=server, bucket=bucket)
    dataset.git("init", "--quiet", "-b", "main")
    dataset.git("config", "annex.security.allowed-ip-addresses", "all")
    dataset.git("annex", "init", "--quiet", "OpenNeuro")
    return dataset


@dataclass(frozen=True, kw_only=True)
class Link:
    """A symbolic link in a tree."""

    target: str


@dataclass(frozen=True, kw_only=True)
class Submodule:
    """Another repository's commit in a tree."""

    commit: str = "1" * 40


@dataclass(kw_only=True)
class BareRepository:
    """A bare repository, written object by object."""

    folder: Path
    _marks: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "-b", "main", ".")

    def commit(
        self, files: Mapping[str, bytes | Link | Submodule], *, tag: str = "", branch: str = "main", seconds: int = 0
    ) -> str:
        """Make a branch's tree hold these files and no others; returns the commit."""
        when = f"a <a@example.org> {1_700_000_000 + seconds} +0000"
        parent = f"from refs/heads/{branch}^0\n" if self.has(f"refs/heads/{branch}") else ""
        stream = [f"commit refs/heads/{branch}\ncommitter {when}\ndata 0\n{parent}deleteall\n".encode()]
        for path, content in files.items():
            if isinstance(content, Submodule):
                stream.append(f"M 160000 {content.commit} {path}\n".encode())
                continue
            mode, data = ("120000", content.target.encode()) if isinstance(content, Link) else ("100644", content)
            stream.append(f"M {mode} inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
        self.git("fast-import", "--quiet", "--force", stdin=b"".join(stream))
        commit = self.git("rev-parse", f"refs/heads/{branch}").strip()
        if tag:
            self.git("update-ref", f"refs/tags/{tag}", commit)
        return commit

    def commit_tree(self, entries: Sequence[tuple[str, bytes, bytes]], *, tag: str) -> str:
        """Commit a root tree of (mode, name, content) as it is, however hostile its names."""
        tree = b""
        for mode, name, content in entries:
            kind = "tree" if mode == "40000" else "blob"
            blob = self.git("hash-object", "-t", kind, "-w", "--literally", "--stdin", stdin=content).strip()
            tree += f"{mode} ".encode() + name + b"\0" + bytes.fromhex(blob)
        root = self.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=tree).strip()
        commit = self.git("commit-tree", root, "-m", tag).strip()
        self.git("update-ref", f"refs/tags/{tag}", commit)
        return commit

    def has(self, revision: str) -> bool:
        done = subprocess.run(
            ["git", "--git-dir", str(self.folder), "rev-parse", "--quiet", "--verify", revision],
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder.parent), "GIT_CONFIG_NOSYSTEM": "1", **_NOBODY},
            input=stdin,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout.decode()


def annex_key(content: bytes, name: str, *, backend: str = "SHA256E") -> str:
    """Return what git-annex calls a content; the extension follows as in the backends that end in ``E``."""
    kind = backend.removesuffix("E")
    digest = {"MD5": hashlib.md5, "SHA256": hashlib.sha256, "SHA1": hashlib.sha1}[kind](content).hexdigest()
    extension = f".{name.split('.', 1)[1]}" if backend.endswith("E") and "." in name else ""
    return f"{backend}-s{len(content)}--{digest}{extension}"


def link_to(key: str, path: str) -> Link:
    """Return the link that stands at `path` for an annexed file."""
    up = "../" * path.count("/")
    return Link(target=f"{up}.git/annex/objects/Xx/Yy/{key}/{key}")


def log_of(key: str, extension: str) -> str:
    """Return the path of one of a key's logs in git-annex's branch."""
    folder = hashlib.md5(key.encode()).hexdigest()
    return f"{folder[:3]}/{folder[3:6]}/{key}{extension}"


def remote_line(accession: str, *, uuid: str = UUID, seconds: int = 1_588_743_361, **settings: str) -> bytes:
    """Return a line of ``remote.log``, as OpenNeuro's repositories have it; keywords change single settings."""
    options = {
        "autoenable": "true",
        "bucket": BUCKET,
        "datacenter": "US",
        "encryption": "none",
        "exporttree": "yes",
        "fileprefix": f"{accession}/",
        "host": "s3.amazonaws.com",
        "name": "s3-PUBLIC",
        "partsize": "1GiB",
        "port": "80",
        "public": "no",
        "publicurl": f"https://s3.amazonaws.com/{BUCKET}",
        "storageclass": "STANDARD",
        "type": "S3",
        "versioning": "yes",
    } | settings
    words = [f"{name}={value}" for name, value in sorted(options.items())]
    return f"{uuid} {' '.join(words)} timestamp={seconds}.538097946s\n".encode()


def version_line(version_id: str, name: str, *, uuid: str = UUID, seconds: int = 1_590_213_748) -> bytes:
    """Return a line of a key's ``.log.rmet``."""
    return f"{seconds}.042921433s {uuid}:V +{version_id}#{name}\n".encode()

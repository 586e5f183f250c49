"""Zips that somebody else made: refused in a line, with nothing written anywhere."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.operations.challenge.archive import look, unpack

GOOD = {"submission.py": b"x = 1\n" * 100}


def _zip(files: dict[str, bytes], *, mode: int = 0, compress: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression=compress) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = compress
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return file.getvalue()


def _encrypted() -> bytes:
    content = bytearray(_zip(GOOD))
    at = content.index(b"PK\x01\x02") + 8
    content[at : at + 2] = struct.pack("<H", 1)
    return bytes(content)


def _says_less() -> bytes:
    """Both headers say that the file is 5 bytes long."""
    content = bytearray(_zip(GOOD))
    local, central = content.index(b"PK\x03\x04") + 22, content.index(b"PK\x01\x02") + 24
    for at in (local, central):
        content[at : at + 4] = struct.pack("<I", 5)
    return bytes(content)


def _bomb() -> bytes:
    """A file that says it is 3 GB."""
    content = bytearray(_zip(GOOD))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 3_000_000_000)
    return bytes(content)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: b"no zip", "no readable zip"),
        (lambda: _zip(GOOD)[:-30], "no readable zip"),
        (lambda: _zip({**GOOD, "../evil.py": b"x"}), "leads out of the folder"),
        (lambda: _zip({**GOOD, "/etc/evil": b"x"}), "leads out of the folder"),
        (lambda: _zip({**GOOD, "C:\\evil": b"x"}), "leads out of the folder"),
        (lambda: _zip({**GOOD, "..\\evil": b"x"}), "leads out of the folder"),
        (lambda: _zip({"folder/submission.py": b"x"}), "a single level"),
        (lambda: _zip({**GOOD, "folder/": b""}), "a single level"),
        (lambda: _zip({"submission.py": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777), "is a link"),
        (lambda: _zip({"submission.py": b""}, mode=stat.S_IFIFO | 0o666), "no plain file"),
        (lambda: _zip({**GOOD, "Submission.py": b"x"}), "twice"),
        (lambda: _zip({"model.py": b"x"}), "no submission.py"),
        (lambda: _zip(GOOD | {f"{number}.py": b"" for number in range(200)}), "at most 100 are unpacked"),
        (_encrypted, "is encrypted"),
        (_bomb, "unpacks to more than it should"),
        (_says_less, "submission.py"),
    ],
)
def test_it_is_refused(tmp_path: Path, make: Callable[[], bytes], said: str) -> None:
    path = tmp_path / "submission.zip"
    path.write_bytes(make())
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(UserError) as error:
        unpack(path, into)
    assert said in str(error.value)
    assert sum(one.stat().st_size for one in into.iterdir()) <= 5
    assert {one.name for one in tmp_path.iterdir()} == {"into", "submission.zip"}


def test_a_good_one_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "submission.zip"
    path.write_bytes(_zip({**GOOD, "weights.pt": bytes(5_000_000)}))
    assert [entry.filename for entry in look(path)] == ["submission.py", "weights.pt"]
    into = tmp_path / "into"
    into.mkdir()
    unpack(path, into)
    assert {one.name: one.stat().st_size for one in into.iterdir()} == {"submission.py": 600, "weights.pt": 5_000_000}

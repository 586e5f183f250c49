"""`Appender`: whatever the pieces and wherever the file ends, its bytes are those that were appended."""

import errno
import fcntl
import os
import random
from pathlib import Path

import pytest

from neurofm.fetch.appending import BLOCK_BYTES, Appender


@pytest.mark.parametrize("there", [0, 1, 4096, 5000, BLOCK_BYTES])
def test_pieces_of_any_size_after_any_beginning(tmp_path: Path, there: int) -> None:
    draw = random.Random(there)
    beginning = draw.randbytes(there)
    path = tmp_path / "deeper" / "file"
    path.parent.mkdir()
    path.write_bytes(beginning)
    pieces = [draw.randbytes(draw.choice([1, 4095, 4096, 70_000, BLOCK_BYTES, BLOCK_BYTES + 1])) for _ in range(12)]
    out = Appender(path)
    for number, piece in enumerate(pieces):
        out.append([piece[:3], b"", piece[3:]])
        if number % 5 == 4:
            out.flush()
            assert path.stat().st_size == there + sum(map(len, pieces[: number + 1]))
    out.flush()
    out.close()
    assert path.read_bytes() == beginning + b"".join(pieces)


def test_whole_blocks_go_past_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight: list[int] = []
    write = os.write

    def spy(file: int, content: bytes) -> int:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            straight.append(len(content))
        return write(file, content)

    monkeypatch.setattr(os, "write", spy)
    out = Appender(tmp_path / "file")
    out.append([b"a" * 10])
    out.flush()  # the end is in the middle of a page now
    out.append([bytes(3 * BLOCK_BYTES)])
    out.flush()
    out.close()
    assert straight == [BLOCK_BYTES, BLOCK_BYTES]
    assert (tmp_path / "file").read_bytes() == b"a" * 10 + bytes(3 * BLOCK_BYTES)


def test_a_file_system_that_does_not_know_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def refusing(file: int, content: bytes) -> int:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return write(file, content)

    monkeypatch.setattr(os, "write", refusing)
    content = random.Random(1).randbytes(2 * BLOCK_BYTES + 5)
    out = Appender(tmp_path / "file")
    out.append([content])
    out.flush()
    out.close()
    assert (tmp_path / "file").read_bytes() == content


def test_after_an_error_the_file_is_a_beginning_of_what_was_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    left = [BLOCK_BYTES + 8192]

    def filling(file: int, content: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write(file, bytes(content)[: left[0]])
        left[0] -= done
        return done

    monkeypatch.setattr(os, "write", filling)
    content = random.Random(2).randbytes(3 * BLOCK_BYTES)
    out = Appender(tmp_path / "file")
    with pytest.raises(OSError, match="No space"):
        out.append([content])
    out.close()
    assert (tmp_path / "file").read_bytes() == content[: BLOCK_BYTES + 8192]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"link"):
        Appender(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()

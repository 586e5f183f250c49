"""Environments of their own: made once, anew when the lock changes, never half, by one process at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from neurofm import environments
from neurofm.environments import python_of
from neurofm.errors import UserError

_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a lock of one small real package, ``tiny``."""
    kind = environments._Kind(python=_HERE, size_mb=1, minutes="no time")
    monkeypatch.setitem(environments._KINDS, "tiny", kind)
    write_lock(tmp_path, "six==1.16.0\n")
    return tmp_path


def write_lock(project: Path, content: str) -> None:
    lock = project / "containers" / "tiny" / "requirements.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(content)


def make(project: Path) -> Path:
    return python_of("tiny", work=project / ".neurofm", root=project)


def version_of_six(python: Path) -> str:
    command = [str(python), "-I", "-c", "import six; print(six.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_made_once_and_anew_when_the_lock_changes(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    python = make(project)
    assert python == project / ".neurofm" / "envs" / "tiny" / "bin" / "python"
    assert version_of_six(python) == "1.16.0"
    assert "1 packages, 1 MB, no time" in capsys.readouterr().err
    with monkeypatch.context() as no_tools:
        no_tools.setattr(environments, "_make", None)
        assert make(project) == python
    assert capsys.readouterr().err == ""
    write_lock(project, "six==1.17.0\n")
    assert version_of_six(make(project)) == "1.17.0"


def test_without_uv_by_venv_and_pip(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_uv", lambda: None)
    assert version_of_six(make(project)) == "1.16.0"


def test_half_made_is_never_used(project: Path) -> None:
    half = project / ".neurofm" / "envs" / "tiny"
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    left_over = half.with_name(".tiny.killed.part")
    left_over.mkdir()
    assert version_of_six(make(project)) == "1.16.0"
    assert not left_over.exists()


def test_two_processes_make_it_once(project: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from neurofm import environments as e\n"
        f"e._KINDS['tiny'] = e._Kind(python='{_HERE}', size_mb=1, minutes='no time')\n"
        "root = Path(sys.argv[1]); print(e.python_of('tiny', work=root / '.neurofm', root=root))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(project)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(stderr.count(b"making ") for _, stderr in said) - sum(b"another process" in err for _, err in said) == 1
    assert version_of_six(Path(said[0][0].decode().strip())) == "1.16.0"


def test_package_that_is_not_there_ends_in_one_line_and_leaves_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock(project, "six==0.0.999\n")
    with pytest.raises(UserError, match=r"could not be made: .*six") as caught:
        make(project)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (project / ".neurofm" / "envs").iterdir()] == [".tiny.lock"]


def test_password_of_the_index_is_not_said(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_FIND_LINKS", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(project / "cache"))
    with pytest.raises(UserError, match="could not be made") as caught:
        make(project)
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_missing_python_says_how_to_get_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environments._KINDS, "tiny", environments._Kind(python="3.4", size_mb=1, minutes=""))
    with pytest.raises(UserError, match=r"needs Python 3\.4.*uv python install 3\.4"):
        make(project)


def test_missing_lock_is_named(project: Path) -> None:
    (project / "containers" / "tiny" / "requirements.lock").unlink()
    with pytest.raises(UserError, match=r"requirements\.lock: No such file"):
        make(project)

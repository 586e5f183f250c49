"""What pip has been told is found where pip documents it."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.fetch.pip_settings import PYPI, read_pip_settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with pip.conf, and a file that PIP_CONFIG_FILE may name."""
    conf = tmp_path / ".config" / "pip" / "pip.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(
        "[global]\nindex-url = https://user.example/simple\ntimeout = 60\n"
        "[install]\nfind-links =\n    /one\n    /two\n[list]\nindex-url = https://not.this/\n"
    )
    (tmp_path / "own.conf").write_text("[global]\nindex_url = https://own.example/simple\n")
    return tmp_path


def test_user_file_is_read(home: Path) -> None:
    settings = read_pip_settings({"HOME": str(home)})
    assert settings.index_urls[0] == "https://user.example/simple"
    assert settings.find_links == ("/one", "/two")
    assert settings.timeout_s == 60


@pytest.mark.parametrize(
    ("environment", "index_urls"),
    [
        ({"PIP_CONFIG_FILE": "{home}/own.conf"}, ("https://own.example/simple",)),
        ({"PIP_CONFIG_FILE": "{home}/own.conf", "PIP_INDEX_URL": "https://env/simple"}, ("https://env/simple",)),
        (
            {"PIP_INDEX_URL": "https://env/s", "PIP_EXTRA_INDEX_URL": "https://a https://b"},
            ("https://env/s", "https://a", "https://b"),
        ),
        ({"PIP_NO_INDEX": "1"}, ()),
        ({"PIP_CONFIG_FILE": "/dev/null"}, (PYPI,)),
    ],
)
def test_environment_comes_before_files(home: Path, environment: dict[str, str], index_urls: tuple[str, ...]) -> None:
    environ = {"HOME": str(home), "PIP_EXTRA_INDEX_URL": ""}
    environ |= {name: value.format(home=home) for name, value in environment.items()}
    settings = read_pip_settings(environ)
    assert settings.index_urls[: len(index_urls)] == index_urls
    assert bool(settings.index_urls) == bool(index_urls)


def test_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.conf").write_text("index-url = x\n")
    with pytest.raises(UserError, match=r"own\.conf: not readable as pip's configuration"):
        read_pip_settings({"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "own.conf")})


def test_timeout_that_is_no_number_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`timeout` is 'soon'"):
        read_pip_settings({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", "PIP_TIMEOUT": "soon"})

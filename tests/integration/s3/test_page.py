"""docs/remote.md, word for word, against a real server."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from neurofm.remote.address import KINDS
from tests.integration.s3.conftest import Clone, key_of
from tests.servers.fixtures import PROJECT
from tests.servers.seaweed import SeaweedServer

PAGE = (PROJECT / "docs" / "remote.md").read_text()
KEY = "AKIA" + "IOSFODNN7EXAMPLE"
"""In two parts: no file of the project looks as if it held a key."""
OURS = "s3://our-lab/neurofm --region eu-central-1"
"""What the page has for an address; the server's stands for it."""


def shown() -> list[str]:
    blocks = re.findall(r"<!-- tested:begin -->\n(.+?)<!-- tested:end -->", PAGE, re.DOTALL)
    return re.findall(r"^    (\S.+?)(?: {2,}#.*)?$", "\n".join(blocks), re.MULTILINE)


def test_the_page_is_followed_word_for_word(project: Clone, server: SeaweedServer, url: str) -> None:
    project.env = key_of(server)
    project.do("git", "config", "user.name", "Doe")
    project.do("git", "config", "user.email", "doe@lab")
    commands = shown()
    assert len(commands) == 7
    said = [project.do(*shlex.split(line.replace(OURS, f"{url} --endpoint {server.url}"))) for line in commands]
    assert "may read and write" in said[0]
    assert "Pushed: " in said[3]
    assert "answers" in said[4]
    assert said[5].startswith("Nothing to push: ")
    assert said[6].startswith("Nothing to pull: ")
    # Key and profile are nowhere that git sees.
    assert project.env["AWS_SECRET_ACCESS_KEY"] not in project.do("git", "log", "--patch")

    other = project.clone()
    for command in re.findall(r"`(neurofm pull(?: --\w+ \S+)*|dvc pull \S+)`", PAGE.replace("@gw-rest", "@rest")):
        if "pretrain" in command or "stream" in command:  # Not in this small project.
            continue
        other.do(*shlex.split(command.replace("gw-rest", "rest")))
    other.do("neurofm", "pull")
    assert other.files() == project.files()
    assert other.repro() == []


def test_every_kind_is_on_the_page_and_asks_for_its_plugin(project: Clone) -> None:
    for scheme, kind in KINDS.items():
        assert f"`{scheme}://" in PAGE or not scheme
        if not kind.is_installed:
            assert f"`pip install {kind.plugin}`" in PAGE
            assert f"Mend: pip install {kind.plugin}" in project.complaint("neurofm", "remote", "use", kind.example)


def test_an_address_with_a_secret_is_refused_and_not_repeated(project: Clone) -> None:
    before = (project.root / ".dvc" / "config").read_bytes()
    for arguments in (
        (f"s3://{KEY}:wJalrXUtnFEMI@our-lab/x",),
        ("s3://our-lab/x", "--endpoint", "https://user:wJalrXUtnFEMI@s3.lab.example"),
        ("s3://our-lab/x", "--profile", KEY),
    ):
        line = project.complaint("neurofm", "remote", "use", *arguments)
        assert "wJalrXUtnFEMI" not in line
        assert KEY not in line
    assert (project.root / ".dvc" / "config").read_bytes() == before


def test_a_folder_is_a_remote_too(project: Clone, tmp_path: Path) -> None:
    project.do("neurofm", "remote", "use", str(tmp_path / "disk"))
    project.commit()
    project.do("neurofm", "push")
    other = project.clone()
    other.do("neurofm", "pull")
    assert other.files() == project.files()


def test_a_server_to_try_it_on_goes_up_says_what_comes_next_and_down(project: Clone) -> None:
    def s3(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.servers.s3_up", *words],
            cwd=project.root,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{PROJECT}:{PROJECT / 'src'}"},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return done.stdout

    try:
        first = s3()
        for line in first.splitlines():
            if line.startswith("export "):
                name, value = shlex.split(line.removeprefix("export "))[0].split("=", 1)
                project.env = {**project.env, name: value}
        (use,) = [line for line in first.splitlines() if line.startswith("neurofm remote use ")]
        project.do(*shlex.split(use))
        project.do("neurofm", "push")
        assert "runs already" in s3()
        s3("down")
        assert "cannot be reached" in project.complaint("neurofm", "push")
        s3()
        assert project.do("neurofm", "push").startswith("Nothing to push: ")
    finally:
        s3("down")

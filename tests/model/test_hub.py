"""Models on the Hub: ``huggingface_hub`` itself, against a server that answers as the Hub does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from neurofm.errors import UserError
from neurofm.model import hub as ours
from neurofm.model.hub import checkpoint_folder, push_checkpoint
from neurofm.model.neurofm import NeuroFM
from neurofm.model.pretrained import CONFIG, FILES, STATISTICS, WEIGHTS
from neurofm.training.checkpoint import read_checkpoint
from tests.model.small_checkpoint import make_checkpoint
from tests.servers.hub import TOKEN, Hub, Model, hub_server
from tests.servers.ports import free_ports

client = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
import huggingface_hub.constants  # noqa: E402

NAME = "lab/fm"
CARD = "---\nlibrary_name: neurofm\n---\n# A model\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub, which the client was told of as by HF_ENDPOINT and HF_HOME when it was imported."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    with hub_server() as server:
        for name, value in _constants(server.url, tmp_path).items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        yield server


def _constants(url: str, home: Path) -> dict[str, object]:
    return {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(home / "cache"),
        "AGENT_HARNESSES_PATH": str(home / "harnesses.json"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_HUB_DISABLE_XET": True,
    }


def _files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def shared(hub: Hub, made: Path) -> Hub:
    """The model is there, beside files that have no place in a checkpoint."""
    hub.models[NAME] = Model()
    hub.models[NAME].commit(
        _files(made)
        | {
            "weights.pkl": b"cos\nsystem\n",
            "../config.json": b"{}",
            "sub/config.json": b"{}",
            "pytorch_model.bin": b"\x80\x02",
            "/etc/model.safetensors": b"",
        }
    )
    return hub


def test_a_model_is_loaded_by_its_name_and_nothing_else_is_asked_for(shared: Hub, made: Path, tmp_path: Path) -> None:
    network = NeuroFM.from_pretrained(NAME)
    saved = load_file(made / WEIGHTS)
    assert {name: value.tolist() for name, value in network.state_dict().items()} == {
        name: value.tolist() for name, value in saved.items()
    }
    sha = shared.models[NAME].refs["main"]
    assert {path.rpartition(sha)[2].strip("/") for path in shared.paths(f"/{NAME}/resolve/")} == set(FILES)
    folder = checkpoint_folder(NAME)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert read_checkpoint(folder).subjects == read_checkpoint(made).subjects
    assert not [path for path in tmp_path.rglob("*") if path.name in ("weights.pkl", "pytorch_model.bin", "sub")]


def test_a_token_goes_to_the_hub_alone_and_one_in_a_file_nowhere(
    shared: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_left-in-a-file")
    checkpoint_folder(NAME)
    assert shared.tokens == []
    assert [host for _, host, path in shared.asked if path.startswith("/cdn/")] == [shared.store[7:]] * 2
    shared.models[NAME].private = True
    with pytest.raises(UserError, match=r"private/x is not on the Hub, or not for everyone .*HF_TOKEN"):
        checkpoint_folder("private/x")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    revision = shared.models[NAME].commit({"note.txt": b"x"})
    checkpoint_folder(NAME, revision=revision)
    assert {token for _, token in shared.tokens} == {TOKEN}
    assert not [path for path, _ in shared.tokens if path.startswith("/cdn/")]


def test_a_revision_is_a_branch_or_a_commit_and_a_wrong_one_is_said(shared: Hub, made: Path) -> None:
    model = shared.models[NAME]
    first = model.refs["main"]
    model.commit({STATISTICS: b"", CONFIG: b"{}"}, ref="main")
    assert checkpoint_folder(NAME, revision=first).name == first
    with pytest.raises(UserError, match=rf"{NAME}: what the Hub has is not a whole model.*schema is None"):
        checkpoint_folder(NAME)
    with pytest.raises(UserError, match=f"{NAME} at v9 has no such revision") as refused:
        checkpoint_folder(NAME, revision="v9")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="a folder has no revision 'v9'"):
        NeuroFM.from_pretrained(made, revision="v9")


def test_files_that_are_not_whole_are_refused(shared: Hub, made: Path) -> None:
    weights = (made / WEIGHTS).read_bytes()
    shared.cut[WEIGHTS] = len(weights) - 100
    with pytest.raises(
        UserError, match=rf"{NAME}: .*should be of size {len(weights)} but has size {len(weights) - 100}"
    ):
        NeuroFM.from_pretrained(NAME)
    shared.cut.clear()
    NeuroFM.from_pretrained(NAME)
    model = shared.models[NAME]
    model.commit({WEIGHTS: weights[:-100]})  # The Hub has it like this.
    with pytest.raises(UserError, match=rf"{WEIGHTS} has {len(weights) - 100} bytes, and had {len(weights)} when"):
        NeuroFM.from_pretrained(NAME)
    del model.commits[model.refs["main"]][STATISTICS]
    model.commit({})
    with pytest.raises(UserError, match=f"{STATISTICS} is missing. Mend: choose another revision"):
        NeuroFM.from_pretrained(NAME)


def test_a_server_that_leads_out_of_the_cache_is_found_out(shared: Hub) -> None:
    shared.etags[CONFIG] = "../../astray"
    with pytest.raises(UserError, match=rf"{CONFIG} was put at \S+astray, outside the cache"):
        checkpoint_folder(NAME)


def test_what_only_some_may_see_is_said(shared: Hub) -> None:
    shared.models[NAME].gated = True
    with pytest.raises(UserError, match=f"{NAME} is given to those who were let in only .*HF_TOKEN"):
        checkpoint_folder(NAME)


def test_without_a_network_what_was_fetched_before_is_taken(shared: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = checkpoint_folder(NAME)
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", nobody)
    assert checkpoint_folder(NAME) == fetched
    with pytest.raises(UserError, match=f"lab/other cannot be reached, and is not on this machine .{nobody}"):
        checkpoint_folder("lab/other")


def test_a_folder_comes_before_a_name(shared: Hub, made: Path, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / NAME).symlink_to(made)
    assert checkpoint_folder(NAME) == Path(NAME)
    assert checkpoint_folder(Path("lab/other")) == Path("lab/other")
    assert checkpoint_folder("models/pretrained/fold-0") == Path("models/pretrained/fold-0")
    assert shared.asked == []


def test_a_folder_that_is_missing_is_not_somebody_elses_model(shared: Hub, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    with pytest.raises(UserError, match=f"{NAME}: there is a folder lab here, and no folder {NAME}. Mend: .*revision"):
        NeuroFM.from_pretrained(NAME)
    assert shared.asked == []
    assert checkpoint_folder(NAME, revision="main").name == shared.models[NAME].refs["main"]


def test_a_model_that_is_sent_comes_back_the_same(hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    pushed = push_checkpoint(made, NAME, card=CARD)
    model = hub.models[NAME]
    assert model.private
    assert pushed.revision == model.refs["main"]
    assert pushed.url == f"{hub.url}/{NAME}/commit/{pushed.revision}"
    there = model.commits[pushed.revision]
    assert {name: there[name] for name in FILES} == _files(made)
    assert there["README.md"] == CARD.encode()
    assert _files(checkpoint_folder(NAME, revision=pushed.revision)) == _files(made)
    model.private = False
    push_checkpoint(made, NAME, card=CARD + "more\n")  # It is there already.
    assert not model.private
    assert push_checkpoint(made, "lab/open", card=CARD, public=True).revision in hub.models["lab/open"].commits
    assert not hub.models["lab/open"].private


def test_what_is_under_terms_is_not_sent_where_all_see_it(
    hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    pushed = push_checkpoint(made, NAME, card=CARD, under_terms=["crcns-hc-3"])
    model = hub.models[NAME]
    assert model.private
    model.private = False
    with pytest.raises(UserError, match=rf"{NAME}: all can see it .*: crcns-hc-3\. Mend: make it private"):
        push_checkpoint(made, NAME, card=CARD + "more\n", under_terms=["crcns-hc-3"])
    assert model.refs["main"] == pushed.revision


def test_nothing_is_sent_without_a_token_or_of_a_damaged_model(
    hub: Hub, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"without a token\. Mend: set HF_TOKEN"):
        push_checkpoint(made, NAME, card=CARD)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(UserError, match="'fm' is no name on the Hub"):
        push_checkpoint(made, "fm", card=CARD)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name, content in _files(made).items():
        (damaged / name).write_bytes(content[:-1] if name == WEIGHTS else content)
    with pytest.raises(UserError, match=rf"not a whole model: {WEIGHTS} has \d+ bytes"):
        push_checkpoint(damaged, NAME, card=CARD)
    assert hub.asked == []
    monkeypatch.setenv("HF_TOKEN", "hf_of-somebody-else")
    with pytest.raises(UserError, match="the Hub refuses this with status 401") as refused:
        push_checkpoint(made, NAME, card=CARD)
    assert "somebody-else" not in str(refused.value)
    assert hub.models == {}


def test_without_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", None)
    with pytest.raises(
        UserError, match=r"lab/fm: there is no such folder.* needs huggingface_hub. Mend: install `neur"
    ):
        NeuroFM.from_pretrained(NAME)


def test_the_environment_says_where_the_hub_is(shared: Hub, tmp_path: Path) -> None:
    """A process of its own, since the client reads its variables when it is imported."""
    asked = f"from neurofm.model.hub import checkpoint_folder; print(checkpoint_folder({NAME!r}))"
    known = {"HF_ENDPOINT": shared.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    source = str(Path(ours.__file__).parents[2])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env=os.environ | known | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(tmp_path / "home")
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)

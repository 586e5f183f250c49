"""Terms are accepted once, by a person or for a machine, and again when they change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurofm.catalog import CatalogEntry, Terms
from neurofm.catalog.terms import accept, are_accepted, require_terms, terms_path
from neurofm.errors import UserError

TERMS = Terms(summary="Do not hand the files on.", url="https://archive.test/terms")


def entry_of(dataset: str = "gated", *, terms: Terms | None = TERMS) -> CatalogEntry:
    facts = {
        "id": dataset,
        "title": "gated",
        "modality": "spikes",
        "reader": "nwb",
        "source": {"archive": "crcns", "dataset": "hc-3", "version": "1"},
        "recordings": {"pattern": r"(?P<subject>\w+)\.nwb"},
        "subject_namespace": "gated",
        "species": "Rattus norvegicus",
        "licence": "terms",
        "redistribute": False,
        "citation": "Doe 2013",
        **({"terms": terms.model_dump()} if terms else {}),
    }
    return CatalogEntry.parse(facts, where="test", mend="")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person who has accepted nothing."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("NEUROFM_ACCEPT_TERMS", raising=False)
    return tmp_path


def test_without_acceptance_the_command_is_named() -> None:
    with pytest.raises(UserError, match=r"gated: its terms .* Mend: .*neurofm catalog accept gated"):
        require_terms(entry_of())


def test_acceptance_is_kept_and_covers_nothing_else(home: Path) -> None:
    accept(entry_of("other"))
    accept(entry_of())
    require_terms(entry_of())
    assert not are_accepted(entry_of("third"))
    assert terms_path() == home / "neurofm" / "terms.json"
    kept = json.loads(terms_path().read_text())["accepted"]
    assert sorted(kept) == ["gated", "other"]
    assert kept["gated"]["accepted_at"].endswith("+00:00")


@pytest.mark.parametrize("changed", [{"summary": "Do not hand them on, nor sell them."}, {"url": "https://new.test"}])
def test_changed_terms_are_asked_again(changed: dict[str, str]) -> None:
    accept(entry_of())
    with pytest.raises(UserError, match="not accepted"):
        require_terms(entry_of(terms=TERMS.model_copy(update=changed)))


def test_another_address_of_the_account_does_not_change_the_terms() -> None:
    accept(entry_of())
    require_terms(entry_of(terms=TERMS.model_copy(update={"account": "https://archive.test/register"})))


def test_machines_accept_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROFM_ACCEPT_TERMS", "first, gated")
    require_terms(entry_of())
    assert not are_accepted(entry_of("gated-2"))
    assert not terms_path().exists()


def test_without_terms_there_is_nothing_to_accept() -> None:
    require_terms(entry_of(terms=None))


def test_a_broken_file_is_named(home: Path) -> None:
    terms_path().parent.mkdir()
    for content in ("{", "[]", '{"accepted": {"gated": {"digest": 1}}}', '{"other": 1}'):
        terms_path().write_text(content)
        with pytest.raises(UserError, match=r"terms\.json.* Mend: remove the file"):
            are_accepted(entry_of())

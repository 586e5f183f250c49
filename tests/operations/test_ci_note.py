"""The note on a merge request: written once, then written anew, and nobody else's is touched."""

from __future__ import annotations

import pytest

from neurofm.errors import UserError
from neurofm.operations.ci.note import MARK, write_note
from tests.servers.gitlab_notes import GitlabNotes

TOKEN = "glpat-of-the-lab"


def test_one_note_that_is_written_anew() -> None:
    with GitlabNotes(TOKEN) as gitlab:
        where = {"api": gitlab.url, "project": "12", "merge_request": "7", "token": TOKEN}
        assert write_note("R2 0.50", **where) == "written"
        gitlab.notes.append({"id": 3, "body": "Why?"})
        assert write_note("R2 0.51", **where) == "renewed"
        assert [note["body"] for note in gitlab.notes] == ["Looks good to me", f"{MARK}\nR2 0.51", "Why?"]


def test_a_wrong_token_is_one_line_without_the_token() -> None:
    with GitlabNotes(TOKEN) as gitlab, pytest.raises(UserError, match="answered 401") as caught:
        write_note("R2", api=gitlab.url, project="12", merge_request="7", token="glpat-wrong")
    assert "glpat-wrong" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_line() -> None:
    with GitlabNotes(TOKEN) as gitlab:
        url = gitlab.url
    with pytest.raises(UserError, match="no answer that makes sense"):
        write_note("R2", api=url, project="12", merge_request="7", token=TOKEN)

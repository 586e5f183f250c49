"""A note on a merge request of GitLab: one, which later pipelines write anew."""

from __future__ import annotations

from typing import Any

import httpx2

from neurofm.errors import UserError

MARK = "<!-- neurofm: what changed in numbers -->"
"""Begins the note, so that it is found again."""
_TIMEOUT_S = 30.0
_MOST_NOTES = 100
"""Newest notes that are looked through."""


def write_note(text: str, *, api: str, project: str, merge_request: str, token: str) -> str:
    """Write the note, or write it anew where it is there already; returns ``written`` or ``renewed``.

    Parameters
    ----------
    text
        Markdown.
    api
        Address of GitLab's API, as ``https://gitlab.com/api/v4``.
    project, merge_request
        Number of the project, and of the merge request in it.
    token
        Of the project, with the scope ``api``; sent in a header and nowhere else.

    Raises
    ------
    UserError
        If GitLab does not answer, or refuses.
    """
    notes = f"{api}/projects/{project}/merge_requests/{merge_request}/notes"
    body = {"body": f"{MARK}\n{text}"}
    try:
        with httpx2.Client(headers={"PRIVATE-TOKEN": token}, timeout=_TIMEOUT_S) as client:
            found = client.get(notes, params={"per_page": str(_MOST_NOTES), "order_by": "created_at", "sort": "desc"})
            found.raise_for_status()
            mine: list[dict[str, Any]] = [note for note in found.json() if note.get("body", "").startswith(MARK)]
            answer = client.put(f"{notes}/{mine[0]['id']}", json=body) if mine else client.post(notes, json=body)
            answer.raise_for_status()
    except httpx2.HTTPStatusError as error:
        raise UserError(
            f"{notes}: GitLab answered {error.response.status_code}.",
            mend="give NEUROFM_CI_TOKEN the scope `api` and a role that may comment",
        ) from None
    except (httpx2.HTTPError, ValueError) as error:
        raise UserError(
            f"{notes}: no answer that makes sense ({type(error).__name__}).", mend="look whether GitLab is reachable"
        ) from None
    return "renewed" if mine else "written"

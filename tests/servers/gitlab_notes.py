"""The part of GitLab's API that writes notes on merge requests, as its documentation has it (REST API v4, notes)."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_NOTES = re.compile(r"/api/v4/projects/(\d+)/merge_requests/(\d+)/notes(?:/(\d+))?")


class GitlabNotes:
    """Listens on a free port of 127.0.0.1. Use it as a context manager.

    Parameters
    ----------
    token
        The only one that is let in.
    """

    def __init__(self, token: str) -> None:
        self.notes: list[dict[str, Any]] = [{"id": 1, "body": "Looks good to me"}]
        """Oldest first."""
        notes = self.notes

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                found = _NOTES.fullmatch(self.path.partition("?")[0])
                length = int(self.headers.get("Content-Length") or 0)
                body: dict[str, str] = json.loads(self.rfile.read(length)) if length else {}
                if self.headers.get("PRIVATE-TOKEN") != token:
                    self._send(401, {"message": "401 Unauthorized"})
                elif found is None:
                    self._send(404, {"message": "404 Not Found"})
                elif self.command == "GET":
                    self._send(200, notes[::-1])
                elif self.command == "POST":
                    notes.append({"id": len(notes) + 1, "body": body["body"]})
                    self._send(201, notes[-1])
                else:
                    note = next(note for note in notes if note["id"] == int(found[3]))
                    note["body"] = body["body"]
                    self._send(200, note)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815  # http.server's names

            def _send(self, status: int, content: Any) -> None:
                answer = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/api/v4"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

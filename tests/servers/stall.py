"""A relay in front of a real server that lets so many bytes of requests through and then nothing more: half a push."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

_CHUNK = 1 << 14


class Stall:
    """Listens on a free port of 127.0.0.1. Use it as a context manager.

    Parameters
    ----------
    target
        Host and port of the real server.
    after
        Bytes that all clients together may send.
    """

    def __init__(self, target: tuple[str, int], *, after: int) -> None:
        self.reached = threading.Event()
        """Set once no more is let through."""
        self._target = target
        self._left = after
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._server]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for open_socket in self._open:
            with suppress(OSError):
                # Closing alone does not wake those who wait for it: the port would take one more.
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._open += [client, server]
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:  # noqa: FBT001
        try:
            while chunk := source.recv(_CHUNK):
                if counted and not self._may_pass(len(chunk)):
                    self._over.wait()
                    return
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _may_pass(self, count: int) -> bool:
        with self._lock:
            self._left -= count
            if self._left < 0:
                self.reached.set()
            return self._left >= 0

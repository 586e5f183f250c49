"""A local S3 server for trying the remote on one machine: ``python -m tests.servers.s3_up [down]``.

``make s3-up`` starts SeaweedFS in ``.neurofm/s3/``, on loopback only, and prints what to type next. It goes on running
until ``make s3-down``; started again it has the same key, address and objects.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.servers.seaweed import NoServer, SeaweedServer

FOLDER = Path(".neurofm") / "s3"
BUCKET = "neurofm"
_STOP_S = 1.0
"""A good end takes SeaweedFS long, and what it has acknowledged is on its disk."""


def up(folder: Path) -> list[str]:
    """Start the server, unless it runs, and return the lines to print."""
    server = SeaweedServer(folder / "data", public=False)
    facts = folder / "server.json"
    if facts.is_file():
        known = json.loads(facts.read_text())
        server.access_key, server.secret_key, server.ports = known["access"], known["secret"], known["ports"]
    running = _running(folder)
    if not running:
        server.start()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pid").write_text(str(server.pid))
        facts.touch(mode=0o600)
        facts.write_text(json.dumps({"access": server.access_key, "secret": server.secret_key, "ports": server.ports}))
        server.make_bucket(BUCKET)
    variables = [name for name in server.environment if name != "AWS_ENDPOINT_URL"]
    how = "runs already" if running else "runs"
    return [
        f"# SeaweedFS {how} at {server.url}, in {folder}; `make s3-down` ends it. Next:",
        *(f"export {name}={shlex.quote(server.environment[name])}" for name in variables),
        f"neurofm remote use s3://{BUCKET}/neurofm --endpoint {server.url} --local",
    ]


def down(folder: Path) -> str:
    """End the server; what it keeps stays."""
    pid = _running(folder)
    if not pid:
        return "It does not run."
    os.killpg(pid, signal.SIGTERM)
    until = time.monotonic() + _STOP_S
    while _running(folder):
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.1)
    (folder / "pid").unlink()
    return f"Ended. What it keeps is in {folder}; remove that folder to begin anew."


def _running(folder: Path) -> int:
    """Return the process of the server of that folder; 0 if it does not run."""
    with suppress(OSError, ValueError):
        pid = int((folder / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        # A number is given to another process some day: only one with our folder on its command line is ours.
        if f"-dir={folder / 'data'}".encode() in command:
            return pid
    return 0


def main() -> None:
    """Start or end it, and say so."""
    try:
        if sys.argv[1:] == ["down"]:
            sys.stdout.write(down(FOLDER) + "\n")
        else:
            sys.stdout.write("\n".join(up(FOLDER)) + "\n")
    except NoServer as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None


if __name__ == "__main__":
    main()

"""What of a 2 GB NWB file over HTTP comes when only its units, running and stimuli are wanted.

The spikes are those of the real session A2929, in the layout of Allen's ecephys files; beside them lie 2 GB in the
place of LFP, in chunks. A server on loopback counts the bytes that it sends. `benchmarks.spikes` calls
`rows`.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import h5py
import httpx2
import numpy as np

from neurofm.fetch import FetchSite
from neurofm.fetch.hdf5_parts import fetch_groups
from neurofm.fetch.origins import Origins
from neurofm.fetch.ranges import Ranges
from neurofm.fetch.transfer import Tally
from neurofm.recording import FIRST_USE, ManifestFile
from tests.allen_nwb import trains_of, write_ecephys

PROJECT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("NEUROFM_TEST_DATA", PROJECT.parent / "shared" / "data"))
SESSION = SHARED / "ephys" / "neurosuite_A2929-200711" / "A2929-200711.nwb"
CASE = "/units of a 2 GB NWB over HTTP"
GROUPS = ("units", "general", "intervals", "processing/running")
LFP_SHAPE, CHUNKS = (10_000_000, 100), (12_500, 100)


class _Ranges(SimpleHTTPRequestHandler):
    """Serves ranges of files, which the standard library's handler does not."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        size = path.stat().st_size
        first, _, last = self.headers.get("Range", f"bytes=0-{size - 1}").removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or size - 1) + 1, size)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            self.wfile.write(file.read(stop - start))


def rows() -> list[dict[str, Any]]:
    """Return the share of the file that came, for us and for who downloads it whole."""
    with tempfile.TemporaryDirectory(prefix="bench-nwb-") as name:
        folder = Path(name)
        path = write_ecephys(folder / "session.nwb", trains_of(SESSION))
        with h5py.File(path, "r+") as file:
            lfp = file.create_dataset("acquisition/lfp/data", shape=LFP_SHAPE, dtype=np.int16, chunks=CHUNKS)
            for start in range(0, LFP_SHAPE[0], CHUNKS[0]):
                lfp.id.write_direct_chunk((start, 0), bytes(np.prod(CHUNKS) * 2))
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, directory=name))
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/session.nwb"
            file = ManifestFile(path="session.nwb", size=path.stat().st_size, digest=FIRST_USE, origin=url)
            site, tally = FetchSite(), Tally()
            with httpx2.Client() as client:
                remote = Ranges(file, origins=Origins(site), site=site, client=client, tally=tally)
                fetch_groups(remote, folder / "part.nwb", groups=GROUPS)
        finally:
            server.shutdown()
        with h5py.File(path) as whole, h5py.File(folder / "part.nwb") as part:
            np.testing.assert_array_equal(part["units/spike_times"][()], whole["units/spike_times"][()])
    share = 100 * tally.bytes / file.size
    return [
        {"case": CASE, "who": "neurofm", "value": share, "unit": "%"},
        {"case": CASE, "who": "whole download", "value": 100.0, "unit": "%"},
    ]

"""Stands for the Allen Institute's warehouse, api.brain-map.org: RMA queries and files.

Speaks RMA as allensdk 2.16.2 asks it (``GET /api/v2/data/query.json?criteria=..`` or ``?q=..``): model, criteria with
``$eq`` and ``$in`` on the model and on its associations, ``rma::include`` (what is not included is not sent), options
``start_row``, ``num_rows``, ``order``, ``tabular`` (values come as text, as there). Files come from
``/api/v2/well_known_file_download/<n>`` by GET and HEAD, without digest and without Range. It can hang, dribble and
refuse.

`visual_coding` fills it with a small world: three Neuropixels sessions and three two-photon experiments, numbered and
described as allensdk's documentation prints them where it does; some animals, and probes, channels and units are made
up. allensdk itself reads it in ``tests/sources/test_allen.py`` and ``test_allen_tables.py``.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

Record = dict[str, Any]
_DOWNLOAD = "/api/v2/well_known_file_download/"
_FILTER = re.compile(r"(\w*)\[(\w+)\$(eq|in)('?)([^\]]*?)\4\]")
_DEFAULT_ROWS = 50


@dataclass
class Faults:
    """What goes wrong with the next requests."""

    hang: int = 0
    """Requests that are accepted and never answered."""
    busy: int = 0
    """Requests answered with 503."""
    dribble: bool = False
    """Every answer comes one byte a tenth of a second."""


class Warehouse(ThreadingHTTPServer):
    """A warehouse with its records by model. Use it as a context manager."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: dict[str, list[Record]] = {}
        self.files: dict[int, bytes] = {}
        """What is downloaded, by its number."""
        self.faults = Faults()
        self.asked: list[str] = []
        """Decoded query or path of each request."""
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def add_file(self, content: bytes, *, kind: str, attached: str, to: int) -> int:
        """Keep a file; returns its number."""
        number = 1_000_000_000 + len(self.files)
        self.files[number] = content
        self.models.setdefault("WellKnownFile", []).append(
            {
                "attachable_id": to,
                "attachable_type": attached,
                "download_link": f"{_DOWNLOAD}{number}",
                "id": number,
                "path": f"/external/{to}",
                "well_known_file_type": {"id": 1, "name": kind},
                "well_known_file_type_id": 1,
            }
        )
        return number

    def answer(self, query: str) -> Record:
        """Return the envelope that a query is answered with."""
        model = re.search(r"model::(\w+)", query)
        if model is None or model[1] not in self.models:
            return {"success": False, "id": 0, "start_row": 0, "num_rows": 0, "total_rows": 0, "msg": "no such model"}
        options = dict(
            re.findall(r"\[(\w+)\$eq'?([^'\]]*)'?\]", "".join(re.findall(r"rma::options((?:\[[^\]]*\])+)", query)))
        )
        criteria = re.sub(r",rma::(include|options).*?(?=,rma::|$)", "", query)
        rows = [record for record in self.models[model[1]] if _passes(record, criteria)]
        rows.sort(key=lambda record: record["id"])
        start = int(options.get("start_row", 0))
        wanted = options.get("num_rows", str(_DEFAULT_ROWS))
        page = rows[start:] if wanted == "all" else rows[start : start + int(wanted)]
        if "tabular" in options:
            msg = [_tabular(record, options["tabular"]) for record in page]
        else:
            included = _include_tree("".join(re.findall(r"rma::include,(.*?)(?=,rma::|$)", query)))
            msg = [_including(record, included) for record in page]
        return {
            "success": True,
            "id": 0,
            "start_row": start,
            "num_rows": len(page),
            "total_rows": len(rows),
            "msg": msg,
        }


def _passes(record: Record, criteria: str) -> bool:
    """Whether every ``[name$eq'value']`` holds; with an association before the bracket it is that one's."""
    owner = ""
    for name, key, how, _, text in _FILTER.findall(criteria):
        owner = name or owner
        place = record if owner in {"", "criteria"} or owner not in record else record[owner]
        if key not in place:
            place = record
        if str(place[key]) not in (text.split(",") if how == "in" else [text]):
            return False
    return True


def _include_tree(text: str) -> dict[str, Any]:
    """Parse ``specimen(donor(age)),well_known_files`` into nested names."""
    tree: dict[str, Any] = {}
    stack = [tree]
    for name, mark in re.findall(r"(\w*)([(),]?)", text):
        if name:
            last: dict[str, Any] = stack[-1].setdefault(name, {})
        if mark == "(":
            stack.append(last)
        elif mark == ")":
            stack.pop()
    return tree


def _including(record: Record, tree: Mapping[str, Any]) -> Record:
    """Return a record with its own attributes and the associations in `tree` only."""
    sent: Record = {}
    for key, value in record.items():
        if isinstance(value, dict):
            if key in tree:
                sent[key] = _including(value, tree[key])
        elif isinstance(value, list):
            if key in tree:
                sent[key] = [_including(one, tree[key]) for one in value]
        else:
            sent[key] = value
    return sent


def _tabular(record: Record, columns: str) -> Record:
    """Return ``structures.id as ecephys_structure_id`` and the like as text, None as null."""
    row: Record = {}
    for column in columns.split(","):
        path, _, alias = column.partition(" as ")
        table, _, key = path.rpartition(".")
        place = record.get(table.removesuffix("s"), record)
        value = place.get(key) if place is not None else None
        row[alias or key] = None if value is None else str(value)
    return row


class _Handler(BaseHTTPRequestHandler):
    server: Warehouse
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def _respond(self) -> None:
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        asked = query.get("criteria") or query.get("q") or unquote(address.path)
        self.server.asked.append(f"{self.command} {asked}")
        faults = self.server.faults
        if faults.hang:
            faults.hang -= 1
            self.server.closing.wait(60)
            self.close_connection = True
            return
        if faults.busy:
            faults.busy -= 1
            self._send(503, b"busy", "text/plain")
        elif address.path == "/api/v2/data/query.json":
            self._send(200, json.dumps(self.server.answer(asked)).encode(), "application/json; charset=utf-8")
        elif (number := address.path.removeprefix(_DOWNLOAD)).isdigit() and int(number) in self.server.files:
            self._send(200, self.server.files[int(number)], "application/octet-stream")
        else:
            self._send(404, b"<html>not found</html>", "text/html")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if not self.server.faults.dribble:
            self.wfile.write(content)
            return
        for byte in content:
            if self.server.closing.is_set():
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.1)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        return


@dataclass(frozen=True)
class Animal:
    """Session or experiment, the animal's two numbers, and what was shown to it."""

    session: int
    specimen: int
    donor: int
    stimulus: str
    genotype: str | None
    sex: str
    age_days: int
    structures: tuple[str, ...] = field(default=("VISp",))


NEUROPIXELS = (
    Animal(
        715093703, 699733581, 699733573, "brain_observatory_1.1", "Sst-IRES-Cre/wt;Ai32/wt", "M", 118, ("CA1", "VISp")
    ),
    Animal(719161530, 703279284, 703279277, "brain_observatory_1.1", "Sst-IRES-Cre/wt;Ai32/wt", "M", 122, ("VISam",)),
    Animal(766640955, 744912849, 744912845, "functional_connectivity", None, "M", 133, ("VISl", "LP")),
)
TWO_PHOTON = (
    Animal(501940850, 501800164, 501800160, "three_session_A", "Cux2-CreERT2/wt", "F", 100),
    Animal(503820068, 501800164, 501800160, "three_session_B", "Cux2-CreERT2/wt", "F", 104),
    Animal(510859641, 502355591, 502355588, "three_session_A", "Rorb-IRES2-Cre/wt", "M", 90, ("VISal",)),
)


def visual_coding(server: Warehouse) -> None:
    """Fill a warehouse with the records of `NEUROPIXELS` and `TWO_PHOTON`, without files."""
    for model in ("EcephysSession", "EcephysProbe", "EcephysChannel", "EcephysUnit", "OphysExperiment"):
        server.models[model] = []
    server.models.setdefault("WellKnownFile", [])
    for number, animal in enumerate(NEUROPIXELS):
        _add_neuropixels(server, animal, first_id=850_000_000 + 1000 * number)
    server.models["OphysExperiment"] = [_experiment(animal) for animal in TWO_PHOTON]


def _specimen(animal: Animal) -> Record:
    lines = [
        {"name": line, "transgenic_line_type_name": "driver"} for line in (animal.genotype or "").split("/")[:1] if line
    ]
    return {
        "id": animal.specimen,
        "name": f"mouse-{animal.donor % 1_000_000}",
        "donor_id": animal.donor,
        "donor": {
            "id": animal.donor,
            "external_donor_name": str(animal.donor % 1_000_000),
            "date_of_birth": "2016-01-01T00:00:00Z",
            "full_genotype": animal.genotype,
            "sex": animal.sex,
            "age": {"id": animal.age_days, "days": animal.age_days, "name": f"P{animal.age_days}"},
            "transgenic_lines": lines,
        },
    }


def _add_neuropixels(server: Warehouse, animal: Animal, *, first_id: int) -> None:
    server.models["EcephysSession"].append(
        {
            "id": animal.session,
            "date_of_acquisition": "2019-01-19T08:54:18Z",
            "fail_eye_tracking": False,
            "isi_experiment_id": animal.session - 1,
            "published_at": "2019-10-03T00:00:00Z",
            "specimen_id": animal.specimen,
            "stimulus_name": animal.stimulus,
            "specimen": _specimen(animal),
            "well_known_files": [{"id": 1, "well_known_file_type": {"id": 1, "name": "EcephysNwb"}}],
        }
    )
    probe = first_id
    server.models["EcephysProbe"].append(
        {
            "id": probe,
            "ecephys_session_id": animal.session,
            "air_channel_index": 370,
            "surface_channel_index": 360,
            "lfp_sampling_rate": 2500.0,
            "lfp_temporal_subsampling_factor": 2.0,
            "name": "probeA",
            "phase": "3a",
            "sampling_rate": 29999.95,
            "use_lfp_data": True,
        }
    )
    for index, structure in enumerate((*animal.structures, None)):
        channel = first_id + 100 + index
        server.models["EcephysChannel"].append(
            {
                "id": channel,
                "ecephys_probe_id": probe,
                "local_index": index,
                "probe_horizontal_position": 43,
                "probe_vertical_position": 20 * index,
                "anterior_posterior_ccf_coordinate": 8000 + index,
                "dorsal_ventral_ccf_coordinate": 2000,
                "left_right_ccf_coordinate": 7000,
                "structure": None if structure is None else {"id": 385 + index, "acronym": structure},
            }
        )
        server.models["EcephysUnit"].append(
            {
                "id": first_id + 200 + index,
                "ecephys_channel_id": channel,
                "amplitude_cutoff": 0.01 if index else 0.5,
                "presence_ratio": 0.99,
                "isi_violations": 0.02,
                "quality": "good",
                "firing_rate": 5.0,
                "snr": 3.0,
            }
        )


def _experiment(animal: Animal) -> Record:
    return {
        "id": animal.session,
        "date_of_acquisition": "2016-04-10T00:00:00Z",
        "experiment_container_id": animal.specimen + 1,
        "fail_eye_tracking": True,
        "imaging_depth": 175,
        "name": f"experiment {animal.session}",
        "specimen_id": animal.specimen,
        "stimulus_name": animal.stimulus,
        "experiment_container": {"id": animal.specimen + 1, "failed": False},
        "specimen": _specimen(animal),
        "targeted_structure": {"id": 385, "acronym": animal.structures[0]},
        "well_known_files": [],
    }

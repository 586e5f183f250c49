"""Position tracking as SpikeGadgets Trodes writes it: a text header, then packed rows.

https://docs.spikegadgets.com, "Trodes data formats": the header ends with ``<End settings>``; ``clockrate`` gives the
ticks per second of the field ``time``, and ``Fields: <name type>..`` the columns of a row.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.recording import Unreadable

_END = b"<End settings>\n"
_LONGEST_HEADER = 65536
_FIELD = re.compile(r"<(\w+) (u?int(?:8|16|32|64)|double|float)>")
_TYPES = {"double": "float64", "float": "float32"}


def read_trodes(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Read every column, and ``time_s`` [sample]: seconds on the acquisition's clock.

    Raises
    ------
    Unreadable
        If the header is not one, names no clock rate, or the last row is cut off.
    """
    content = path.read_bytes()
    end = content[:_LONGEST_HEADER].find(_END)
    if end < 0:
        raise Unreadable(f"{path.name}: no Trodes header (it ends with <End settings>)")
    header = content[:end].decode("latin1")
    rate = re.search(r"^clockrate: (\d+)", header, re.MULTILINE | re.IGNORECASE)
    fields = _FIELD.findall(header)
    if rate is None or not fields or fields[0][0] != "time":
        raise Unreadable(f"{path.name}: the Trodes header names no clockrate or no field `time`")
    row = np.dtype([(name, np.dtype(_TYPES.get(kind, kind)).newbyteorder("<")) for name, kind in fields])
    body = memoryview(content)[end + len(_END) :]
    if len(body) % row.itemsize:
        raise Unreadable(f"{path.name}: {len(body)} bytes are not whole rows of {row.itemsize}: the file is cut off")
    rows = np.frombuffer(body, dtype=row)
    columns = {name: rows[name].astype(np.float64) for name in row.names or ()}
    return columns | {"time_s": columns["time"] / float(rate[1])}

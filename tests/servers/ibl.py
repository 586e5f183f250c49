"""Lays out recordings as IBL's public bucket does: tables of a tag, and datasets with their UUID in the name.

The bucket itself is SeaweedFS. The tables are those that ONE's own `make_parquet_db` builds from the ALF tree; the key
of a dataset is ``data/lab/Subjects/subject/date/number/collection/[#revision#/]object.attribute.<uuid>.extension``, as
`one.alf.path.add_uuid_string` names it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from iblutil.io import parquet  # type: ignore[import-untyped]
from one.alf.cache import make_parquet_db
from one.alf.path import add_uuid_string

from neurofm.sources.ibl import BUCKET
from tests.servers.seaweed import SeaweedServer

Edit = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Release:
    """What was laid out: rows of the tables."""

    sessions: pd.DataFrame
    datasets: pd.DataFrame
    """With `eid` and `id` as columns."""

    def id_of(self, path: str) -> str:
        """Return the UUID of the dataset whose path ends so."""
        found = self.datasets[self.datasets["rel_path"].str.endswith(path)]
        return str(found["id"].iloc[0])


def put_release(
    server: SeaweedServer,
    tag: str,
    root: Path,
    *,
    tables: Path,
    edit: Edit | None = None,
    moved: Mapping[str, str] | None = None,
    missing: tuple[str, ...] = (),
    more: Mapping[str, bytes] | None = None,
) -> Release:
    """Put an ALF tree and the tables of a tag into the bucket.

    Parameters
    ----------
    root
        Holds ``lab/Subjects/subject/date/number``.
    tables
        Where the tables are built.
    edit
        Changes the table of datasets after it was built (no hash, no size, does not exist).
    moved
        Path of a dataset in its session to the path that it has in the bucket now (a revision's folder).
    missing
        Datasets that the tables have and the bucket has not.
    more
        Further members of ``cache.zip``.
    """
    tables.mkdir(parents=True, exist_ok=True)
    sessions_file, datasets_file = make_parquet_db(root, out_dir=tables, hash_files=True)
    sessions, about_sessions = parquet.load(sessions_file)
    datasets, about = parquet.load(datasets_file)
    if edit is not None:
        datasets = edit(datasets)
    for name, table, facts in (
        (sessions_file, sessions, about_sessions),
        (datasets_file, datasets, about),
    ):
        parquet.save(name, table, facts | {"origin": "alyx", "database_tags": [tag]})
    rows = datasets.reset_index()
    for row in rows.itertuples():
        session = sessions.loc[row.eid]
        folder = f"{session['lab']}/Subjects/{session['subject']}/{session['date']}/{session['number']:03d}"
        if row.rel_path in missing:
            continue
        where = (moved or {}).get(str(row.rel_path), str(row.rel_path))
        name = add_uuid_string(Path(where), row.id)
        content = (root / folder / str(row.rel_path)).read_bytes()
        server.put(BUCKET, f"data/{folder}/{name.as_posix()}", content)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (sessions_file, datasets_file):
            archive.write(file, file.name)
        for member, content in (more or {}).items():
            archive.writestr(member, content)
    server.put(BUCKET, f"caches/openalyx/{tag}/cache.zip", packed.getvalue())
    return Release(sessions=sessions, datasets=rows)

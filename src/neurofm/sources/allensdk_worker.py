"""Session tables by allensdk. Runs as a script inside allensdk's own environment and knows nothing of `neurofm`.

One question comes as JSON on standard input; see `Question`. The answer goes to standard output in JSON lines:
``{"note": ..}`` while it works, then one ``{"session": ..}`` each, then ``{"done": n}``; for what the user can mend
``{"error": .., "mend": ..}``. Everything that allensdk prints goes to standard error.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

_SHOWN_VALUES = 20


class Question(TypedDict):
    """What is asked."""

    project: str
    api: str
    """Address of the warehouse."""
    cache: str
    """Folder of an allensdk cache. Tables that lie there are read and not asked for."""
    filters: dict[str, list[Any]]
    """Allowed values per column."""
    timeout_s: float
    """Seconds without a byte after which a request counts as dead."""
    attempts: int


class Mendable(Exception):
    """Something that the user can mend."""

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.mend = mend


Say = Callable[[dict[str, Any]], None]


def main() -> None:
    """Answer one question."""
    # allensdk and its progress bars print: their standard output becomes our standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line, allow_nan=False) + "\n")
        answers.flush()

    question: Question = json.load(sys.stdin)
    say({"note": f"loading allensdk for {question['project']}"})
    try:
        table = _TABLES[question["project"]](question, say)
        rows = [row for _, row in _chosen(table, question["filters"], project=question["project"]).iterrows()]
    except Mendable as error:
        say({"error": error.problem, "mend": error.mend})
        return
    for row in rows:
        say({"session": {str(column): _plain(value) for column, value in row.items()}})
    say({"done": len(rows)})


# Each of these returns allensdk's table with its index as a column, and two columns more: `id`, which the names of the
# session's files carry, and `subject`, the animal as the archive numbers it.


def visual_coding_neuropixels(question: Question, say: Say) -> Any:
    """Return `EcephysProjectCache.get_session_table`; the subject is the donor, as in DANDI's copy."""
    import requests  # noqa: PLC0415
    from allensdk.brain_observatory.ecephys.ecephys_project_api import (  # type: ignore[import-not-found]  # noqa: PLC0415
        EcephysProjectWarehouseApi,
    )
    from allensdk.brain_observatory.ecephys.ecephys_project_api.rma_engine import (  # type: ignore[import-not-found]  # noqa: PLC0415
        RmaEngine,
        RmaRequestError,
    )
    from allensdk.brain_observatory.ecephys.ecephys_project_cache import (  # type: ignore[import-not-found]  # noqa: PLC0415
        EcephysProjectCache,
    )

    class PatientRmaEngine(RmaEngine):  # type: ignore[misc]
        """allensdk's engine asks without a timeout, and the warehouse hangs about one time in ten."""

        def get_rma(self, query: str) -> Iterator[list[dict[str, Any]]]:
            url = f"{self.scheme}://{self.host}/{self.rma_prefix}/{self.format_query_string}?{query}"
            start, total = 0, 1
            while start < total:
                page = self._page(self.add_page_params(url, start))
                if not page["success"]:
                    raise RmaRequestError(page["msg"])
                if not page["num_rows"]:
                    break
                start, total = start + page["num_rows"], page["total_rows"]
                say({"note": f"{start} of {total} rows of {query.partition('model::')[2].partition(',')[0]}"})
                yield page["msg"]

        def _page(self, url: str) -> Any:
            def ask() -> Any:
                answer = requests.get(url, timeout=question["timeout_s"])
                answer.raise_for_status()
                return answer.json()

            return _patiently(ask, question, retried=(requests.exceptions.RequestException, ValueError), say=say)

    address = urlsplit(question["api"])
    engine = PatientRmaEngine(scheme=address.scheme, host=address.netloc + address.path.rstrip("/"))
    cache = EcephysProjectCache(
        fetch_api=EcephysProjectWarehouseApi(engine), manifest=str(Path(question["cache"], "manifest.json"))
    )
    table = cache.get_session_table().reset_index()
    donors = {
        int(session["id"]): str(session["specimen"]["donor"]["id"])
        for session in engine.get_rma_list("criteria=model::EcephysSession,rma::include,specimen(donor)")
    }
    table["subject"] = [donors.get(int(session)) for session in table["id"]]
    return table


def visual_coding_2p(question: Question, say: Say) -> Any:
    """Return `BrainObservatoryCache.get_ophys_experiments`; the subject is the specimen, as in DANDI's copy."""
    import pandas as pd  # noqa: PLC0415
    from allensdk.core.brain_observatory_cache import (  # type: ignore[import-not-found]  # noqa: PLC0415
        BrainObservatoryCache,
    )

    socket.setdefaulttimeout(question["timeout_s"])  # allensdk asks by urllib, which has no other
    cache = BrainObservatoryCache(
        manifest_file=str(Path(question["cache"], "manifest.json")), base_uri=question["api"].rstrip("/")
    )
    experiments = _patiently(
        lambda: cache.get_ophys_experiments(simple=False), question, retried=(OSError, ValueError), say=say
    )
    table = pd.DataFrame(cache.api.simplify_ophys_experiments(experiments))
    table["subject"] = [str(experiment["specimen_id"]) for experiment in experiments]
    return table


def visual_behavior_neuropixels(question: Question, say: Say) -> Any:
    """Return `get_ecephys_session_table`, without the sessions of abnormal histology or activity, as allensdk does."""
    del say
    from allensdk.brain_observatory.behavior.behavior_project_cache import (  # type: ignore[import-not-found]  # noqa: PLC0415
        VisualBehaviorNeuropixelsProjectCache,
    )
    from allensdk.brain_observatory.behavior.behavior_project_cache.project_apis.data_io import (  # type: ignore[import-not-found]  # noqa: PLC0415
        VisualBehaviorNeuropixelsProjectCloudApi,
    )

    class SessionsOnly(VisualBehaviorNeuropixelsProjectCloudApi):  # type: ignore[misc]
        """Without the tables of units, channels and probes, which are 160 MB."""

        def _load_manifest_tables(self) -> None:
            self._get_ecephys_session_table()

    class SessionCache(VisualBehaviorNeuropixelsProjectCache):  # type: ignore[misc]
        @classmethod
        def cloud_api_class(cls) -> type[SessionsOnly]:
            return SessionsOnly

    table = SessionCache.from_local_cache(question["cache"]).get_ecephys_session_table().reset_index()
    return table.assign(id=table["ecephys_session_id"], subject=table["mouse_id"].map(_mouse))


def visual_behavior_ophys(question: Question, say: Say) -> Any:
    """Return `get_ophys_experiment_table`: each imaging plane has a file of its own."""
    del say
    from allensdk.brain_observatory.behavior.behavior_project_cache import (  # noqa: PLC0415
        VisualBehaviorOphysProjectCache,
    )
    from allensdk.brain_observatory.behavior.behavior_project_cache.project_apis.data_io import (  # noqa: PLC0415
        BehaviorProjectCloudApi,
    )

    class ExperimentsOnly(BehaviorProjectCloudApi):  # type: ignore[misc]
        def _load_manifest_tables(self) -> None:
            self._get_ophys_experiment_table()

    class ExperimentCache(VisualBehaviorOphysProjectCache):  # type: ignore[misc]
        @classmethod
        def cloud_api_class(cls) -> type[ExperimentsOnly]:
            return ExperimentsOnly

    api = ExperimentCache.from_local_cache(question["cache"]).fetch_api
    table = api.get_ophys_experiment_table().reset_index()
    return table.assign(id=table["ophys_experiment_id"], subject=table["mouse_id"].map(_mouse))


_TABLES: dict[str, Callable[[Question, Say], Any]] = {
    "visual-coding-neuropixels": visual_coding_neuropixels,
    "visual-coding-2p": visual_coding_2p,
    "visual-behavior-neuropixels": visual_behavior_neuropixels,
    "visual-behavior-ophys": visual_behavior_ophys,
}


def _mouse(value: Any) -> str:
    return str(int(value))


def _patiently(ask: Callable[[], Any], question: Question, *, retried: tuple[type[Exception], ...], say: Say) -> Any:
    """Ask again, after a growing pause, where a request hung or broke."""
    for attempt in range(1, question["attempts"]):
        try:
            return ask()
        except retried as error:
            say({"note": f"{type(error).__name__}, asking again"})
            time.sleep(min(0.5 * 2**attempt, question["timeout_s"]))
    return ask()


def _chosen(table: Any, filters: dict[str, list[Any]], *, project: str) -> Any:
    """Keep the rows that every filter allows. Where a column holds lists, one element has to be allowed."""
    columns = [str(column) for column in table.columns if column != "subject"]
    for column, allowed in filters.items():
        if column not in columns:
            raise Mendable(
                f"`source.sessions.{column}`: allensdk's table of {project} has no such column",
                f"use one of: {', '.join(columns)}",
            )
        texts = {str(value) for value in allowed}
        kept = table[[any(one in allowed or str(one) in texts for one in _elements(value)) for value in table[column]]]
        if kept.empty:
            there = sorted({str(one) for value in table[column] for one in _elements(value)})
            raise Mendable(
                f"`source.sessions.{column}`: {', '.join(sorted(texts))} leaves none of {len(table)} sessions",
                f"the column has: {', '.join(there[:_SHOWN_VALUES])}{' ..' if len(there) > _SHOWN_VALUES else ''}",
            )
        table = kept
    return table


def _elements(value: Any) -> list[Any]:
    plain = _plain(value)
    return plain if isinstance(plain, list) else [plain]


def _plain(value: Any) -> Any:
    """Return what JSON can say: NaN and NA become null."""
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return _plain(value.tolist())
    if str(value) in {"<NA>", "NaT"}:
        return None
    return value.isoformat() if isinstance(value, dt.date) else str(value)


if __name__ == "__main__":
    main()

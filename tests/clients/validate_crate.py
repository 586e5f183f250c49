"""Judge an RO-Crate with roc-validator and print what it finds, as JSON. Runs in that package's own environment.

Nothing is fetched: the one context that the validator asks for, RO-Crate 1.1's, is in an old release of rocrate.
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from typing import Any

import requests
from rocrate_validator import services  # type: ignore[import-not-found]
from rocrate_validator.models import Severity, ValidationSettings  # type: ignore[import-not-found]
from rocrate_validator.utils.http import HttpRequester  # type: ignore[import-not-found]

ADDRESS = "https://w3id.org/ro/crate/1.1/context"


def main(crate: str, profile: str, severity: str) -> None:
    text = files("rocrate").joinpath("data/ro-crate.jsonld").read_bytes()
    assert json.loads(text)["@id"] == ADDRESS

    def get(_: Any, url: str, **__: Any) -> requests.Response:
        assert url == ADDRESS, f"the validator would fetch {url}"
        response = requests.Response()
        response.status_code = 200
        response.headers["Content-Type"] = "application/ld+json"
        response._content = text
        return response

    HttpRequester.get = get
    settings = ValidationSettings(
        rocrate_uri=crate, profile_identifier=profile, requirement_severity=Severity[severity]
    )
    result = services.validate(settings)
    found = [(issue.check.identifier, issue.message) for issue in result.get_issues()]
    sys.stdout.write(json.dumps({"checked": len(result.executed_checks), "issues": sorted(found)}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Write a CycloneDX bill of materials; runs in the environment `sbom`, which has cyclonedx-python-lib and not ours.

Reads ``{"image": .., "digest": .., "distributions": [..], "debian": [..]}`` from standard input and writes the bill to
standard output. The same facts give the same bytes: no dates, and a serial number made of the image's digest.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any

from cyclonedx.contrib.license.exceptions import InvalidSpdxLicenseException  # type: ignore[import-not-found]
from cyclonedx.contrib.license.factories import LicenseFactory  # type: ignore[import-not-found]
from cyclonedx.model.bom import Bom  # type: ignore[import-not-found]
from cyclonedx.model.component import Component, ComponentType  # type: ignore[import-not-found]
from cyclonedx.output.json import JsonV1Dot6  # type: ignore[import-not-found]
from cyclonedx.schema import SchemaVersion  # type: ignore[import-not-found]
from cyclonedx.validation.json import JsonStrictValidator  # type: ignore[import-not-found]
from packageurl import PackageURL  # type: ignore[import-not-found]

_SPACE = uuid.UUID("6f2f4a52-9d0c-5b53-8a8c-1d0b1c6a5a0e")
"""Namespace of our serial numbers."""


def bill_of(facts: dict[str, Any]) -> str:
    """Return the bill of an image as CycloneDX 1.6 JSON.

    Raises
    ------
    ValueError
        If it does not follow the schema.
    """
    image = Component(
        type=ComponentType.CONTAINER, name=facts["image"], version=facts["digest"], bom_ref=facts["digest"]
    )
    components = []
    for kind, packages in (("pypi", facts["distributions"]), ("deb", facts["debian"])):
        for package in packages:
            namespace = "debian" if kind == "deb" else None
            url = PackageURL(type=kind, namespace=namespace, name=package["name"], version=package["version"])
            components.append(
                Component(
                    type=ComponentType.LIBRARY,
                    name=package["name"],
                    version=package["version"],
                    purl=url,
                    bom_ref=url.to_string(),
                    licenses=_licences(package["licences"]),
                )
            )
    bom = Bom(components=components, serial_number=uuid.uuid5(_SPACE, facts["digest"]))
    bom.metadata.component = image
    bom.register_dependency(image, components)
    content = json.loads(JsonV1Dot6(bom).output_as_string())
    content["metadata"].pop("timestamp", None)
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(str(error))
    return text + "\n"


def _licences(names: list[str]) -> list[Any]:
    """Return licences for the bill: several are listed by name, since an expression may only stand alone."""
    factory = LicenseFactory()
    if len(names) == 1:
        return [factory.make_from_string(names[0])]
    found = []
    for name in names:
        try:
            found.append(factory.make_with_id(name))
        except InvalidSpdxLicenseException:
            found.append(factory.make_with_name(name))
    return found


if __name__ == "__main__":
    sys.stdout.write(bill_of(json.load(sys.stdin)))

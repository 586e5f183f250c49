"""The catalogue: one YAML file per dataset, in git."""

from neurofm.catalog.entry import CatalogEntry, Expectation, RecordingRule, Terms
from neurofm.catalog.load import load_entry, read_yaml
from neurofm.catalog.pins import Pins, read_pins, write_pins
from neurofm.catalog.source import (
    LATEST,
    AllenSource,
    ArchiveSource,
    CrcnsSource,
    DandiSource,
    HttpFile,
    HttpSource,
    IblSource,
    ListedSource,
    LocalSource,
    OpenNeuroDerivativesSource,
    OpenNeuroSource,
    RegistryFile,
    RegistrySource,
    S3Source,
)

__all__ = [
    "LATEST",
    "AllenSource",
    "ArchiveSource",
    "CatalogEntry",
    "CrcnsSource",
    "DandiSource",
    "Expectation",
    "HttpFile",
    "HttpSource",
    "IblSource",
    "ListedSource",
    "LocalSource",
    "OpenNeuroDerivativesSource",
    "OpenNeuroSource",
    "Pins",
    "RecordingRule",
    "RegistryFile",
    "RegistrySource",
    "S3Source",
    "Terms",
    "load_entry",
    "read_pins",
    "read_yaml",
    "write_pins",
]

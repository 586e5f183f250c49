"""The catalogue: one YAML file per dataset, in git."""

from neurofm.catalog.entry import CatalogEntry, Expectation, RecordingRule, Terms
from neurofm.catalog.load import load_entry, read_yaml
from neurofm.catalog.overlaps import Overlap, Overlaps, load_overlaps
from neurofm.catalog.pins import Pins, read_pins, write_pins
from neurofm.catalog.source import (
    LATEST,
    AllenSource,
    ArchiveSource,
    CrcnsSource,
    DandiSource,
    GroupedSource,
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
    groups_wanted,
)

__all__ = [
    "LATEST",
    "AllenSource",
    "ArchiveSource",
    "CatalogEntry",
    "CrcnsSource",
    "DandiSource",
    "Expectation",
    "GroupedSource",
    "HttpFile",
    "HttpSource",
    "IblSource",
    "ListedSource",
    "LocalSource",
    "OpenNeuroDerivativesSource",
    "OpenNeuroSource",
    "Overlap",
    "Overlaps",
    "Pins",
    "RecordingRule",
    "RegistryFile",
    "RegistrySource",
    "S3Source",
    "Terms",
    "groups_wanted",
    "load_entry",
    "load_overlaps",
    "read_pins",
    "read_yaml",
    "write_pins",
]

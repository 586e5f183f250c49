"""The catalogue: one YAML file per dataset, in git."""

from neurofm.catalog.entry import CatalogEntry, Expectation, LocalSource, RecordingRule, RegistryFile, RegistrySource
from neurofm.catalog.load import load_entry, read_yaml

__all__ = [
    "CatalogEntry",
    "Expectation",
    "LocalSource",
    "RecordingRule",
    "RegistryFile",
    "RegistrySource",
    "load_entry",
    "read_yaml",
]

"""From a manifest to verified files: ask, receive, verify, take out what is wanted, and remember."""

from neurofm.fetch.dataset import dataset_key, fetch_dataset, fetch_some, open_ledger
from neurofm.fetch.files import FetchSummary, fetch_files
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.fetch.ledger import DatasetKey, FileState, Ledger, LedgerRow
from neurofm.fetch.package import is_whole
from neurofm.fetch.registry import package_path

__all__ = [
    "DatasetKey",
    "FetchSite",
    "FetchSummary",
    "FileState",
    "Hosts",
    "Ledger",
    "LedgerRow",
    "dataset_key",
    "fetch_dataset",
    "fetch_files",
    "fetch_some",
    "is_whole",
    "open_ledger",
    "package_path",
]

"""From a manifest to verified files: find, download, verify, take out what is wanted."""

from neurofm.fetch.dataset import FetchSummary, fetch_dataset, package_path
from neurofm.fetch.transfer import is_whole

__all__ = ["FetchSummary", "fetch_dataset", "is_whole", "package_path"]

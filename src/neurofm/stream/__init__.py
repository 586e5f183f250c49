"""Datasets whose raw files are never kept: fetched, preprocessed and removed one recording at a time."""

from neurofm.stream.dataset import refuse_failures, stream_dataset
from neurofm.stream.run import StreamSummary

__all__ = ["StreamSummary", "refuse_failures", "stream_dataset"]

"""The shard contract ``neurofm-recording/1``: write, read, verify."""

from neurofm.shards.read import Shard, read_shard
from neurofm.shards.write import SCHEMA, Provenance, write_shard

__all__ = ["SCHEMA", "Provenance", "Shard", "read_shard", "write_shard"]

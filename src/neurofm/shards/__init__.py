"""The shard contract ``neurofm-recording/1``: write, read, verify."""

from neurofm.shards.read import Moment, Shard, read_shard
from neurofm.shards.write import SCHEMA, Provenance, write_shard

__all__ = ["SCHEMA", "Moment", "Provenance", "Shard", "read_shard", "write_shard"]

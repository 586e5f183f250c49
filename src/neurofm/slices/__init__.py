"""Slices: five minutes of each modality, from shard to scores, small enough to be made again by anybody."""

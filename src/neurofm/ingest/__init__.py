"""Ingest: one recording's files become one shard. The unit of work of the stages `preprocess` and `stream`.

Worker processes import `recording` and nothing else of this room: what fetches and plans takes seconds to load.
"""

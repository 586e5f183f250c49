"""Objectives, the loop, checkpoints."""

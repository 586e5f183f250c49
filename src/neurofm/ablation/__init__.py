"""Ablations: the same training with one part changed, many times over, scored on the same held-out data."""

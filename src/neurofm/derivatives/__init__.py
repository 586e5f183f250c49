"""Derivatives of raw BIDS: each participant is preprocessed as a unit of work, by fMRIPrep in its pinned image."""

"""The two EEG challenges of NeurIPS 2025: a submission is fitted and packed, checked, and its predictions written."""

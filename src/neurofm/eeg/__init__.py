"""EEG, step by step: each step is one module that takes a `State` and its own settings, and returns a `State`."""

from neurofm.eeg.state import State, as_state

__all__ = ["State", "as_state"]

"""Contract: what the organisers of the EEG challenges of 2025 hand over, and what they want back.

From their start kit (github.com/eeg2025/startkit): a zip without folders is unpacked, ``submission.py`` in it is
imported, `Submission(SFREQ, DEVICE)` is made, and each model's `forward` is called, in evaluation mode and without
gradients, on one window at a time.
"""

from __future__ import annotations

RATE_HZ = 100
CHANNELS = 129
"""GSN-HydroCel-128 and its reference Cz, which is flat."""
SAMPLES = 200
"""2 s. Challenge 1: from 0.5 to 2.5 s after a target. Challenge 2: anywhere in a recording."""
SUBMISSION = "submission.py"
WEIGHTS = {1: "weights_challenge_1.pt", 2: "weights_challenge_2.pt"}

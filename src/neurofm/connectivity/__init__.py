"""Connectivity: how the parcels of each fMRI recording correlate, and how much of that follows head motion.

Everything here is measured within one recording, or describes the quality of the whole group for a reader; nothing of
it is fed to training. Tangent space is not among the kinds: its reference is the mean of a group, which is the training
split's to give, so evaluation computes it, fold by fold.
"""

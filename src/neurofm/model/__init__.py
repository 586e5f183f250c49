"""Identity, tokenizers, pooling, backbone, readout, heads: tensors in, tensors out, no files."""

from neurofm.model.core import CoreSettings, LinearCore, Moments, moments, smooth, smooth_scales
from neurofm.model.identity import IDENTITY_FEATURES, identity_features
from neurofm.model.links import Scale, predict, target, to_z
from neurofm.model.losses import LOSSES
from neurofm.model.neurofm import ModelSettings, NeuroFM, Query, Visible
from neurofm.model.statistics import STATISTICS, channel_statistics

__all__ = [
    "IDENTITY_FEATURES",
    "LOSSES",
    "STATISTICS",
    "CoreSettings",
    "LinearCore",
    "ModelSettings",
    "Moments",
    "NeuroFM",
    "Query",
    "Scale",
    "Visible",
    "channel_statistics",
    "identity_features",
    "moments",
    "predict",
    "smooth",
    "smooth_scales",
    "target",
    "to_z",
]

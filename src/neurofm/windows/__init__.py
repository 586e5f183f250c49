"""Shards become windows and batches: roles, normalisers, deterministic sampling."""

from neurofm.windows.masks import channel_groups
from neurofm.windows.normaliser import Normaliser, fit_normaliser
from neurofm.windows.settings import WindowSettings, WindowsSettings
from neurofm.windows.tiles import Tile, tiles
from neurofm.windows.view import RecordingView, load_view, load_views

__all__ = [
    "Normaliser",
    "RecordingView",
    "Tile",
    "WindowSettings",
    "WindowsSettings",
    "channel_groups",
    "fit_normaliser",
    "load_view",
    "load_views",
    "tiles",
]

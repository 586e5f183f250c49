"""Docker, podman and apptainer behind one call: a pinned image, few mounts, limits, and nothing left behind."""

from neurofm.containers.ending import Ending
from neurofm.containers.engine import Engine, find_engine
from neurofm.containers.image import Image, find_image
from neurofm.containers.job import Job, Limits, Mount
from neurofm.containers.pins import Pin, read_pins
from neurofm.containers.run import run
from neurofm.containers.settings import INSIDE, ContainersSite, EngineName, image_inside

__all__ = [
    "INSIDE",
    "ContainersSite",
    "Ending",
    "Engine",
    "EngineName",
    "Image",
    "Job",
    "Limits",
    "Mount",
    "Pin",
    "find_engine",
    "find_image",
    "image_inside",
    "read_pins",
    "run",
]

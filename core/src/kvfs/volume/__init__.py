"""The volume: drivers, services and their life, made from one configuration."""

from kvfs.tarballs.observers import Observer
from kvfs.volume.settings import Choice, VolumeConfig, VolumeSettings, from_file, from_tables
from kvfs.volume.volume import Volume

__all__ = [
    "Choice",
    "Observer",
    "Volume",
    "VolumeConfig",
    "VolumeSettings",
    "from_file",
    "from_tables",
]

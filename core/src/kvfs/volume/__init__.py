"""The volume: drivers, services and their life, made from one configuration."""

from kvfs.tarballs.observers import Observer
from kvfs.volume.locking import Locking, name_mount
from kvfs.volume.settings import (
    Choice,
    LockScope,
    VolumeConfig,
    VolumeSettings,
    from_file,
    from_tables,
)
from kvfs.volume.volume import Volume

__all__ = [
    "Choice",
    "LockScope",
    "Locking",
    "Observer",
    "Volume",
    "VolumeConfig",
    "VolumeSettings",
    "from_file",
    "from_tables",
    "name_mount",
]

"""What a binding to the kernel needs besides the protocol: for other bindings than this one.

Mounts and their ends, signals, the log's complaints and the form of the file system are the same
whoever speaks the protocol: ``kvfs-frontend-pyfuse3`` takes them from here.
"""

from __future__ import annotations

from kvfs_frontend_fuse._settings import FuseSettings
from kvfs_frontend_fuse.mounting.mount import Mount, mount_at
from kvfs_frontend_fuse.protocol.operations import FilesAPI
from kvfs_frontend_fuse.protocol.wire import Opcode
from kvfs_frontend_fuse.serving.complaints import Complaints
from kvfs_frontend_fuse.serving.ending import MountFrontend, Service, prompt_interpreter, signals
from kvfs_frontend_fuse.serving.session import VolumeAPI

__all__ = [
    "Complaints",
    "FilesAPI",
    "FuseSettings",
    "Mount",
    "MountFrontend",
    "Opcode",
    "Service",
    "VolumeAPI",
    "mount_at",
    "prompt_interpreter",
    "signals",
]

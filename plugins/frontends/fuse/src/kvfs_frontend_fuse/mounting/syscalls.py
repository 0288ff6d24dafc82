"""mount(2) and umount2(2), which Python does not have, through the C library.

Constants: ``include/uapi/linux/mount.h``, ``include/linux/fs.h``.
"""

from __future__ import annotations

import ctypes
import os
from enum import IntFlag
from functools import cache


class MountFlag(IntFlag):
    """Flags of mount(2)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4


class UnmountFlag(IntFlag):
    """Flags of umount2(2)."""

    DETACH = 2
    NOFOLLOW = 8


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    path = ctypes.c_char_p
    libc.mount.argtypes = (path, path, path, ctypes.c_ulong, path)
    libc.umount2.argtypes = (path, ctypes.c_int)
    return libc


def _check(result: int, path: bytes) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path))


def mount(source: bytes, target: bytes, *, fstype: bytes, flags: MountFlag, data: bytes) -> None:
    """mount(2); lets other threads run meanwhile.

    :raises OSError: with the errno of the call.
    """
    _check(_libc().mount(source, target, fstype, int(flags), data), target)


def umount2(target: bytes, flags: UnmountFlag) -> None:
    """umount2(2); lets other threads run meanwhile.

    :raises OSError: with the errno of the call.
    """
    _check(_libc().umount2(target, int(flags)), target)

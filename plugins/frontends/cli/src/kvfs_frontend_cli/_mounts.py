"""Mounts by the kernel's account, where the FUSE frontend is installed."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from threading import Thread

ANSWER_TIMEOUT_S = 2.0
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


def dead_mounts(known: Collection[str]) -> list[tuple[str, str]]:
    """(mount point, volume's name) of every KVFS whose server is gone, but for those ``known``.

    What other users serve is alive, and none of our business.
    """
    try:
        from kvfs_frontend_fuse import mounts
    except ImportError:
        return []
    found = {str(mount.mount_point): mount.source for mount in mounts()}
    return [(path, name) for path, name in found.items() if path not in known and _is_dead(path)]


def _is_dead(path: str) -> bool:
    """Does every request fail?  One that hangs is not dead."""
    seen: list[int | None] = []

    def ask() -> None:
        try:
            os.statvfs(path)
        except OSError as error:
            seen.append(error.errno)

    # In a thread, because a server that hangs must not hang whoever asks.
    asker = Thread(target=ask, daemon=True, name="statvfs")
    asker.start()
    asker.join(ANSWER_TIMEOUT_S)
    return any(number in _DEAD for number in seen)

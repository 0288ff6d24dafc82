"""``kvfs umount``"""

from __future__ import annotations

import os
import select
import signal
from typing import Annotated

from cyclopts import Parameter

from kvfs.errors import Conflict, NotFound
from kvfs.frontend import Frontend
from kvfs.volume.settings import DEFAULT_FRONTEND, choose
from kvfs_frontend_cli import _runtime

WAIT_S = 60.0
"""How long a daemon may take to bring its cache to the disk."""
FORCED_WAIT_S = 10.0


def umount(
    target: str,
    /,
    *,
    force: Annotated[
        bool,
        Parameter(name=("-f", "--force"), help="Even while it is in use: open files fail then."),
    ] = False,
) -> None:
    """Unmount, and wait until its daemon has closed the cache and ended.

    A mount whose daemon was killed needs no force.

    :param target: The mount point.
    """
    # A mount that answers nobody, for lack of its engine's server, must not be asked.
    path = os.path.abspath(target)
    record = _runtime.find(path)
    if record is None:
        path = os.path.realpath(target)
        record = _runtime.find(path)
    frontend = _frontend(record)
    if record is None:
        frontend.release(path, force=force)
        return
    if force:
        # A daemon that is told to end detaches what is in use by itself, and lets go of it.
        if _signal(record) and _wait(record, FORCED_WAIT_S):
            return
        try:
            frontend.release(path, force=True)
        except NotFound:
            pass
    else:
        frontend.release(path)
    if not _wait(record, FORCED_WAIT_S if force else WAIT_S):
        raise Conflict(
            f"{path} is unmounted, but its daemon, process {record.pid}, has not ended yet: "
            "the cache is still open",
            retryable=True,
        )


def _frontend(record: _runtime.MountRecord | None) -> Frontend:
    table = {"driver": DEFAULT_FRONTEND}
    if record is not None:
        table = record.tables.get("frontend", {}) | {"driver": record.frontend}
    choice = choose("frontend", table)
    frontend: Frontend = choice.info.load()(choice.settings)
    return frontend


def _pidfd(record: _runtime.MountRecord) -> int | None:
    """A descriptor of the daemon, which no later process of the same id can take the place of."""
    try:
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    if record.is_alive:
        return descriptor
    os.close(descriptor)
    return None


def _signal(record: _runtime.MountRecord) -> bool:
    descriptor = _pidfd(record)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _wait(record: _runtime.MountRecord, seconds: float) -> bool:
    """Wait for the daemon to end; did it?"""
    descriptor = _pidfd(record)
    if descriptor is None:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)

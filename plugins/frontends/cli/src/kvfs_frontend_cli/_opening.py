"""An open volume for the time of one command."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvfs.capability import KVCapability
from kvfs.errors import Conflict, PermissionDenied
from kvfs.volume import Volume, VolumeConfig
from kvfs_frontend_cli import _runtime
from kvfs_frontend_cli._locate import Located, Place, locate

_OWNER = "kvfs-cache.json"


@contextmanager
def opened(volume: str, place: Place) -> Iterator[Volume]:
    """The volume that the argument means, open and in line with its backing store."""
    located = locate(volume, place)
    with open_located(located) as opened_volume:
        if located.served is None:  # else its daemon keeps it fresh
            opened_volume.refresh()
        yield opened_volume


def open_located(located: Located) -> Volume:
    """Open a volume that was found.

    :raises Conflict: the cache given is that of another volume, or the engine is for one process
        and that of a mount has it.
    """
    refuse_second(located)
    claim(located)
    return Volume(located.config)


def is_for_one_process(config: VolumeConfig) -> bool:
    """Does the engine keep all other processes out, or show them something else?"""
    kv = config.kv.info.capability
    assert isinstance(kv, KVCapability)
    return not (kv.persistent and kv.multi_process_read and kv.multi_process_write)


def refuse_second(located: Located) -> None:
    """Leave a mount alone whose engine is for one process.

    Some engines refuse a second process by themselves; others shut out the first.

    :raises Conflict: there is such a mount of the volume.
    """
    kv = located.config.kv.info
    assert isinstance(kv.capability, KVCapability)
    if not is_for_one_process(located.config) or not kv.capability.persistent:
        return
    for record in _runtime.records():
        if record.pid != os.getpid() and record.tables.get("kv") == located.tables["kv"]:
            raise Conflict(
                f"{located.origin} is mounted at {record.target}, and its engine, {kv.name}, is "
                f"for one process: use the files there, or first: kvfs umount {record.target}"
            )


def claim(located: Located) -> None:
    """Make the cache, closed to other users, and see that it is of this volume.

    It holds files whose permissions only the mounted file system knows.

    :raises Conflict: it is the cache of another volume.
    :raises PermissionDenied: it cannot be made.
    """
    if located.cache is not None:
        _claim(located.cache, located.origin)


def _claim(cache: Path, origin: str) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.mkdir(mode=0o700, exist_ok=True)
        owner = cache / _OWNER
        if owner.exists():
            found = json.loads(owner.read_bytes())["location"]
            if found != origin:
                raise Conflict(f"{cache} is the cache of {found}: give another with --cache")
            return
        draft = owner.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps({"location": origin}))
        draft.replace(owner)
    except OSError as error:
        raise PermissionDenied(
            f"the cache {cache} cannot be made: {error.strerror} (choose a place with --cache)"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Conflict(f"{cache / _OWNER} is not a file of kvfs") from error

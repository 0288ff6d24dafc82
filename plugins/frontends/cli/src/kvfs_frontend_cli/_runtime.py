"""What this user has mounted: one small file per mount, which its daemon writes.

The files lie in ``$XDG_RUNTIME_DIR/kvfs``, ``/run/user/UID/kvfs`` or ``/tmp/kvfs-UID``, whichever
comes first, in a directory that belongs to the user and is closed to others: they hold the
configuration, secrets included, so that every command takes a mount point for a volume.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from kvfs.errors import PermissionDenied
from kvfs.tarballs import holders

FORMAT = 1
_RECORD_BYTES_MAX = 1 << 20


@attrs.frozen(kw_only=True)
class MountRecord:
    """One mount."""

    target: str
    """The mount point, resolved; or what else the frontend serves at."""
    holder: str
    """The process that serves it, as :mod:`kvfs.tarballs.holders` names it."""
    since_ns: int
    frontend: str
    """The driver."""
    volume: str
    """The volume's name."""
    origin: str
    """What was given as VOLUME, resolved."""
    tables: dict[str, Any]
    """The configuration, as TOML has it."""
    log: str | None
    format: int = FORMAT

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return holders.pid_of(self.holder)

    @property
    def is_alive(self) -> bool:
        """Is the server still there?"""
        return holders.is_alive(self.holder)

    @property
    def age_s(self) -> float:
        """How long it has been mounted, in seconds."""
        return max(0.0, (time.time_ns() - self.since_ns) / 1e9)


def _candidates() -> list[Path]:
    uid = os.geteuid()
    places = [Path(f"/run/user/{uid}"), Path(f"/tmp/kvfs-{uid}")]
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and os.path.isabs(given):
        places.insert(0, Path(given))
    return [place if place.name.startswith("kvfs-") else place / "kvfs" for place in places]


def _is_private(directory: Path) -> bool:
    """Is it a directory of this user that nobody else can enter?  A link is none."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not stat.S_IMODE(found.st_mode) & 0o077
    )


def directory() -> Path:
    """Where this process leaves its files; made if need be.

    :raises PermissionDenied: there is no place that belongs to this user alone.
    """
    candidates = _candidates()
    for candidate in candidates:
        try:
            candidate.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        if _is_private(candidate):
            return candidate
    raise PermissionDenied(
        f"none of {', '.join(map(str, candidates))} is a directory of this user alone: "
        "set XDG_RUNTIME_DIR to one"
    )


def stem(target: str) -> str:
    """What the files of one mount are called, without suffix."""
    return hashlib.sha256(os.fsencode(target)).hexdigest()[:16]


def write(record: MountRecord) -> Path:
    """Leave the record of a mount, replacing an earlier one of the same target; its path."""
    path = directory() / f"{stem(record.target)}.json"
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:
        json.dump(attrs.asdict(record), file, default=str)
    draft.replace(path)
    return path


def _read(path: Path) -> MountRecord | None:
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(_RECORD_BYTES_MAX))
        return MountRecord(**fields) if fields["format"] == FORMAT else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _files() -> Iterator[Path]:
    for place in dict.fromkeys(_candidates()):
        if _is_private(place):
            yield from sorted(place.glob("*.json"))


def records() -> list[MountRecord]:
    """The mounts of this user whose server is alive, oldest first; the files of others go."""
    found = []
    for path in _files():
        record = _read(path)
        if record is not None and record.is_alive:
            found.append(record)
        else:
            forget(path)
    return sorted(found, key=lambda record: record.since_ns)


def find(target: str) -> MountRecord | None:
    """The live mount at ``target`` (a resolved path)."""
    return next((record for record in records() if record.target == target), None)


def socket_of(record: MountRecord) -> Path:
    """Where the server of a mount answers questions."""
    name = f"{stem(record.target)}.sock"
    for place in _candidates():
        if _is_private(place) and (place / name).exists():
            return place / name
    return directory() / name


def forget(path: Path) -> None:
    """Remove the record at ``path`` and what lies beside it."""
    for suffix in (".json", ".sock"):
        path.with_suffix(suffix).unlink(missing_ok=True)

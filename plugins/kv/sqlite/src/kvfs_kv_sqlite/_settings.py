"""What can be set in the ``[kv]`` table, and what the engine can do."""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.config import Bytes, Seconds, setting

RECORD_HEADER_BYTES = 128
"""What the file system model stores before the contents of an inline file."""

CAPABILITY = KVCapability(
    durability=Durability.POWER,
    key_bytes_max=1 << 16,
    value_bytes_max=1 << 29,
    scan_can_reverse=True,
    snapshot=True,
    thread_safe=True,
    multi_process_read=True,
    multi_process_write=True,
    inline_bytes_best=(64 << 10) - RECORD_HEADER_BYTES,
    extent_bytes_best=128 << 10,
    commit_bytes_best=8 << 20,
)
"""Of every store, for whatever durability it was opened: each commit says what it waits for.

Chosen from a sweep over values of 100 bytes to 128 KiB and batches of 1 to 32 MiB.  A value is
found once and then read from the pages behind, so contents of up to 64 KiB are kept with their
inode.  Bytes written for each byte stored fall with the size of the batch, by 5 % from 1 to 8 MiB
and hardly any more from there on.
"""


@attrs.frozen(kw_only=True)
class SQLiteSettings:
    """Settings of the SQLite engine."""

    path: Path = setting(help="directory that holds the stores, one folder each")
    cache_bytes: Bytes = setting(
        Bytes(8 << 20), help="page cache of each connection; a reading thread or view has one"
    )
    wal_bytes: Bytes = setting(
        Bytes(64 << 20), help="size of the write-ahead log at which it is moved to the database"
    )
    busy_timeout_s: Seconds = setting(
        Seconds(60.0), help="how long to wait for other processes before a call is given up"
    )
    disk_reserve_bytes: Bytes = setting(
        Bytes(128 << 20), help="free disk that is left to deletes and to the log: puts end before"
    )

"""What can be set in the ``[kv]`` table, and what the engine can do."""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.config import Bytes, setting

PAGE_BYTES = 4096
"""LMDB's page on the platforms that KVFS runs on (that of the operating system)."""
PAGE_HEADER_BYTES = {"0.9": 16, "1.0": 24}
"""By LMDB version.  A value on pages of its own begins behind one page header, so ``n`` pages hold
``n * PAGE_BYTES`` less a header of it (``OVPAGES`` in LMDB's mdb.c)."""
INLINE_PAGES = 16
"""Where inline contents end: at 64 KiB less the headers."""
RECORD_HEADER_BYTES = 128
"""What the file system model stores before the contents of an inline file."""

CAPABILITY = KVCapability(
    durability=Durability.POWER,
    key_bytes_max=511,
    value_bytes_max=1 << 30,
    scan_can_reverse=True,
    snapshot=True,
    buffers=True,
    thread_safe=True,
    multi_process_read=True,
    multi_process_write=True,
    inline_bytes_best=INLINE_PAGES * PAGE_BYTES - PAGE_HEADER_BYTES["0.9"] - RECORD_HEADER_BYTES,
    extent_bytes_best=128 << 10,
    commit_bytes_best=16 << 20,
)
"""At its best; an open store has a record of its own."""


def capability_of(lib_version: str, durability: Durability) -> KVCapability:
    """What a store of that LMDB version, opened for that durability, can do."""
    header = PAGE_HEADER_BYTES[lib_version]
    inline = INLINE_PAGES * PAGE_BYTES - header - RECORD_HEADER_BYTES
    return attrs.evolve(CAPABILITY, durability=durability, inline_bytes_best=inline)


@attrs.frozen(kw_only=True)
class LMDBSettings:
    """Settings of the LMDB engine."""

    path: Path = setting(help="directory that holds the stores, one folder each")
    map_size: Bytes = setting(
        Bytes(1 << 40), help="most that one store can grow to; address space, not disk"
    )
    lib_version: str = setting("0.9", help="LMDB version of a new store: 0.9 or 1.0")
    max_readers: int = setting(1024, help="most read views of a store at once, over all processes")
    resident_bytes_max: Bytes = setting(
        Bytes(96 << 20), help="how much of the memory map may count as resident in this process"
    )

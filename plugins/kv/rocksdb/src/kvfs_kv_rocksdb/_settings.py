"""What can be set in the ``[kv]`` table, and what the engine can do."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.config import Bytes, setting

RECORD_HEADER_BYTES = 128
"""What the file system model stores before the contents of an inline file."""

CAPABILITY = KVCapability(
    durability=Durability.POWER,
    key_bytes_max=1 << 16,
    value_bytes_max=1 << 30,
    scan_can_reverse=True,
    snapshot=True,
    thread_safe=True,
    inline_bytes_best=(64 << 10) - RECORD_HEADER_BYTES,
    extent_bytes_best=128 << 10,
    commit_bytes_best=4 << 20,
)
"""At its best; a store opened for durability ``memory`` has no log and reaches no more.

Chosen from a sweep over values of 100 bytes to 256 KiB and batches of 1 to 16 MiB.  Bytes written
for each byte stored are the same for all of these, so contents of up to 64 KiB are kept with their
inode, where one read finds both.  Batches: rocksdict holds the interpreter lock while it writes
one, some milliseconds a MiB, in which no other thread of the process answers.
"""


class Compression(Enum):
    """How tables and blob files are compressed."""

    NONE = "none"
    LZ4 = "lz4"
    ZSTD = "zstd"


@attrs.frozen(kw_only=True)
class RocksDBSettings:
    """Settings of the RocksDB engine.  Sizes of memory are those of one store; a volume has two."""

    path: Path = setting(help="directory that holds the stores, one folder each")
    compression: Compression = setting(
        Compression.LZ4, help="of what is on disk; what is there already is read however it is"
    )
    blob_bytes_min: Bytes = setting(
        Bytes(4096),
        help="values from here on lie outside the tree, which is not rewritten with them",
    )
    block_cache_bytes: Bytes = setting(
        Bytes(64 << 20), help="memory for blocks that were read, with their indexes and filters"
    )
    write_buffer_bytes: Bytes = setting(
        Bytes(32 << 20),
        help="memory that collects writes before they are sorted out; twice at most",
    )
    bloom_bits: int = setting(
        10, help="bits of filter per key, which spare reads for absent keys; 0: no filter"
    )
    open_files_max: int = setting(512, help="most files that a store has open; at least 32")
    background_jobs: int = setting(2, help="threads that write buffers out and merge tables")
    disk_reserve_bytes: Bytes = setting(
        Bytes(256 << 20), help="free disk that is left to deletes and to merging: puts end before"
    )

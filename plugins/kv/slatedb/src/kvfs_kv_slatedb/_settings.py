"""What can be set in the ``[kv]`` table, and what the engine can do."""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.config import Bytes, Seconds, setting

CAPABILITY = KVCapability(
    durability=Durability.POWER,
    key_bytes_max=65_535,
    value_bytes_max=256 << 20,
    scan_can_reverse=True,
    snapshot=True,
    thread_safe=True,
    is_network=True,
    inline_bytes_best=64 << 10,
    extent_bytes_best=256 << 10,
    commit_bytes_best=16 << 20,
)
"""In a bucket.  An object is there whole and for good once the store has acknowledged it."""

FILE_CAPABILITY = attrs.evolve(CAPABILITY, durability=Durability.PROCESS, is_network=False)
"""In a directory.  SlateDB never calls fsync, and takes a file that exists for one that is whole:
a power cut may tear the store, so nothing here is declared to survive one."""

MEMORY_CAPABILITY = attrs.evolve(
    CAPABILITY, durability=Durability.MEMORY, is_network=False, persistent=False
)


@attrs.frozen(kw_only=True)
class SlateDBSettings:
    """Settings of the SlateDB engine."""

    url: str = setting(
        help="where the stores are: s3://bucket/prefix, file:///directory or memory:///"
    )
    endpoint: str | None = setting(
        None, help="address of an S3 service other than Amazon's, as https://host:port"
    )
    region: str | None = setting(None, help="region of the bucket; otherwise AWS_REGION")
    access_key_id: str | None = setting(
        None, help="S3 access key; otherwise AWS_ACCESS_KEY_ID or the machine's role"
    )
    secret_access_key: str | None = setting(
        None, secret=True, help="its secret; otherwise AWS_SECRET_ACCESS_KEY"
    )
    session_token: str | None = setting(
        None, secret=True, help="token of temporary credentials; otherwise AWS_SESSION_TOKEN"
    )
    timeout: Seconds = setting(
        Seconds(60.0), help="how long a call waits for an object store that does not answer"
    )
    flush_interval: Seconds = setting(
        Seconds(0.1), help="commits that nobody waits for are uploaded after so long"
    )
    cache_bytes: Bytes = setting(
        Bytes(256 << 20), help="memory of each store for blocks that were read"
    )
    unflushed_bytes_max: Bytes = setting(
        Bytes(256 << 20),
        help="memory of each store for what is not uploaded yet; then writers wait",
    )
    disk_cache: Path | None = setting(
        None, help="directory of a local copy of what was read; none by default"
    )
    disk_cache_bytes: Bytes = setting(Bytes(16 << 30), help="how large disk_cache may get")

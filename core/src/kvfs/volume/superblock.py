"""The superblock: what is settled when a volume is made and cannot change."""

from __future__ import annotations

import json
import secrets
import uuid

import attrs

from kvfs.errors import Corrupt, Unsupported
from kvfs.files.records import CONTENT_IN_INODE, FORMAT, HASH_BITS, volume_key
from kvfs.kv import KVStore

KEY = volume_key("superblock")


@attrs.frozen(kw_only=True)
class Superblock:
    """One record, as JSON."""

    format: int
    uuid: str
    hash_seed: int
    """Of xxh3-64 over names."""
    hash_bits: int
    inline_bytes: int
    """Contents up to here are kept in the inode record."""
    extent_bytes: int
    sealed: int = 1
    """Which sealed store is in use; a new one is begun after a power cut."""

    def pack(self) -> bytes:
        """As stored."""
        return json.dumps(attrs.asdict(self)).encode()

    @property
    def sealed_store(self) -> str:
        """The name of the sealed store."""
        return f"sealed-{self.sealed}"


def read(state: KVStore) -> Superblock | None:
    """The superblock of a volume, ``None`` if there is no volume yet.

    :raises Unsupported: it was made by another version.
    :raises Corrupt: it cannot be read.
    """
    raw = state.get(KEY)
    if raw is None:
        return None
    try:
        fields = json.loads(raw)
        found = fields["format"]
        if found == FORMAT:
            return Superblock(**fields)
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"{state.name}: the superblock cannot be read: {raw[:80]!r}") from error
    raise Unsupported(
        f"{state.name}: the volume has format {found}, this version of kvfs reads format {FORMAT}"
    )


def create(state: KVStore, *, hash_bits: int = HASH_BITS) -> Superblock:
    """Make the superblock of a new volume.  :raises Conflict: another process made it first."""
    capability = state.capability
    # A batch holds some other records too.
    value_bytes_max = min(
        capability.value_bytes_max, (capability.batch_bytes_max or capability.value_bytes_max) // 4
    )
    superblock = Superblock(
        format=FORMAT,
        uuid=str(uuid.uuid4()),
        hash_seed=secrets.randbits(64),
        hash_bits=hash_bits,
        inline_bytes=min(capability.inline_bytes_best, value_bytes_max - CONTENT_IN_INODE),
        extent_bytes=min(capability.extent_bytes_best, value_bytes_max),
    )
    state.create(KEY, superblock.pack())
    return superblock

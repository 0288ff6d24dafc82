"""What a volume needs of an engine: limits below which it does not fit in, and abilities."""

from __future__ import annotations

from kvfs.backing.scratch import SCRATCH
from kvfs.capability import KVCapability
from kvfs.errors import Unsupported
from kvfs.files.records import NAME_BYTES_MAX, xattr_key
from kvfs.kv import KVStore
from kvfs.volume.settings import LockScope, VolumeConfig

KEY_BYTES = len(xattr_key(0, b"")) + NAME_BYTES_MAX
"""The longest key: that of an extended attribute."""
VALUE_BYTES = (64 << 10) + 1
"""The largest value that cannot be cut into several: an extended attribute over a tarball."""
BATCH_OPS = 32
"""An object taken over into the namespace, or a member with all that hangs on it."""
BATCH_BYTES = 512 << 10
"""Four of the largest values, and a record of the catalogue with the longest of names."""


def check(capability: KVCapability, *, name: str) -> None:
    """Refuse an engine that takes less than a volume needs.

    :param name: what the error calls the engine.
    :raises Unsupported: says what is too small.
    """
    for what, given, needed in (
        ("keys of", capability.key_bytes_max, KEY_BYTES),
        ("values of", capability.value_bytes_max, VALUE_BYTES),
        ("batches of", capability.batch_bytes_max, BATCH_BYTES),
    ):
        if given is not None and given < needed:
            raise Unsupported(f"{name}: {what} {given} bytes are too small for a volume ({needed})")
    ops = capability.batch_ops_max
    if ops is not None and ops < BATCH_OPS:
        raise Unsupported(
            f"{name}: batches of {ops} operations are too small for a volume ({BATCH_OPS})"
        )


def check_settings(config: VolumeConfig, state: KVStore) -> None:
    """Refuse settings that ask for what an engine, or a volume of tarballs, does not do.

    :raises Unsupported: says which.
    """
    volume, capability = config.volume, state.capability
    if volume.shared and volume.writable and config.backing.info.name != SCRATCH:
        raise Unsupported(
            f"{volume.name}: what is in tarballs cannot be changed by several at once: [volume] "
            "shared and writable exclude each other where there is a backing store"
        )
    if volume.shared and not (capability.is_network and capability.multi_process_write):
        raise Unsupported(f"{state.name}: [volume] shared needs an engine that a server keeps")
    clustered = volume.locks is not LockScope.HOST
    if clustered and not (capability.is_network and capability.thread_safe):
        raise Unsupported(
            f'{state.name}: [volume] locks = "cluster" needs an engine that a server keeps'
        )

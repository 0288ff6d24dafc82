"""Capability records: what a driver can do and how much it takes.

One flat frozen record per driver (the idea of Apache OpenDAL).  The portable types check it before
any I/O and refuse with :class:`~kvfs.errors.Unsupported`, the conformance kit selects its tests by
it, and the tables in the docs are printed from it.  Nothing that is declared absent is emulated.
"""

from __future__ import annotations

from enum import IntEnum

import attrs


class Durability(IntEnum):
    """What a write survives once it is acknowledged.  A higher level includes the lower."""

    MEMORY = 0
    """Nothing: gone with the process."""
    PROCESS = 1
    """A killed process, not a power cut."""
    POWER = 2
    """A power cut."""


@attrs.frozen(kw_only=True)
class KVCapability:
    """What an ordered key-value engine can do.  Sizes in bytes; ``None`` means no limit known."""

    durability: Durability = attrs.field(
        metadata={"help": "the highest level that a commit can reach"}
    )
    key_bytes_max: int = attrs.field(metadata={"help": "longest key"})
    value_bytes_max: int = attrs.field(metadata={"help": "longest value"})
    writable: bool = attrs.field(default=True, metadata={"help": "records can be written"})
    batch_ops_max: int | None = attrs.field(
        default=None, metadata={"help": "most guards, puts, deletes and ranges in one batch"}
    )
    batch_bytes_max: int | None = attrs.field(
        default=None, metadata={"help": "most bytes of keys and values in one batch"}
    )
    scan_can_reverse: bool = attrs.field(
        default=False, metadata={"help": "scans run from high keys to low"}
    )
    snapshot: bool = attrs.field(
        default=False, metadata={"help": "a read view shows one instant, scans included"}
    )
    buffers: bool = attrs.field(
        default=False, metadata={"help": "a read view hands out the engine's memory, uncopied"}
    )
    thread_safe: bool = attrs.field(
        default=False, metadata={"help": "one open store serves many threads"}
    )
    multi_process_read: bool = attrs.field(
        default=False, metadata={"help": "other processes may read while one writes"}
    )
    multi_process_write: bool = attrs.field(
        default=False, metadata={"help": "several processes may write, guards hold between them"}
    )
    fork_safe: bool = attrs.field(
        default=False, metadata={"help": "an open store may be used after fork"}
    )
    watch: bool = attrs.field(default=False, metadata={"help": "changes can be watched"})
    ttl: bool = attrs.field(default=False, metadata={"help": "records can expire by themselves"})
    is_network: bool = attrs.field(default=False, metadata={"help": "a server answers"})
    persistent: bool = attrs.field(
        default=True, metadata={"help": "a store opened again holds what it held"}
    )
    inline_bytes_best: int = attrs.field(
        default=4096, metadata={"help": "contents up to here are best kept in the inode record"}
    )
    extent_bytes_best: int = attrs.field(
        default=131072, metadata={"help": "best size of the extents of larger files"}
    )
    commit_bytes_best: int = attrs.field(
        default=16 << 20, metadata={"help": "how much a bulk writer should put in one batch"}
    )


@attrs.frozen(kw_only=True)
class BackingCapability:
    """What a store of objects can do.  Sizes in bytes; ``None`` means no limit known."""

    writable: bool = attrs.field(default=True, metadata={"help": "objects can be written"})
    conditional_create: bool = attrs.field(
        default=False, metadata={"help": "create only if absent, atomically"}
    )
    conditional_replace: bool = attrs.field(
        default=False,
        metadata={"help": "replace or delete only if the version matches, atomically"},
    )
    list_is_sorted: bool = attrs.field(
        default=True, metadata={"help": "listings come in byte order of the UTF-8 names"}
    )
    strong_version: bool = attrs.field(
        default=False, metadata={"help": "different contents always have different versions"}
    )
    free_space: bool = attrs.field(default=False, metadata={"help": "free space is known"})
    thread_safe: bool = attrs.field(
        default=True, metadata={"help": "one open store serves many threads"}
    )
    is_network: bool = attrs.field(default=False, metadata={"help": "a server answers"})
    persistent: bool = attrs.field(
        default=True, metadata={"help": "a store opened again holds what it held"}
    )
    name_bytes_max: int = attrs.field(
        default=1024, metadata={"help": "longest object name, as UTF-8"}
    )
    object_bytes_max: int | None = attrs.field(default=None, metadata={"help": "largest object"})


@attrs.frozen(kw_only=True)
class FrontendCapability:
    """What a way in can do."""

    needs_target: bool = attrs.field(
        default=True, metadata={"help": "serves at a target, as a mount point or an address"}
    )
    writable: bool = attrs.field(
        default=False, metadata={"help": "files can be changed through it"}
    )
    platforms: tuple[str, ...] = attrs.field(
        default=("linux",), metadata={"help": "where it runs (values of sys.platform)"}
    )


Capability = KVCapability | BackingCapability | FrontendCapability


def describe(capability: Capability) -> list[tuple[str, str, str]]:
    """The record as (field, value, help) rows, for tables and ``kvfs drivers``."""
    rows = []
    for field in attrs.fields(type(capability)):
        value = getattr(capability, field.name)
        if isinstance(value, Durability):
            text = value.name.lower()
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        elif isinstance(value, tuple):
            text = ", ".join(value)
        else:
            text = "-" if value is None else str(value)
        rows.append((field.name, text, field.metadata["help"]))
    return rows

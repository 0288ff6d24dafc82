"""Where in its directory a name is kept: hash64(name), and probing where hashes collide (K058)."""

from __future__ import annotations

from collections.abc import Callable

from xxhash import xxh3_64_intdigest

from kvfs.errors import Exhausted
from kvfs.files.records import (
    DIRENT_TRAILER_BYTES,
    FIRST_SLOT,
    HASH_BITS,
    NAME_IN_RECORD,
    PAD,
    PROBES_MAX,
    REMOVED_DIRENT,
    dirent_key,
)
from kvfs.kv import Buffer


class ChainTooLong(Exhausted):
    """So many names of one directory collide that the search for one more is given up.

    A type of its own, because :class:`~kvfs.errors.Exhausted` may also come from the engine.
    """


class NameHash:
    """The home slot of a name: xxh3-64, seeded per volume so that nobody can craft collisions.

    :param bits: how many bits of the hash count.  Fewer than the default makes collisions common,
        which is how they are tested.
    """

    def __init__(self, seed: int, bits: int = HASH_BITS) -> None:
        assert 0 < bits <= HASH_BITS
        self.seed = seed
        self.bits = bits
        self._shift = 64 - bits

    def slot(self, name: bytes) -> int:
        """The slot at which the search for ``name`` starts; later ones follow by steps of one."""
        return (xxh3_64_intdigest(name, self.seed) >> self._shift) + FIRST_SLOT


def remains_of(get: Callable[[bytes], Buffer | None], parent: int, slot: int) -> bytes | None:
    """What is to stand where a name is removed: nothing, or a record that keeps its place.

    Chains of colliding names end at the first gap, so none may be torn into them.
    """
    return None if get(dirent_key(parent, slot + 1)) is None else REMOVED_DIRENT


def locate(
    get: Callable[[bytes], Buffer | None], parent: int, home: int, name: bytes
) -> tuple[int, Buffer | None]:
    """The slot of ``name`` and its record, or the free slot that it would take and ``None``.

    :param get: reads a record by its key.
    :param home: the slot that :meth:`NameHash.slot` gives for the name.
    :raises ChainTooLong: too many names collide.
    """
    padded = name + PAD[len(name) & 7]
    for slot in range(home, home + PROBES_MAX):
        record = get(dirent_key(parent, slot))
        if record is None or record[NAME_IN_RECORD:-DIRENT_TRAILER_BYTES] == padded:
            return slot, record
    raise ChainTooLong(f"more than {PROBES_MAX} names of directory {parent:#x} collide")

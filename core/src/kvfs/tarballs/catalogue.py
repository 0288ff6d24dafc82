"""The catalogue: which tarballs the backing store holds, and where each is in its life.

A record is keyed by the tarball's id: 24 bits of the hash of its object's name, the next free id
where hashes collide.  Every change of state is one batch guarded by the record as it was read, so
of several threads or processes that try, one succeeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import attrs
from xxhash import xxh3_64_intdigest

from kvfs.backing import ObjectInfo
from kvfs.errors import Conflict, Corrupt, Exhausted
from kvfs.files.records import (
    ID_BITS,
    ID_MAX,
    ROOT_NUMBER,
    catalogue_key,
    inode_of,
    tree_of,
)
from kvfs.kv import Batch, Buffer, KVStore, prefix_end

PROBES_MAX = 1 << 12


CHANGED_UNDER = (
    "its object in the store was replaced or removed while it has changes here that the store does "
    "not have; it stays as it is here"
)


class State(StrEnum):
    """Where a tarball is in its life."""

    ABSENT = "absent"
    """Known from the listing; nothing of it is in the sealed store."""
    INGESTING = "ingesting"
    """Members are arriving; a start after a crash rolls this back."""
    SEALED = "sealed"
    """All of it is in the sealed store, and the object is the truth."""
    EVICTING = "evicting"
    """Its records are being removed; a start after a crash goes on."""
    REMOVED = "removed"
    """Gone from the backing store; keeps the place in a chain of colliding ids, and the epoch."""


HALF_DONE = (State.INGESTING, State.EVICTING)
"""States that somebody must be at work in."""


@attrs.frozen(kw_only=True)
class Tarball:
    """One record of the catalogue."""

    object: str
    """Name of the object in the backing store."""
    size: int
    """Of the object, in bytes."""
    mtime_ns: int
    version: str
    """Of the object; a sealed tarball holds this version."""
    parent: int
    """The directory in which it appears, and its slot there."""
    slot: int
    state: State = State.ABSENT
    epoch: int = 0
    """Counts the versions of it that may have been shown; a part of its inode numbers."""
    shown: bool = False
    """Something of this epoch was in the sealed store, so a kernel may remember it."""
    seals: int = 0
    """How often this epoch was sealed."""
    holder: str = ""
    """Who is at work on it."""
    dirty: bool = False
    """It was written to: over what its object holds lies more, which no store has."""
    term: int = 0
    """Theirs, later than those of all before; see :mod:`kvfs.tarballs.fence`."""
    members: int = 0
    content_bytes: int = 0
    compression: str = ""
    root_listed: bool = False
    """The object has a member for the root of its tree."""
    seconds: float = 0.0
    """How long the ingest took."""
    problems: int = 0
    lost: int = 0
    """How many problems mean that something in the object is not served."""
    error: str = ""
    """Why it could not be fetched, the last time that was tried."""

    @property
    def condition(self) -> str:
        """Its state, as people are told: what is written to is "dirty"."""
        return "dirty" if self.dirty and self.state is State.SEALED else self.state.value

    def forgotten(self) -> Tarball:
        """The same object, with nothing of it in the sealed store."""
        return Tarball(
            object=self.object,
            size=self.size,
            mtime_ns=self.mtime_ns,
            version=self.version,
            parent=self.parent,
            slot=self.slot,
            epoch=self.epoch,
            shown=self.shown,
            seals=self.seals,
            dirty=self.dirty,
            # By these it is seen that it comes again as it was.
            members=self.members if self.dirty else 0,
            content_bytes=self.content_bytes if self.dirty else 0,
        )

    def at(self, found: ObjectInfo) -> Tarball:
        """The object as it is found now.

        Another version begins an epoch, unless nobody can have seen anything of this one.
        """
        record = attrs.evolve(self, size=found.size, mtime_ns=found.mtime_ns, version=found.version)
        if found.version == self.version or not self.shown:
            return record
        return attrs.evolve(record, epoch=self.epoch + 1, shown=False, seals=0)

    def gone(self) -> Tarball:
        """What is left of it when its object was removed.

        The epoch is: should the object come back, its inode numbers must be others.
        """
        return Tarball(
            object="",
            size=0,
            mtime_ns=0,
            version="",
            parent=0,
            slot=0,
            state=State.REMOVED,
            epoch=self.epoch,
        )

    def root(self, tarball: int) -> int:
        """The inode number of its root directory; ``tarball`` is its id."""
        return inode_of(tarball, ROOT_NUMBER, self.epoch)

    def tree(self, tarball: int) -> int:
        """The version that it has now, as inode numbers begin with it; ``tarball`` is its id."""
        return tree_of(tarball, self.epoch)

    def pack(self) -> bytes:
        """As JSON, without what has its default: read by people and seldom by the program."""
        fields: dict[str, Any] = {
            "object": self.object,
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "version": self.version,
            "parent": self.parent,
            "slot": self.slot,
        }
        for name, default in _OPTIONAL:
            value = getattr(self, name)
            if value != default:
                fields[name] = value
        return _encode(fields).encode()

    @classmethod
    def unpack(cls, record: bytes) -> Tarball:
        """Decode; :class:`~kvfs.errors.Corrupt` if it is no record of the catalogue."""
        try:
            fields: dict[str, Any] = json.loads(record)
            if "state" in fields:
                fields["state"] = State(fields["state"])
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise Corrupt(f"not a record of the catalogue: {record[:80]!r}") from error


_OPTIONAL = tuple(
    (field.name, field.default)
    for field in attrs.fields(Tarball)
    if field.default is not attrs.NOTHING
)
_encode = json.JSONEncoder(separators=(",", ":")).encode


def home_id(name: str) -> int:
    """The id at which the search for an object's record starts; never 0, the volume's own."""
    digest = xxh3_64_intdigest(name.encode("utf-8", "surrogateescape"))
    return (digest >> 64 - ID_BITS) or 1


class Catalogue:
    """The records of all tarballs.  Thread-safe."""

    def __init__(self, state: KVStore) -> None:
        self._state = state

    def get(self, tarball: int) -> Tarball | None:
        """The record of an id."""
        raw = self._state.get(catalogue_key(tarball))
        return None if raw is None else Tarball.unpack(raw)

    def locate(
        self, name: str, get: Callable[[bytes], Buffer | None] | None = None
    ) -> tuple[int, Tarball | None]:
        """The id of an object and its record, or the id that it would get and ``None``.

        Under an id that it would get there may be the record of one that was removed.

        :param get: reads a record by its key; by default as it is in the store now.
        """
        get = get or self._state.get
        tarball = home_id(name)
        free: int | None = None
        for _ in range(PROBES_MAX):
            raw = get(catalogue_key(tarball))
            if raw is None:
                return free or tarball, None
            record = Tarball.unpack(bytes(raw))
            if record.object == name:
                return tarball, record
            if record.state is State.REMOVED:
                free = free or tarball
            tarball = tarball % ID_MAX + 1
        raise Exhausted(f"no id is free for {name!r}: a volume holds at most {ID_MAX} tarballs")

    def __iter__(self) -> Iterator[tuple[int, Tarball]]:
        """Every tarball of the store, by id, lazily."""
        return self.without(bytes((ID_MAX >> 3) + 1))

    def without(self, seen: Buffer) -> Iterator[tuple[int, Tarball]]:
        """Every tarball but those whose bit is set in ``seen``, by id, lazily."""
        for key, raw in self._state.scan(b"T", prefix_end(b"T")):
            tarball = int.from_bytes(key[1:], "big")
            if not seen[tarball >> 3] & 1 << (tarball & 7):
                record = Tarball.unpack(raw)
                if record.state is not State.REMOVED:
                    yield tarball, record

    def change(
        self, tarball: int, old: Tarball | None, new: Tarball | None, batch: Batch | None = None
    ) -> None:
        """Replace one record, together with what else is in ``batch``.

        :raises Conflict: the record is not ``old`` any more; nothing was changed.
        """
        batch = Batch() if batch is None else batch
        self.guard(batch, tarball, old)
        key = catalogue_key(tarball)
        if new is None:
            batch.delete(key)
        else:
            batch.put(key, new.pack())
        self._state.commit(batch)

    def guard(self, batch: Batch, tarball: int, record: Tarball | None) -> None:
        """Have ``batch`` applied only if the record of a tarball is still this one.

        :raises Conflict: it is not even now.
        """
        key = catalogue_key(tarball)
        raw = self._state.get(key)
        if (None if raw is None else Tarball.unpack(raw)) != record:
            raise Conflict(f"tarball {tarball:#08x} is not in the state that it was in")
        batch.guard(key, raw)

"""The two ends of a migration: a volume that is read, and one that is not yet one.

**A destination that is not complete** is never taken for a volume.  Before anything else is
written, a superblock of a format that no version reads is put there; it says what the copy is of.
The true one replaces it when everything was compared, and everything else is on the disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.errors import AlreadyExists, Conflict, Corrupt, NotFound, Unsupported
from kvfs.files.records import catalogue_key, volume_key
from kvfs.kv import Batch, Buffer, KVStore, Readable, prefix_end
from kvfs.metrics import Metrics
from kvfs.tarballs import holders
from kvfs.tarballs.catalogue import Catalogue, State
from kvfs.volume import VolumeConfig, demands
from kvfs.volume import superblock as superblocks
from kvfs.volume.superblock import Superblock

STATE = "state"
_SESSIONS = volume_key("session/")
_CATALOGUE = catalogue_key(0)[:1]
_INCOMPLETE = "incomplete-copy (take it up again with --resume, or begin anew with --force)"
_ATTEMPTS = 5

Record = tuple[Buffer, Buffer]
Records = Callable[[str], Iterator[Record]]
"""The records of a store, by its name, in the order of their keys; may be asked for again."""


def open_store(config: VolumeConfig, store: str) -> KVStore:
    """A store as the volume would open it."""
    choice = config.kv
    capability = choice.info.capability
    assert isinstance(capability, KVCapability)
    level = config.volume.durability if store == STATE else Durability.PROCESS
    driver = choice.info.load()(
        choice.settings, store=store, durability=min(level, capability.durability)
    )
    for layer in choice.layers:
        driver = layer.info.wrap_kv(driver, layer.settings, Metrics(), store)
    return KVStore(driver, name=f"{choice.info.name} ({store})")


def is_copied(key: Buffer) -> bool:
    """Does a record belong to the volume, rather than to this place of it?"""
    raw = bytes(key)
    return raw != superblocks.KEY and not raw.startswith(_SESSIONS)


def _users(state: KVStore) -> list[str]:
    """Who has the volume open, as far as can be known from here."""
    found = []
    for holder in _holders(state):
        if holders.is_alive(holder):
            found.append(f"process {holders.pid_of(holder)}")
        elif state.capability.is_network and holders.boot_of(holder) != holders.boot_id():
            found.append("another machine, or this one before it was started anew")
    return found


def _holders(state: KVStore) -> list[str]:
    """The names in the records of those who have the volume open, or had."""
    records = state.scan(_SESSIONS, prefix_end(_SESSIONS))
    return [value.decode().partition("#")[0] for _, value in records]


# -- what is read ----------------------------------------------------------------------------------


@attrs.frozen
class Source:
    """A volume at one instant."""

    name: str
    superblock: Superblock
    records: Records
    counts: Mapping[str, int | None]
    """How many there are, if it is known."""
    longest: Mapping[str, tuple[int, int]]
    """No key and no value of a store is longer."""

    @property
    def stores(self) -> tuple[str, str]:
        """The names of its stores, in the order in which they are moved."""
        return self.superblock.sealed_store, STATE


@contextmanager
def source_of(config: VolumeConfig, *, force: bool = False) -> Iterator[Source]:
    """A volume to read from; of an engine with snapshots it may be in use.

    :param force: read it though somebody may have it open; what changes is found out at the end.
    :raises NotFound: there is no volume.
    :raises Conflict: it is in use and has no snapshots, or tarballs are on their way into it.
    """
    with ExitStack() as stack:
        state = stack.enter_context(open_store(config, STATE))
        superblock = superblocks.read(state)
        if superblock is None:
            raise NotFound(f"{state.name}: there is no volume to copy")
        users = _users(state)
        if _lost_power(state) and not state.capability.is_network:
            raise Conflict(
                f"{state.name}: the machine lost power while the volume was open: "
                "open it once (kvfs info VOLUME), then copy it"
            )
        if users and not state.capability.snapshot and not force:
            raise Conflict(
                f"{state.name}: the volume is in use ({', '.join(users)}), and the engine has no "
                "snapshots: unmount it first"
            )
        sealed = stack.enter_context(open_store(config, superblock.sealed_store))
        views = stack.enter_context(_one_instant(state, sealed, in_use=bool(users)))

        def records(store: str) -> Iterator[Record]:
            scan = views[store == STATE].scan(b"", None)
            return (record for record in scan if store != STATE or is_copied(record[0]))

        limits = (state.capability.key_bytes_max, state.capability.value_bytes_max)
        yield Source(
            name=state.name,
            superblock=superblock,
            records=records,
            longest=dict.fromkeys((superblock.sealed_store, STATE), limits),
            counts={superblock.sealed_store: sealed.stats().keys, STATE: state.stats().keys},
        )


def _lost_power(state: KVStore) -> bool:
    boot = holders.boot_id()
    return any(holders.boot_of(holder) != boot for holder in _holders(state))


@contextmanager
def _one_instant(
    state: KVStore, sealed: KVStore, *, in_use: bool
) -> Iterator[tuple[Readable, Readable]]:
    """Views of *sealed* and *state* that belong together.

    Each step of a tarball's life is one batch in *state*; so if the catalogue was the same before
    and after the view of *sealed* was made, that is what it belongs to.
    """
    for _ in range(_ATTEMPTS):
        with state.snapshot() as before, sealed.snapshot() as contents:
            if not in_use:
                yield contents, before
                return
            with state.snapshot() as after:
                is_same = _same_catalogue(before, after)
            if is_same and _is_at_rest(state):
                yield contents, before
                return
    raise Conflict(f"{state.name}: tarballs are being fetched or dropped: wait, or unmount it")


def _same_catalogue(before: Readable, after: Readable) -> bool:
    end = prefix_end(_CATALOGUE)
    one, other = before.scan(_CATALOGUE, end), after.scan(_CATALOGUE, end)
    for first, second in zip(one, other, strict=False):
        if (bytes(first[0]), bytes(first[1])) != (bytes(second[0]), bytes(second[1])):
            return False
    return next(one, None) is None and next(other, None) is None


def _is_at_rest(state: KVStore) -> bool:
    return all(
        record.state not in (State.INGESTING, State.EVICTING) for _, record in Catalogue(state)
    )


# -- what is written -------------------------------------------------------------------------------


@attrs.define
class Destination:
    """The stores of a volume to be."""

    config: VolumeConfig
    state: KVStore
    sealed: KVStore
    superblock: Superblock
    may_hold_records: bool
    """Else there is nothing to compare with."""

    def store(self, name: str) -> KVStore:
        """One of them."""
        return self.state if name == STATE else self.sealed

    def takes(self, name: str, key_bytes: int, value_bytes: int) -> bool:
        """Does the engine take a record of this size?"""
        return self._excess(name, key_bytes, value_bytes) is None

    def check(self, name: str, key: Buffer, value: Buffer) -> None:
        """:raises Unsupported: the engine does not take such a record; names it."""
        excess = self._excess(name, len(key), len(value))
        if excess is not None:
            what, size, most = excess
            raise Unsupported(
                f"{self.store(name).name}: the record {bytes(key).hex()} has a {what} of {size:,} "
                f"bytes, and the engine takes {most:,}: choose another engine, or have a new "
                "volume there fetch its tarballs"
            )

    def _excess(self, name: str, key_bytes: int, value_bytes: int) -> tuple[str, int, int] | None:
        capability = self.store(name).capability
        for what, size, most in (
            ("key", key_bytes, capability.key_bytes_max),
            ("value", value_bytes, capability.value_bytes_max),
            ("key and value", key_bytes + value_bytes, capability.batch_bytes_max),
        ):
            if most is not None and size > most:
                return what, size, most
        return None

    def begin(self) -> None:
        """Mark it as incomplete: from here on it is no volume."""
        raw = self.state.get(superblocks.KEY)
        mark = {"format": _INCOMPLETE, "uuid": self.superblock.uuid, "boot": holders.boot_id()}
        batch = Batch().guard(superblocks.KEY, raw)
        self.state.commit(batch.put(superblocks.KEY, json.dumps(mark).encode()))
        _remove_other_sealed(self.config, raw, self.superblock)

    def complete(self) -> None:
        """Make it a volume.  What was written is on the disk before."""
        self.sealed.close()
        mark = self.state.get(superblocks.KEY)
        batch = Batch().guard(superblocks.KEY, mark)
        self.state.commit(batch.put(superblocks.KEY, self.superblock.pack()))


@contextmanager
def destination_of(
    config: VolumeConfig, superblock: Superblock, *, resume: bool, force: bool
) -> Iterator[Destination]:
    """Where a volume is to be written.  Nothing is before :meth:`Destination.begin`.

    :raises AlreadyExists: there is something, and neither ``resume`` nor ``force`` allows it.
    :raises Conflict: it is in use.
    """
    with ExitStack() as stack:
        state = stack.enter_context(open_store(config, STATE))
        if not (state.capability.writable and state.capability.persistent):
            raise Unsupported(f"{state.name}: the destination would not keep what is written")
        demands.check(state.capability, name=state.name)
        is_empty = _is_empty(state)
        mark = _mark_of(state.get(superblocks.KEY))
        if not force:
            _refuse_what_is_there(state, mark, superblock, resume=resume or is_empty)
        if users := _users(state):
            raise Conflict(
                f"{state.name}: the volume is in use ({', '.join(users)}): unmount it; what a dead "
                "machine left is taken away while somebody else has the volume open"
            )
        if _may_be_torn(state):
            config.kv.info.remove_store(config.kv.settings, store=superblock.sealed_store)
        sealed = stack.enter_context(open_store(config, superblock.sealed_store))
        is_empty = is_empty and _is_empty(sealed)
        yield Destination(config, state, sealed, superblock, may_hold_records=not is_empty)


def _may_be_torn(state: KVStore) -> bool:
    """Did the machine lose power after a copy was begun?  *sealed* is written without syncing."""
    raw = state.get(superblocks.KEY)
    if _mark_of(raw) is None or state.capability.is_network:
        return False
    return bool(json.loads(raw or b"{}").get("boot") != holders.boot_id())


def _is_empty(store: KVStore) -> bool:
    return next(store.scan(b"", None, limit=1), None) is None


def _refuse_what_is_there(
    state: KVStore, mark: str | None, superblock: Superblock, *, resume: bool
) -> None:
    if mark is None and not _is_empty(state):
        raise AlreadyExists(f"{state.name} is not empty: --force replaces what is there")
    if mark not in (None, superblock.uuid):
        raise AlreadyExists(
            f"{state.name}: an incomplete copy of another volume ({mark}) is there: "
            "--force replaces it"
        )
    if not resume:
        raise AlreadyExists(f"{state.name}: an incomplete copy is there: --resume goes on with it")


def _mark_of(raw: bytes | None) -> str | None:
    """Which volume an incomplete copy is of; ``None`` if there is none."""
    if raw is None:
        return None
    try:
        fields = json.loads(raw)
        return str(fields["uuid"]) if fields["format"] == _INCOMPLETE else None
    except (ValueError, TypeError, KeyError):
        return None


def _remove_other_sealed(config: VolumeConfig, raw: bytes | None, new: Superblock) -> None:
    """What a volume that is replaced had fetched, where it is not written over."""
    try:
        number = int(json.loads(raw or b"{}").get("sealed", new.sealed))
    except (ValueError, TypeError, AttributeError):
        return
    old = attrs.evolve(new, sealed=number).sealed_store
    if old != new.sealed_store:
        config.kv.info.remove_store(config.kv.settings, store=old)


def unpack_superblock(text: str) -> Superblock:
    """:raises Corrupt: it is none."""
    try:
        return Superblock(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise Corrupt(f"the superblock cannot be read: {text[:80]!r}") from error

"""The Redis engine: :class:`RedisDriver` over a sorted set and a hash of the server.

Threads: any; each call takes a connection of its own while it lasts.  There is no view of an
instant: a page of a scan shows one, the next page a later one, and each record is one that was
there at some time during the scan.  What is there from before a scan until after it is not missed,
and no key comes twice or out of order.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakSet

import attrs

from kvfs.capability import Durability
from kvfs.errors import Closed, Conflict, Invalid, Stale, Unavailable, Unsupported
from kvfs.kv import Batch, KVDriver, KVStats, ReadView
from kvfs_kv_redis._client import Client, Command
from kvfs_kv_redis._scripts import (
    COMMIT,
    COMMIT_OF_DELETES,
    CREATE,
    FORMAT,
    OK,
    PAGE,
    STALE,
    Names,
)
from kvfs_kv_redis._server import observe
from kvfs_kv_redis._settings import CAPABILITY, RedisSettings
from kvfs_kv_redis._watch import RedisWatch

_PAGE_FIRST, _PAGE_MAX = 32, 1024
_PAGE_BYTES = 1 << 20
_KEYS_AT_ONCE = 1000


class RedisView(ReadView):
    """The present of a :class:`RedisDriver`; it shows no instant."""

    def __init__(self, driver: RedisDriver) -> None:
        self._driver: RedisDriver | None = driver

    def _open(self) -> RedisDriver:
        if self._driver is None:
            raise Closed("redis: this view is closed")
        return self._driver

    def get(self, key: bytes) -> bytes | None:
        return self._open().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._open().get_many(keys)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._open().scan(start, stop, reverse=reverse, limit=limit)

    def refresh(self) -> None:
        self._open().check()

    def close(self) -> None:
        self._driver = None


class RedisDriver(KVDriver):
    """One store of one volume.  Thread-safe."""

    def __init__(self, settings: RedisSettings, *, store: str, durability: Durability) -> None:
        self._names = Names.of(settings.namespace, store)
        self._settings = settings
        self._what = f"redis ({settings.namespace}/{store} at {settings.url})"
        self._wanted = durability
        self._id: bytes | None = None
        self._watches: WeakSet[RedisWatch] = WeakSet()
        self._closed = False
        self.capability = CAPABILITY
        self._client = Client(settings, what=self._what, greet=self._greet)
        try:
            self._id = self._identify()
        except BaseException:
            self._client.close()
            raise
        self._client.patient = True

    def _greet(self, connection: Any) -> None:
        """Look at the server behind a new connection: is it still what it was?"""
        state = observe(connection)
        state.check(self._what)
        level = state.durability(self._settings.durability)
        if level < self._wanted:
            raise Unsupported(
                f"{self._what}: what the server stores survives {level.name.lower()}, asked for is "
                f"{self._wanted.name.lower()}: set appendonly yes, appendfsync always and "
                "no-appendfsync-on-rewrite no, or ask for less"
            )
        self.capability = attrs.evolve(CAPABILITY, durability=level)
        if self._id is not None:
            connection.send_command("HGET", self._names.about, "id")
            if connection.read_response() != self._id:
                raise self._stale()

    def _stale(self) -> Stale:
        return Stale(
            f"{self._what}: the store was removed, or lost by a restart of the server: open it anew"
        )

    def _identify(self) -> bytes:
        """The id of the store, which is made if there is none."""
        names = self._names
        form, identity = self._client.call("HMGET", names.about, "format", "id")
        if form is None:
            keys = [names.index, names.values, names.about]
            (made,) = self._client.run(CREATE, keys, [FORMAT, secrets.token_hex(16)])
            if not made:
                raise Invalid(f"{self._what}: the keys there are not of KVFS: other namespace?")
            form, identity = made
        if form != FORMAT or identity is None:
            raise Invalid(f"{self._what}: the store has another format: update the driver")
        return bytes(identity)

    def check(self) -> None:
        """Raise :class:`Closed` if it is."""
        if self._closed:
            raise Closed(f"{self._what}: the store is closed")

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._client.call("HGET", self._names.values, key)
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.check()
        found: list[bytes | None] = []
        for at in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[at : at + _KEYS_AT_ONCE]
            found += self._client.call("HMGET", self._names.values, *some)
        return found

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        self.check()
        return self._pages(start, stop, reverse, limit)

    def _pages(
        self, start: bytes, stop: bytes | None, reverse: bool, limit: int | None
    ) -> Iterator[tuple[bytes, bytes]]:
        keys = [self._names.index, self._names.values]
        low, high = b"[" + start, b"+" if stop is None else b"(" + stop
        size, more = _PAGE_FIRST, True
        while more and limit != 0:
            size = size if limit is None else min(size, limit)
            order = ("ZREVRANGEBYLEX", high, low) if reverse else ("ZRANGEBYLEX", low, high)
            ((more, *found),) = self._client.run(PAGE, keys, [*order, size, _PAGE_BYTES])
            yield from zip(found[::2], found[1::2], strict=True)
            if found and reverse:
                high = b"(" + found[-2]
            elif found:
                low = b"(" + found[-2]
            if limit is not None:
                limit -= len(found) // 2
            size = min(2 * size, _PAGE_MAX)

    def commit(self, batch: Batch, durability: Durability) -> None:
        self.check()
        if durability > self.capability.durability:
            raise Unsupported(f"{self._what}: commit: durability {durability.name.lower()}")
        if not batch.ops:
            return
        names, replicas = self._names, self._settings.replicas
        # Well below the time limit of the answer; no time at all would mean for ever.
        wait_ms = max(int(self._settings.timeout * 500), 1)
        then: list[Command] = [("WAIT", replicas, wait_ms)] if replicas else []
        done, *reached = self._client.run(
            COMMIT if batch.puts else COMMIT_OF_DELETES,
            [names.index, names.values, names.about],
            self._arguments(batch),
            then=then,
            repeatable=False,
        )
        if done == STALE:
            raise self._stale()
        if done != OK:
            key = [*batch.guards][done - 1]
            raise Conflict(f"{self._what}: the guard on {key.hex()} does not hold")
        if reached and reached[0] < replicas:
            raise Unavailable(
                f"{self._what}: commit: {reached[0]} of {replicas} replicas have it so far"
            )

    def _arguments(self, batch: Batch) -> list[bytes | str | int]:
        assert self._id is not None
        arguments: list[bytes | str | int] = [self._id, self._names.changes]
        arguments += map(len, (batch.guards, batch.range_deletes, batch.deletes, batch.puts))
        for key, value in batch.guards.items():
            arguments += (key, b"0", b"") if value is None else (key, b"1", bytes(value))
        for bounds in batch.range_deletes:
            arguments += bounds
        arguments += batch.deletes
        for key, data in batch.puts.items():
            arguments += (key, bytes(data))
        return arguments

    def snapshot(self) -> RedisView:
        self.check()
        return RedisView(self)

    def watch(self, start: bytes, stop: bytes | None) -> RedisWatch:
        self.check()
        watch = RedisWatch(
            self._client.new_pool(),
            self._names.changes,
            (start, stop),
            what=self._what,
            timeout_s=self._settings.timeout,
        )
        self._watches.add(watch)
        return watch

    def stats(self) -> KVStats:
        """As :meth:`KVDriver.stats`; the bytes are the server's estimate, from some records."""
        self.check()
        names = self._names
        keys, index, values, info = self._client.calls(
            [
                ("ZCARD", names.index),
                ("MEMORY", "USAGE", names.index),
                ("MEMORY", "USAGE", names.values),
                ("INFO", "memory"),
            ]
        )
        memory = dict(line.partition(":")[::2] for line in info.decode().splitlines())
        most, used = int(memory.get("maxmemory", 0)), int(memory.get("used_memory", 0))
        return KVStats(
            keys=keys,
            bytes_used=(index or 0) + (values or 0),
            bytes_free=max(most - used, 0) if most else None,
        )

    def compact(self) -> None:
        """Do nothing: the server frees memory as records go, and rewrites its log by itself."""
        self.check()

    def close(self) -> None:
        self._closed = True
        for watch in list(self._watches):
            watch.close()
        self._client.close()


def open_store(settings: RedisSettings, *, store: str, durability: Durability) -> RedisDriver:
    """Open the store, or make it.

    :param durability: what commits will ask for.
    :raises Unsupported: the server does not reach it, is too old, or part of a cluster.
    :raises Invalid: the server drops records when memory is short; the keys are not of KVFS.
    :raises Unavailable: there is no server.
    :raises PermissionDenied: wrong credentials, or the user lacks a right.
    """
    return RedisDriver(settings, store=store, durability=durability)


def remove_store(settings: RedisSettings, *, store: str) -> None:
    """Remove a store; no error if there is none.  The server frees its memory in the background."""
    names = Names.of(settings.namespace, store)
    what = f"redis ({settings.namespace}/{store} at {settings.url})"
    client = Client(settings, what=what, greet=lambda connection: None)
    try:
        client.call("UNLINK", names.about, names.index, names.values)
    finally:
        client.close()

"""The RADOS engine: :class:`RadosDriver` over the omap of one object.

Threads: any.  There is no view of an instant: a page of a scan shows one, the next page a later
one.  What is there from before a scan until after it is not missed, and no key comes twice or out
of order.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing
from ctypes import c_void_p, create_string_buffer

from kvfs.capability import Durability
from kvfs.errors import Closed, Conflict, Invalid, Stale, Unsupported
from kvfs.kv import Batch, KVDriver, KVStats, ReadView
from kvfs_kv_rados import _keys
from kvfs_kv_rados._cluster import Cluster
from kvfs_kv_rados._errors import RadosError
from kvfs_kv_rados._librados import WriteOperation, check, library, read_keys, read_page
from kvfs_kv_rados._room import Room
from kvfs_kv_rados._settings import CAPABILITY, RadosSettings

_ATTRIBUTE = b"kvfs"
"""Of the object: ``1`` (the format), a space, and a random id as 32 hexadecimal digits."""
_FORMAT = b"1 "
_ATTRIBUTE_BYTES = 256
_PAGE_FIRST, _PAGE_MAX = 32, 1024
"""An OSD returns no more than 1024 (osd_max_omap_entries_per_request)."""
_PAGE_BYTES = 1 << 20


class RadosView(ReadView):
    """The present of a :class:`RadosDriver`; it shows no instant."""

    def __init__(self, driver: RadosDriver) -> None:
        self._driver: RadosDriver | None = driver

    def _open(self) -> RadosDriver:
        if self._driver is None:
            raise Closed("rados: this view is closed")
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


class RadosDriver(KVDriver):
    """One store of one volume.  Thread-safe."""

    capability = CAPABILITY

    def __init__(self, settings: RadosSettings, *, store: str) -> None:
        self._settings = settings
        self._what = _what(settings, store)
        self._object = store.encode()
        self._cluster = Cluster(settings, what=self._what)
        self._room = Room(self._cluster, what=self._what)
        try:
            with self._cluster.using() as context:
                if self._cluster.pool_state().get("erasure_code_profile"):
                    raise Unsupported(f"{self._what}: the pool is erasure-coded: replicate it")
                self._mark = self._identify(context)
        except BaseException:
            self._cluster.close()
            raise

    def _identify(self, context: c_void_p) -> bytes:
        """The attribute of the object, which is made if there is none."""
        new = _FORMAT + secrets.token_hex(16).encode()
        mark = self._attribute(context)
        if mark is None:
            with closing(WriteOperation()) as operation:
                operation.create(_ATTRIBUTE, new)
                try:
                    operation.operate(context, self._object)
                except RadosError as error:
                    if error.number != errno.EEXIST:
                        raise
            mark = self._attribute(context)
        if not mark:
            raise Invalid(f"{self._what}: an object of that name is not of KVFS: other namespace?")
        if not mark.startswith(_FORMAT):
            raise Invalid(f"{self._what}: the store has another format: update the driver")
        return mark

    def _attribute(self, context: c_void_p) -> bytes | None:
        """The attribute; empty: the object does not have it; ``None``: there is no object."""
        buffer = create_string_buffer(_ATTRIBUTE_BYTES)
        place = (context, self._object, _ATTRIBUTE, buffer, _ATTRIBUTE_BYTES)
        try:
            size = check("read", library().getxattr(*place))
        except RadosError as error:
            if error.number == errno.ENODATA:
                return b""
            if error.number == errno.ENOENT:
                return None
            raise
        return buffer.raw[:size]

    def check(self) -> None:
        """Raise :class:`Closed` if it is."""
        with self._cluster.using():
            pass

    def _check_identity(self, context: c_void_p) -> None:
        if self._attribute(context) != self._mark:
            raise Stale(f"{self._what}: the store was removed: open it anew")

    def get(self, key: bytes) -> bytes | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        wanted = [*map(_keys.stored, keys)]
        with self._cluster.using() as context:
            if not wanted:
                return []
            try:
                found = read_keys(context, self._object, wanted)
            except RadosError:
                self._check_identity(context)
                raise
        return [None if key not in found else found[key][1:] for key in wanted]

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        self.check()
        if reverse:
            raise Unsupported(f"{self._what}: scan: reverse (an omap is listed upwards only)")
        return self._pages(_keys.bound(start), None if stop is None else _keys.bound(stop), limit)

    def _pages(
        self, after: bytes, stop: bytes | None, limit: int | None
    ) -> Iterator[tuple[bytes, bytes]]:
        size, more = _PAGE_FIRST, True
        while more and limit != 0 and (stop is None or after < stop):
            size = size if limit is None else min(size, limit)
            records, more = self._page(after, size)
            for key, value in records:
                if stop is not None and key >= stop:
                    return
                yield _keys.original(key), value[1:]
            if not records:
                return
            after = records[-1][0]
            if limit is not None:
                limit -= len(records)
            weight = sum(len(key) + len(value) for key, value in records)
            size = size * 2 if 2 * weight <= _PAGE_BYTES else size * _PAGE_BYTES // weight
            size = min(max(size, 1), _PAGE_MAX)

    def _page(self, after: bytes, size: int) -> tuple[list[tuple[bytes, bytes]], bool]:
        with self._cluster.using() as context:
            try:
                return read_page(context, self._object, after, size)
            except RadosError:
                self._check_identity(context)
                raise

    def commit(self, batch: Batch, durability: Durability) -> None:
        with self._cluster.using() as context, closing(WriteOperation()) as operation:
            if not batch.ops:
                return
            if batch.puts:
                self._room.check()
            operation.require_attribute(_ATTRIBUTE, self._mark)
            _fill(operation, batch)
            try:
                operation.operate(context, self._object)
            except RadosError as error:
                if error.number not in (errno.ECANCELED, errno.ENOENT, errno.ENODATA):
                    raise
                self._check_identity(context)
                raise Conflict(f"{self._what}: a guard does not hold") from error

    def snapshot(self) -> RadosView:
        self.check()
        return RadosView(self)

    def stats(self) -> KVStats:
        """As :meth:`KVDriver.stats`.  What an omap holds is not counted; free is the cluster."""
        return KVStats(bytes_free=self._cluster.bytes_free())

    def compact(self) -> None:
        """Do nothing: the OSDs compact their databases by themselves."""
        self.check()

    def close(self) -> None:
        self._cluster.close()


def _fill(operation: WriteOperation, batch: Batch) -> None:
    """Put a batch into an operation, in the order in which it is applied."""
    for key, value in batch.guards.items():
        expected = _keys.ABSENT if value is None else _keys.present(value)
        operation.require(_keys.stored(key), expected)
    for start, stop in batch.range_deletes:
        if start < stop:
            operation.remove_range(_keys.bound(start), _keys.bound(stop))
    if batch.deletes:
        operation.remove([*map(_keys.stored, batch.deletes)])
    if batch.puts:
        values = [*map(_keys.present, batch.puts.values())]
        operation.put([*map(_keys.stored, batch.puts)], values)


def _what(settings: RadosSettings, store: str) -> str:
    return f"rados ({settings.namespace}/{store} in pool {settings.pool})"


def open_store(settings: RadosSettings, *, store: str, durability: Durability) -> RadosDriver:
    """Open the store, or make it; every level of durability is there at every commit.

    :raises Unavailable: no monitor answers.
    :raises NotFound: there is no such configuration, keyring or pool.
    :raises PermissionDenied: wrong user or key, or the user lacks a right.
    :raises Unsupported: librados is not installed; the pool has no omaps, as it is erasure-coded.
    :raises Invalid: an object of that name is not of KVFS.
    """
    return RadosDriver(settings, store=store)


def remove_store(settings: RadosSettings, *, store: str) -> None:
    """Remove a store; no error if there is none."""
    cluster = Cluster(settings, what=_what(settings, store))
    with closing(cluster), cluster.using() as context:
        try:
            check("remove", library().remove(context, store.encode()))
        except RadosError as error:
            if error.number != errno.ENOENT:
                raise

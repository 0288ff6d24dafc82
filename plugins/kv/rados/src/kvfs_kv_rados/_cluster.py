"""A connection to a cluster, and one pool of it.

librados waits for ever by default; every wait is limited here.  While the cluster is away, it sends
requests again by itself until the time is over, and the cluster carries out each of them once,
however often it came (by the request's number in the log of its placement group).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_size_t, c_uint64, c_void_p, string_at
from math import ceil
from threading import Condition
from typing import Any

from kvfs.errors import Closed
from kvfs_kv_rados._errors import RadosError, from_rados
from kvfs_kv_rados._librados import check, library
from kvfs_kv_rados._settings import RadosSettings


class Cluster:
    """One client of the cluster.  Thread-safe; not to be used after a fork.

    :param what: the store and where it is, for errors.
    :raises KVFSError: there is no such cluster, user or pool.
    """

    def __init__(self, settings: RadosSettings, *, what: str) -> None:
        self._library = library()
        self._what = what
        self._pool = settings.pool
        self._handle = c_void_p()
        self._context = c_void_p()
        self._calls = 0
        self._changed = Condition()
        self._closed = False
        try:
            self._connect(settings)
        except RadosError as error:
            self.close()
            raise from_rados(error, what) from error

    def _connect(self, settings: RadosSettings) -> None:
        functions, handle = self._library, self._handle
        user = settings.user.encode()
        check("user", functions.create2(byref(handle), b"ceph", user, 0))
        conf = str(settings.conf)
        check(f"reading {conf}", functions.conf_read_file(handle, conf.encode()))
        seconds = str(ceil(settings.timeout))
        options = {
            "rados_osd_op_timeout": seconds,
            "rados_mon_op_timeout": seconds,
            "client_mount_timeout": seconds,
        }
        if settings.keyring is not None:
            options["keyring"] = str(settings.keyring)
        if settings.key:
            options["key"] = settings.key
        for name, value in options.items():
            check(f"option {name}", functions.conf_set(handle, name.encode(), value.encode()))
        check(f"connecting as {settings.user}", functions.connect(handle))
        pool = settings.pool
        created = functions.ioctx_create(handle, pool.encode(), byref(self._context))
        check(f"pool {pool}", created)
        functions.ioctx_set_namespace(self._context, settings.namespace.encode())
        # Else writes to a full pool would wait until their time is over, deletes too.
        functions.set_pool_full_try(self._context)

    @contextmanager
    def using(self) -> Iterator[c_void_p]:
        """The pool, for a call or more; it is not closed meanwhile.

        :raises KVFSError: what a :class:`RadosError` within means.
        """
        with self._changed:
            if self._closed:
                raise Closed(f"{self._what}: the store is closed")
            self._calls += 1
        try:
            yield self._context
        except RadosError as error:
            raise from_rados(error, self._what) from error
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    def _ask_monitor(self, **command: str) -> Any:
        request = (c_char_p * 1)(json.dumps({**command, "format": "json"}).encode())
        answer, status = c_void_p(), c_void_p()
        size, status_size = c_size_t(), c_size_t()
        places = (byref(answer), byref(size), byref(status), byref(status_size))
        done = self._library.mon_command(self._handle, request, 1, b"", 0, *places)
        try:
            check(f"command {command['prefix']}", done)
            return json.loads(string_at(answer, size.value))
        finally:
            for buffer in (answer, status):
                if buffer:
                    self._library.buffer_free(buffer)

    def pool_state(self) -> Mapping[str, Any]:
        """What the monitors know about the pool.  Within :meth:`using`."""
        pools = self._ask_monitor(prefix="osd pool ls", detail="detail")
        found = (known for known in pools if known["pool_name"] == self._pool)
        return next(found, {})

    def bytes_free(self) -> int | None:
        """What the whole cluster can still take, before replication; ``None``: not known."""
        state = (c_uint64 * 4)()
        with self.using():
            check("state of the cluster", self._library.cluster_stat(self._handle, byref(state)))
        total_kib, _, free_kib, _ = state
        return free_kib * 1024 if total_kib else None

    def close(self) -> None:
        """Wait for calls of other threads, and disconnect.  Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._calls)
            context, self._context = self._context, c_void_p()
            handle, self._handle = self._handle, c_void_p()
        if context:
            self._library.ioctx_destroy(context)
        if handle:
            self._library.shutdown(handle)


__all__ = ["Cluster"]

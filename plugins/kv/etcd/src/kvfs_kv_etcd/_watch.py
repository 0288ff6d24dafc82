"""Watching: the changes of a range of keys, from a revision on.

etcd keeps its history, so after a broken connection the watch goes on, at any member, from the
revision behind the last one that was told.  Changes are missed only where that has been compacted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Condition, Event, Thread, current_thread
from typing import Any

from kvfs.errors import Closed, KVFSError, PermissionDenied, Stale, Unavailable
from kvfs.kv import Watch
from kvfs_kv_etcd._client import Client, pauses
from kvfs_kv_etcd._messages import WATCH, Message, WatchCreateRequest, WatchRequest
from kvfs_kv_etcd._reading import Reader

KEYS_MAX = 100_000
"""More changes than that, which nobody asks for, are thrown away, and the watch is stale."""
_JOIN_S = 5


class EtcdWatch(Watch):
    """A thread that listens, and what it has heard."""

    def __init__(
        self,
        client: Client,
        reader: Reader,
        start: bytes,
        stop: bytes | None,
        *,
        forget: Callable[[EtcdWatch], None],
    ) -> None:
        """:param forget: called when the watch is closed."""
        self._client = client
        self._reader = reader
        self._bounds = reader.bounds(start, stop)
        self._skipped = len(reader.prefix)
        self._forget = forget
        self._next = reader.now().revision + 1
        self._told = Condition()
        self._keys: list[bytes] = []
        self._error: KVFSError | None = None
        self._call: Any = None
        self._closed = Event()
        self._heard_s = 0.0
        self._thread = Thread(target=self._listen, name=f"{client.name} watch", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> list[bytes]:
        """As :meth:`Watch.wait`.

        :raises Unavailable: no member could be reached for the time ``timeout``; the watch goes on
            trying, and misses nothing.
        """
        with self._told:
            self._told.wait_for(
                lambda: self._keys or self._error or self._closed.is_set(), timeout_s
            )
            if self._closed.is_set():
                raise Closed(f"{self._client.name}: this watch is closed")
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            keys, self._keys = self._keys, []
        return keys

    def close(self) -> None:
        self._forget(self)
        with self._told:
            self._closed.set()
            call = self._call
            self._told.notify_all()
        if call is not None:
            call.cancel()
        if self._thread is not current_thread():
            self._thread.join(_JOIN_S)

    def _requests(self, ended: Event) -> Iterator[Message]:
        low, high = self._bounds
        create = WatchCreateRequest(
            key=low, range_end=high, start_revision=self._next, fragment=True
        )
        yield WatchRequest(create_request=create)
        # The stream is open as long as there may be requests.
        ended.wait()

    def _listen(self) -> None:
        pause = pauses()
        self._heard_s = time.monotonic()
        while not self._closed.is_set():
            before_s = self._heard_s
            try:
                self._listen_once()
            except Closed:
                break
            except Stale as error:
                # If this fails, it will be found stale again.
                with suppress(KVFSError):
                    self._next = self._reader.now().revision + 1
                    self._tell(error)
            except KVFSError as error:
                silent = time.monotonic() - self._heard_s > self._client.timeout_s
                if silent or not isinstance(error, Unavailable):
                    self._tell(error)
                    self._heard_s = time.monotonic()
            if self._heard_s != before_s:
                pause = pauses()
            if self._closed.wait(next(pause)):
                break
        with self._told:
            self._closed.set()
            self._told.notify_all()

    def _listen_once(self) -> None:
        ended = Event()
        try:
            with self._client.stream(WATCH, self._requests(ended)) as call:
                with self._told:
                    self._call = call
                    if self._closed.is_set():
                        call.cancel()
                for response in call:
                    self._heard(response)
        finally:
            ended.set()

    def _heard(self, response: Message) -> None:
        name = self._client.name
        if response.compact_revision:
            raise Stale(f"{name}: watch: changes may have been missed, as etcd compacted them")
        if response.canceled:
            if "permission denied" in response.cancel_reason:
                raise PermissionDenied(f"{name}: watch: the user may not read this namespace")
            raise Unavailable(f"{name}: watch: etcd ended it ({response.cancel_reason})")
        self._heard_s = time.monotonic()
        with self._told:
            self._keys += [event.kv.key[self._skipped :] for event in response.events]
            if len(self._keys) > KEYS_MAX:
                self._error = Stale(f"{name}: watch: over {KEYS_MAX} changes were not asked for")
                self._keys.clear()
            if isinstance(self._error, Unavailable):
                self._error = None
            self._told.notify_all()
        # One commit may come in several parts; it is told again from its beginning then.
        if response.events and not response.fragment:
            self._next = response.events[-1].kv.mod_revision + 1

    def _tell(self, error: KVFSError) -> None:
        with self._told:
            self._error = error
            if isinstance(error, Stale):
                self._keys.clear()
            self._told.notify_all()

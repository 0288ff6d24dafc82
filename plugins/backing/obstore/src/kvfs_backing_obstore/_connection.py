"""obstore, called from any thread of one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from kvfs.errors import Closed, Unsupported
from kvfs_backing_obstore._clients import client
from kvfs_backing_obstore._errors import translated
from kvfs_backing_obstore._settings import ObstoreSettings

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ObjectStore

T = TypeVar("T")

CHUNK_BYTES = 256 << 10
"""A body is handed over in about so much."""

_first_user: int | None = None
"""The process in which obstore started its threads."""


class Connection:
    """Requests to one bucket.  Thread-safe.

    Of two clients, :attr:`single` makes each request once: there is one policy of repeating them,
    and it is ours.  :attr:`patient` is for uploads in parts, which obstore sends by itself.
    """

    def __init__(self, settings: ObstoreSettings) -> None:
        """:raises Unsupported: this process was forked from one that used obstore."""
        global _first_user  # noqa: PLW0603
        _first_user = _first_user or os.getpid()
        self._url = settings.url
        self._closed = False
        self.check()
        self.single: ObjectStore = client(settings, repeats=0)
        self.patient: ObjectStore = client(settings, repeats=settings.attempts - 1)
        self._pool = ThreadPoolExecutor(settings.connections, thread_name_prefix="kvfs-obstore")

    def check(self) -> None:
        """:raises Closed: the store was closed.

        :raises Unsupported: a request would wait for ever: after a fork, the threads of obstore
            are not there, and it cannot start others.
        """
        if self._closed:
            raise Closed(f"obstore: the store {self._url} is closed")
        if os.getpid() != _first_user:
            raise Unsupported(
                "obstore: this process was forked from one that used obstore, which does not "
                "survive that: start a new process, or use the driver s3"
            )

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for requests beside that of the caller."""
        self.check()
        return self._pool

    def call(self, request: Callable[[], T], what: str) -> T:
        """Make a request; whatever obstore raises becomes an error of KVFS.

        :param what: what it is about, in errors.
        """
        self.check()
        try:
            return request()
        except Exception as error:
            raise translated(error, what) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise translated(error, what) from error

    def body(self, answer: GetResult, what: str) -> Iterator[bytes]:
        """The body of an answer as it arrives."""
        stream = iter(answer.stream(CHUNK_BYTES))
        while (chunk := self.call(lambda: next(stream, None), what)) is not None:
            yield bytes(chunk)

    def close(self) -> None:
        """Idempotent.  What is under way in other threads fails when its answer comes."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

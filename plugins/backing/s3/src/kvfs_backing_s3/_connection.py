"""The client of s3fs, called from any thread and after any fork.

s3fs brings the client (aiobotocore), finds credentials and runs the event loop, in a thread of its
own; its caches and its repetitions are left out: there is one policy, and it is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

from aiobotocore.session import AioSession
from botocore.handlers import add_expect_header
from botocore.loaders import Loader, create_loader
from s3fs import S3FileSystem

from kvfs.backing.remote.forking import PerProcess
from kvfs.errors import Closed
from kvfs_backing_s3._errors import translated
from kvfs_backing_s3._settings import S3Settings

T = TypeVar("T")
_Request = Callable[[], Coroutine[Any, Any, T]]

CHUNK_BYTES = 256 << 10
"""A body is handed over in about so much: each time costs a change of threads."""
_SPARE_CONNECTIONS = 8
"""Beside those of readers."""


class Connection:
    """Requests to one server.  Thread-safe; a fork begins with new connections."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._closed = False
        self._system = PerProcess(self._make_system)
        self._pool = PerProcess(self._make_pool)

    def _make_system(self) -> S3FileSystem:
        settings = self._settings
        client = {"region_name": settings.region, "verify": settings.ca and str(settings.ca)}
        return S3FileSystem(
            anon=settings.anonymous,
            endpoint_url=settings.endpoint,
            key=settings.access_key,
            secret=settings.secret_key,
            token=settings.session_token,
            client_kwargs={name: value for name, value in client.items() if value is not None},
            config_kwargs={
                "connect_timeout": settings.timeout,
                "read_timeout": settings.timeout,
                "max_pool_connections": settings.connections + _SPARE_CONNECTIONS,
                "retries": {"total_max_attempts": 1},
                # Ours are sent and compared in all requests, and of all servers.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                "s3": {"addressing_style": "path" if settings.path_style else "auto"},
            },
            session=_session(settings.profile),
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def _make_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._settings.connections, thread_name_prefix="kvfs-s3")

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for requests beside that of the caller."""
        self.check()
        return self._pool.get()

    def check(self) -> None:
        """:raises Closed: the store was closed."""
        if self._closed:
            raise Closed(f"s3: the store {self._settings.url} is closed")

    def call(self, method: str, what: str, **parameters: Any) -> dict[str, Any]:
        """One request, once.

        :param method: of the client of botocore, as ``head_object``.
        :param what: what it is about, in errors.
        """
        system = self._open()

        async def request() -> dict[str, Any]:
            client = await system.set_session()
            answer: dict[str, Any] = await getattr(client, method)(**parameters)
            return answer

        return self.run(system, request, what)

    def body(self, answer: dict[str, Any], what: str) -> Body:
        """The body of an answer as it arrives."""
        return Body(self, self._open(), answer["Body"], what)

    def _open(self) -> S3FileSystem:
        self.check()
        return self._system.get()

    def run(self, system: S3FileSystem, request: _Request[T], what: str) -> T:
        """Have the loop of ``system`` make the request, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(request(), system.loop)
        try:
            return future.result()
        except Exception as error:
            self.check()
            raise translated(error, what) from error
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Idempotent.  What is under way in other threads fails."""
        if self._closed:
            return
        self._closed = True
        pool = self._pool.made()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        system = self._system.made()
        if system is not None and system._s3 is not None:
            asyncio.run_coroutine_threadsafe(system._s3.close(), system.loop).result()


@lru_cache(maxsize=1)
def _loader() -> Loader:
    """What botocore knows of S3, read once in a process: it is the half of opening a store."""
    return create_loader()


def _session(profile: str | None) -> AioSession:
    session = AioSession(profile=profile)
    session.register_component("data_loader", _loader())
    # A server may answer a PUT without a "100 Continue", and aiohttp would wait for that for ever.
    session.unregister("before-call.s3", add_expect_header)
    return session


class Body(Iterator[bytes]):
    """The body of an answer, in chunks; to be closed."""

    def __init__(
        self, connection: Connection, system: S3FileSystem, stream: Any, what: str
    ) -> None:
        self._connection = connection
        self._system = system
        self._stream = stream
        self._what = what

    def __next__(self) -> bytes:
        chunk = self._connection.run(self._system, lambda: _some(self._stream), self._what)
        if not chunk:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Give the connection back, or end it if there is more to come."""
        self._system.loop.call_soon_threadsafe(self._stream.close)


async def _some(stream: Any) -> bytes:
    """About :data:`CHUNK_BYTES` of a body; nothing at its end.

    What arrived before it broke off is not lost: the error comes again with the next call.
    """
    parts: list[bytes] = []
    size = 0
    while size < CHUNK_BYTES:
        try:
            part = await stream.read(CHUNK_BYTES - size)
        except Exception:
            if not parts:
                raise
            break
        if not part:
            break
        parts.append(part)
        size += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)

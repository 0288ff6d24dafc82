"""fsspec's file system, made anew where its connection has ended and after a fork."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import attrs
from fsspec.core import url_to_fs

from kvfs.backing.remote.forking import PerProcess
from kvfs.backing.remote.retries import repeated
from kvfs.errors import Closed, Invalid
from kvfs_backing_fsspec._errors import is_broken, translated
from kvfs_backing_fsspec._protocols import OTHER, PROTOCOLS, Protocol
from kvfs_backing_fsspec._settings import FsspecSettings

T = TypeVar("T")


@attrs.frozen(eq=False)
class _Opened:
    """A file system of fsspec.

    :param root: the path in it that the URL leads to.
    """

    system: Any
    root: str

    def close(self) -> None:
        """End the connection of SFTP; others end theirs when nobody has them any more."""
        client = getattr(self.system, "client", None)
        if self.system.protocol == ("sftp", "ssh") and client is not None:
            client.close()


def _timeouts(protocol: Protocol, timeout_s: float) -> dict[str, Any]:
    """The parameters by which a protocol is told how long to wait."""
    if protocol.quoted:
        from aiohttp import ClientTimeout

        limits = ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        return {"client_kwargs": {"timeout": limits}}
    if protocol.exclusive:
        return {"timeout": timeout_s, "banner_timeout": timeout_s, "auth_timeout": timeout_s}
    return {}


class System:
    """The files below one URL.  Thread-safe, whatever the library below is."""

    def __init__(self, settings: FsspecSettings) -> None:
        self.connections = settings.connections
        self.protocol: Protocol = PROTOCOLS.get(settings.url.partition("://")[0], OTHER)
        self._settings = settings
        self._closed = False
        self._idle: PerProcess[deque[_Opened]] = PerProcess(deque)
        self._pool = PerProcess(self._make_pool)
        what = f"opening {settings.url}"
        root = repeated(lambda: self._call(what, lambda opened: opened.root), settings.patience())
        # Nothing for the root of an archive, and a slash for that of a server.
        self._prefix = f"{root.rstrip('/')}/" if root else ""
        self.root = self._prefix.rstrip("/") or self._prefix

    def _open(self) -> _Opened:
        settings = self._settings
        options = _timeouts(self.protocol, settings.timeout) | settings.options
        system, root = url_to_fs(settings.url, **options, skip_instance_cache=True)
        # As a parameter it would reach libraries that do not know it.
        system.dircache.use_listings_cache = False
        if self.protocol.exclusive:
            system.ftp.get_channel().settimeout(settings.timeout)
        return _Opened(system, root)

    def _make_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._settings.connections, thread_name_prefix="kvfs-fsspec")

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for reading ahead."""
        self.check()
        return self._pool.get()

    def check(self) -> None:
        """:raises Closed: the store was closed."""
        if self._closed:
            raise Closed(f"fsspec: the store {self._settings.url} is closed")

    @contextmanager
    def lent(self) -> Iterator[_Opened]:
        """A file system of fsspec; nobody else uses it meanwhile, if it cannot bear that."""
        self.check()
        idle = self._idle.get()
        try:
            opened = idle.popleft()
        except IndexError:
            opened = self._open()
        if not self.protocol.exclusive:
            idle.append(opened)
        is_whole = True
        try:
            yield opened
        except Exception as error:
            is_whole = not is_broken(error)
            raise
        finally:
            self._give_back(idle, opened, is_whole)

    def _give_back(self, idle: deque[_Opened], opened: _Opened, is_whole: bool) -> None:
        if self._closed or not is_whole:
            if opened in idle:
                idle.remove(opened)
            opened.close()
        elif self.protocol.exclusive:
            idle.append(opened)

    def call(self, what: str, function: Callable[[Any], T]) -> T:
        """Have fsspec do something, once.

        :param what: what it is about, in errors, which are translated.
        """
        return self._call(what, lambda opened: function(opened.system))

    def _call(self, what: str, function: Callable[[_Opened], T]) -> T:
        try:
            with self.lent() as opened:
                return function(opened)
        except Exception as error:
            self.check()
            raise translated(error, what) from error

    def path(self, name: str) -> str:
        """Where fsspec finds an object.

        :raises Invalid: it is not UTF-8.
        """
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"fsspec: {name!r} is not UTF-8, as the names of fsspec are") from error
        return self._prefix + (quote(name) if self.protocol.quoted else name)

    def last_of(self, path: str) -> str:
        """The last part of a path of fsspec, as part of a name."""
        last = path.rstrip("/").rpartition("/")[2]
        return unquote(last) if self.protocol.quoted else last

    def close(self) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._closed = True
        pool, idle = self._pool.made(), self._idle.made()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        while idle:
            idle.popleft().close()

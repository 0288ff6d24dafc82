"""The frontend: the interface over an HTTP server of the standard library."""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import ip_address
from threading import Event
from typing import TYPE_CHECKING

from kvfs.errors import (
    AlreadyExists,
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unsupported,
)
from kvfs.frontend import Frontend
from kvfs_frontend_template._server import Server
from kvfs_frontend_template._settings import CAPABILITY, TemplateSettings

if TYPE_CHECKING:
    from kvfs.volume import Volume

_POLL_S = 0.1
"""How often the server looks whether it is to stop."""


def parse_target(target: str) -> tuple[str, int]:
    """``127.0.0.1:8080`` as host and port.

    :raises Invalid: it is no address and port.
    :raises Unsupported: it is not an IPv4 address of the loopback interface.
    """
    host, _, port = target.rpartition(":")
    try:
        address, number = ip_address(host), int(port)
    except ValueError as error:
        raise Invalid(f"{target!r} is not an address and a port, as 127.0.0.1:8080") from error
    if not 0 <= number <= 0xFFFF:
        raise Invalid(f"{target!r}: {number} is not a port")
    if address.version != 4 or not address.is_loopback:
        raise Unsupported(f"{target!r}: without authentication, only 127.0.0.0/8 is served")
    return host, number


class TemplateFrontend(Frontend):
    """Serves one volume at one address."""

    capability = CAPABILITY

    def __init__(self, settings: TemplateSettings) -> None:
        self._settings = settings
        self._stopping = Event()
        self.address: tuple[str, int] | None = None
        """Where it serves; of interest when port 0 was asked for."""

    def serve(self, volume: Volume, target: str, *, ready: Callable[[], None]) -> None:
        """Serve until :meth:`stop`, then wait for the answers under way.

        :raises AlreadyExists: the port is taken.
        """
        address = parse_target(target)
        try:
            server = Server(address, volume, self._settings)
        except OSError as error:
            raise _translated(error, target) from error
        with server:
            self.address = (address[0], server.server_port)
            server.timeout = _POLL_S
            ready()
            while not self._stopping.is_set():
                server.handle_request()

    def stop(self) -> None:
        self._stopping.set()

    def release(self, target: str, *, force: bool = False) -> None:
        """There is nothing to release: an address is free when its server has ended."""
        parse_target(target)
        raise NotFound(f"{target}: an HTTP server leaves nothing behind; end its process")


def _translated(error: OSError, target: str) -> KVFSError:
    kinds: dict[int, type[KVFSError]] = {
        errno.EADDRINUSE: AlreadyExists,
        errno.EACCES: PermissionDenied,
    }
    kind = kinds.get(error.errno or 0, Unavailable)
    return kind(f"{target} cannot be served: {error.strerror}")


def open_frontend(settings: TemplateSettings) -> TemplateFrontend:
    """A frontend that serves nothing yet."""
    return TemplateFrontend(settings)

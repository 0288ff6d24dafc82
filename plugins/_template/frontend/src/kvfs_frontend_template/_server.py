"""Requests and answers: paths to files, errors to statuses."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote_to_bytes, urlsplit

from kvfs.errors import Corrupt, Kind, KVFSError, Unsupported
from kvfs.files import Attributes, Buffer, Files
from kvfs_frontend_template._settings import TemplateSettings

if TYPE_CHECKING:
    from kvfs.volume import Volume

STATUS_OF_KIND = {
    Kind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Kind.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Kind.CONFLICT: HTTPStatus.CONFLICT,
    Kind.PERMISSION: HTTPStatus.FORBIDDEN,
    Kind.INVALID: HTTPStatus.BAD_REQUEST,
    Kind.UNSUPPORTED: HTTPStatus.FORBIDDEN,
    Kind.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.EXHAUSTED: HTTPStatus.INSUFFICIENT_STORAGE,
    Kind.CORRUPT: HTTPStatus.INTERNAL_SERVER_ERROR,
    Kind.CLOSED: HTTPStatus.SERVICE_UNAVAILABLE,
}
_LINES_AT_ONCE = 1000


class Server(ThreadingHTTPServer):
    """One thread for each connection; closing it waits for them."""

    daemon_threads = False

    def __init__(
        self, address: tuple[str, int], volume: Volume, settings: TemplateSettings
    ) -> None:
        self.volume = volume
        self.settings = settings
        super().__init__(address, Handler)


class Handler(BaseHTTPRequestHandler):
    """One request.  HTTP/1.0: the end of a listing is the end of the connection."""

    server_version = "kvfs-frontend-template"

    def setup(self) -> None:
        self._owner = cast(Server, self.server)
        self.request.settimeout(self._owner.settings.timeout)
        super().setup()

    def do_HEAD(self) -> None:
        """Answer without contents."""
        self._answer(contents=False)

    def do_GET(self) -> None:
        """Answer with contents."""
        self._answer(contents=True)

    def _answer(self, *, contents: bool) -> None:
        files = self._owner.volume.files(wait=True)
        self.close_connection = True
        begun = False
        try:
            found = files.open_path(unquote_to_bytes(urlsplit(self.path).path))
            parts = self._parts(files, found)
            # Before the status is sent: the first part may take long, and may fail.
            first = next(parts, b"") if contents else b""
            begun = True
            self._send_headers(found)
            if contents:
                self.wfile.write(first)
                for part in parts:
                    self.wfile.write(part)
        except KVFSError as error:
            if begun:
                self.log_error("cut off: %s", error)
            else:
                self.send_error(STATUS_OF_KIND[error.kind], explain=str(error))
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.log_message("the client went away")
        finally:
            files.close()

    def _parts(self, files: Files, found: Attributes) -> Iterator[Buffer]:
        if found.is_directory:
            return _listing(files, found.inode)
        if stat.S_ISREG(found.mode):
            return _contents(files, found, self._owner.settings.block)
        raise Unsupported("neither a file nor a directory")

    def _send_headers(self, found: Attributes) -> None:
        self.send_response(HTTPStatus.OK)
        if found.is_directory:
            self.send_header("Content-Type", "text/plain; charset=utf-8")
        else:
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(found.size))
        self.send_header("Last-Modified", formatdate(found.mtime_ns // 10**9, usegmt=True))
        self.end_headers()


def _listing(files: Files, inode: int) -> Iterator[bytes]:
    """The names in a directory, a line for each."""
    lines = []
    for name, attributes in files.entries(inode):
        lines.append(name + (b"/\n" if attributes.is_directory else b"\n"))
        if len(lines) == _LINES_AT_ONCE:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines)


def _contents(files: Files, found: Attributes, block: int) -> Iterator[Buffer]:
    """The contents of a file, part by part; a part is valid until the next is asked for."""
    at = 0
    while at < found.size:
        parts = files.read(found.inode, at, block)
        size = sum(map(len, parts))
        if not size:
            raise Corrupt(f"contents end at {at} of {found.size} bytes")
        at += size
        yield from parts

"""A proxy that does what servers do on bad days, in front of a real one.

It hands on every request as it is, unless a :class:`Fault` matches: then it spoils that one.  The
signature of a request covers its host, so the server behind is asked by the name of the proxy.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, Self

import attrs

from kvfs.closing import Closing
from kvfs.testing.servers.s3 import S3Server

_BLOCK_BYTES = 64 << 10
_OF_ONE_HOP = frozenset(("connection", "transfer-encoding", "keep-alive", "te", "upgrade"))


@attrs.frozen
class Request:
    """What a client asks."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]
    """Their names in lower case."""


@attrs.define(kw_only=True)
class Fault:
    """How requests are spoiled.

    :param when: which ones.
    :param times: how many of them; ``None``: all.
    """

    when: Callable[[Request], bool] = lambda request: True
    times: int | None = 1
    status: int | None = None
    """Answer with this status, and do not ask the server."""
    code: str = ""
    """The ``<Code>`` of that answer."""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    """Of that answer, as ``Retry-After`` or ``Location``."""
    cut_after: int | None = None
    """Break the connection after so many bytes of the body."""
    corrupt: bool = False
    """Turn the last byte of the body."""
    stall: bool = False
    """Send nothing more after the headers, until the proxy is closed."""
    lost: bool = False
    """Have the server do it, and break the connection without an answer."""
    hits: int = attrs.field(default=0, init=False)
    """How many were spoiled."""


class FaultyProxy(Closing):
    """The address of a server with :attr:`faults` in between.  ``with`` starts and stops it."""

    def __init__(self, server: S3Server) -> None:
        self._port = server.port
        self._lock = Lock()
        self._ended = Event()
        self.requests: list[Request] = []
        """All of them, in order."""
        self.faults: list[Fault] = []
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[Fault]:
        """A fault for a while, which has to happen."""
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)
        assert fault.hits, "no request was spoiled"

    def take(self, request: Request) -> Fault | None:
        """The fault that spoils a request."""
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if (fault.times is None or fault.hits < fault.times) and fault.when(request):
                    fault.hits += 1
                    return fault
        return None

    def connection(self) -> http.client.HTTPConnection:
        """One to the server."""
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)

    def wait(self) -> None:
        """Until the proxy is closed."""
        self._ended.wait()


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        """One request."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("expect") == "100-continue" and self.close_connection:
            return
        body = self._body(headers)
        request = Request(self.command, self.path, headers)
        fault = self.owner.take(request) or Fault(times=0)
        if fault.status is not None:
            self._refuse(fault)
            return
        connection = self.owner.connection()
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in (*_OF_ONE_HOP, "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            if fault.lost:
                answer.read()
                self._break()
                return
            self._hand_on(answer, fault)
        except OSError:
            self._break()  # the server is down, or the client does not want the answer any more
        finally:
            connection.close()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

    def _body(self, headers: Mapping[str, str]) -> bytes | None:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join(iter(self._chunk, b""))
        size = int(headers.get("content-length", 0))
        return self.rfile.read(size) if size else None

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().partition(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _refuse(self, fault: Fault) -> None:
        assert fault.status is not None
        text = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code></Error>".encode()
        self.send_response(fault.status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _hand_on(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_ONE_HOP:
                self.send_header(name, value)
        size = answer.getheader("Content-Length")
        if size is None and self.command != "HEAD":
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        if fault.stall:
            self.wfile.flush()
            self.owner.wait()
            self._break()
            return
        sent = 0
        while block := answer.read(_BLOCK_BYTES):
            if fault.cut_after is not None and sent + len(block) > fault.cut_after:
                self.wfile.write(block[: fault.cut_after - sent])
                self._break()
                return
            sent += len(block)
            if fault.corrupt and (answer.isclosed() or sent == int(size or -1)):
                block = block[:-1] + bytes([block[-1] ^ 1])
            self.wfile.write(block)

    def _break(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments: Any) -> None:
        """Nothing is printed."""


__all__ = ["Fault", "FaultyProxy", "Request"]

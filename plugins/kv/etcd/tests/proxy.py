"""A TCP proxy that breaks connections at chosen moments."""

from __future__ import annotations

import socket
from contextlib import suppress
from enum import Enum
from threading import Event, Lock, Thread
from typing import Self


class Break(Enum):
    """When to break the connection, once."""

    BEFORE_THE_REQUEST = "the server sees nothing of what the client sends next"
    BEFORE_THE_ANSWER = "the server sees it; the client sees nothing of what comes back"


class Proxy:
    """Forwards every connection to a port of loopback."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._dead = False
        self._break: Break | None = None
        self._hold: Event | None = None
        self._asked = False
        self.broken = 0
        """How often a connection was broken."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def break_once(self, when: Break) -> None:
        """Break the next connection that is used, and go on as before."""
        self._asked = False
        self._break = when

    def die(self) -> None:
        """Break everything, and refuse what comes."""
        self._dead = True
        self._close_all()

    def break_and_die(self) -> None:
        """Lose the next answer, and be dead from then on."""
        self.break_once(Break.BEFORE_THE_ANSWER)
        self._hold = Event()

    def live(self) -> None:
        """Forward again."""
        self._dead = False

    def _close_all(self) -> None:
        with self._lock:
            sockets, self._open = self._open, set()
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._dead:
                client.close()
                continue
            upstream = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._open |= {client, upstream}
            for source, sink, up in ((client, upstream, True), (upstream, client, False)):
                Thread(target=self._forward, args=(source, sink, up), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        awaited = Break.BEFORE_THE_REQUEST if up else Break.BEFORE_THE_ANSWER
        with suppress(OSError):
            while data := source.recv(1 << 16):
                # A frame of more than a header: not the keeping of the connection.
                is_call = len(data) > 40
                # What comes back of an earlier request is no answer to the next one.
                if is_call and self._break is awaited and (up or self._asked):
                    self._break = None
                    self.broken += 1
                    self._dead = self._hold is not None
                    break
                self._asked |= up and is_call
                sink.sendall(data)
        self._close_all()

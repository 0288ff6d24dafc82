"""A TCP line to a server of this machine, which can be cut, mended, and tampered with."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self


class Line:
    """Listens on a port of its own and hands on what it gets."""

    def __init__(self, port: int) -> None:
        """:param port: where the server listens."""
        self._server = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._whole = Event()
        self._whole.set()
        self._ends: list[socket.socket] = []
        self._replaced: tuple[bytes, bytes] | None = None
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def cut(self) -> None:
        """End every connection; new ones end at once."""
        self._whole.clear()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let new connections through."""
        self._whole.set()

    def replace(self, old: bytes, new: bytes) -> None:
        """From now on, requests have ``new`` instead of ``old``, which must be of one length."""
        assert len(old) == len(new)
        self._replaced = (old, new)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if not self._whole.is_set():
                    near.close()
                    continue
                far = socket.create_connection(self._server)
                self._ends += (near, far)
                Thread(target=self._pump, args=(near, far, True), daemon=True).start()
                Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if is_request and self._replaced is not None:
                    data = data.replace(*self._replaced)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for end in self._ends:
            end.close()

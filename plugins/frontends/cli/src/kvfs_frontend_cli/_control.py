"""Asking the daemon of a mount what it is doing: one JSON answer per connection, then it hangs up.

The socket lies beside the mount's record, in a directory that only its user can enter.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
_ANSWER_BYTES_MAX = 16 << 20


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of ``path`` that fits a socket address (108 bytes), whatever its length."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


class ControlServer:
    """Answers in a thread of its own until closed.

    :param answer: called for each connection; returns what is sent, as JSON.
    """

    def __init__(self, path: Path, answer: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        path.unlink(missing_ok=True)
        with _short(path) as name:
            self._socket.bind(name)
        self._socket.listen(8)
        self._thread = Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.settimeout(TIMEOUT_S)
                    connection.sendall(json.dumps(self._answer()).encode())
                except Exception as error:
                    log.warning("a question about the mount was not answered: %r", error)

    def close(self) -> None:
        """Take the socket away."""
        self._path.unlink(missing_ok=True)
        # Closing alone does not wake a thread that accepts.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(TIMEOUT_S)


def ask(path: Path) -> dict[str, Any] | None:
    """What the daemon answers; ``None`` if it does not."""
    try:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
            _short(path) as name,
        ):
            connection.settimeout(TIMEOUT_S)
            connection.connect(name)
            pieces = []
            size = 0
            while size < _ANSWER_BYTES_MAX and (piece := connection.recv(1 << 16)):
                pieces.append(piece)
                size += len(piece)
        answer = json.loads(b"".join(pieces))
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None

"""Redis, or Valkey, which has the same protocol and the same options."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from kvfs.testing.servers.base import Daemon, Server, free_port


class Redis(Server):
    """A server that syncs its log at every write, unless the options say otherwise.

    :param options: more of the configuration, as on the command line: ``("--maxmemory", "64mb")``.
    :param program: ``redis-server`` or ``valkey-server``.
    """

    name = "redis"
    programs = ("redis-server",)
    packages = "redis-server"

    def __init__(
        self, home: Path, *, options: Sequence[str] = (), program: str = "redis-server"
    ) -> None:
        super().__init__(home)
        self.port = 0
        self._options = options
        self._program = program

    def start(self) -> None:
        if not self.daemons:
            self.port = free_port()
            command = [shutil.which(self._program) or self._program]
            command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.home)]
            command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
            self.daemons = [Daemon([*command, *self._options], self.home / "redis.log")]
        self.daemons[0].start()
        self.daemons[0].wait_until(self._is_ready)

    def settings(self, namespace: str) -> dict[str, object]:
        """The table ``[kv]`` of a volume of that name."""
        return {"url": f"redis://127.0.0.1:{self.port}/0", "namespace": namespace}

    def _is_ready(self) -> bool:
        """Does it answer, and not only that it is still loading?"""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(64)
        except OSError:
            return False
        return answer.startswith((b"+PONG", b"-NOAUTH"))


__all__ = ["Redis"]

"""PostgreSQL, for tests and benchmarks of its driver."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kvfs.testing.servers.base import Daemon, Server, ServerFailed, free_port

PASSWORD = "not a secret"
_USER = "postgres"
_DEBIAN = Path("/usr/lib/postgresql")
"""Debian keeps the programs of each version in ``<version>/bin`` below, away from PATH."""


def _program(name: str) -> str | None:
    """Where a program of PostgreSQL is: on PATH, or that of the newest version of Debian's."""
    found = shutil.which(name)
    if found is not None:
        return found
    versions = sorted(
        (path for path in _DEBIAN.glob("*/bin") if (path / name).exists()),
        key=lambda path: float(path.parent.name),
    )
    return str(versions[-1] / name) if versions else None


def _is_open_to_all(directory: Path) -> bool:
    """Can any user get into a directory?"""
    above = (directory.resolve(), *directory.resolve().parents)
    return all(path.stat().st_mode & stat.S_IXOTH for path in above)


class Postgres(Server):
    """One server with one user, ``postgres``, who has a password.

    It syncs as in production.  Run by root it belongs to the user ``postgres``, who must exist; if
    that user cannot get into ``home``, its data are in a directory of their own below the system's
    for temporary files, and go when the server is closed.

    :param tls: with a certificate for 127.0.0.1, signed by itself: ``home/server.crt``.
    :param options: settings of the server, as in ``postgresql.conf``.
    """

    name = "postgres"
    programs = ("initdb", "postgres", "pg_isready")
    packages = "postgresql"

    def __init__(
        self, home: Path, *, tls: bool = False, options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(home)
        self.port = 0
        self.options = dict(options or {})
        self._tls = tls
        self._user = _USER if os.geteuid() == 0 else None
        self._data = home / "data"
        self._elsewhere: Path | None = None

    @classmethod
    def missing(cls) -> str | None:
        for program in cls.programs:
            if _program(program) is None:
                return f"{program} is not installed (Debian: {cls.packages})"
        return None

    def start(self) -> None:
        if not self.daemons:
            self._initialise()
            self.port = free_port()
            self.daemons = [self._daemon()]
        ready = [_needed("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        self.daemons[0].start()
        self.daemons[0].wait_until(lambda: subprocess.run(ready, check=False).returncode == 0)

    def _daemon(self) -> Daemon:
        options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            **self.options,
        }
        if self._tls:
            options |= {"ssl": "on"}
        settings = [word for pair in options.items() for word in ("-c", "=".join(pair))]
        command = [_needed("postgres"), "-D", str(self._data), *settings]
        return Daemon(command, self.home / "postgres.log", user=self._user)

    def _initialise(self) -> None:
        if self._user is not None:
            if not _is_open_to_all(self.home):
                self._elsewhere = Path(tempfile.mkdtemp(prefix="kvfs-postgres-"))
                self._elsewhere.chmod(0o755)
                self._data = self._elsewhere / "data"
            self._data.mkdir(mode=0o700, exist_ok=True)
            shutil.chown(self._data, self._user)
        if (self._data / "PG_VERSION").exists():
            return
        secret = self._data.with_name("password")
        secret.write_text(PASSWORD)
        words = ["-D", self._data, "-U", _USER, "-A", "scram-sha-256", f"--pwfile={secret}"]
        _run([_needed("initdb"), *words, "--no-sync", "--locale=C", "-E", "UTF8"], self._user)
        if self._tls:
            self._make_certificate()

    def _make_certificate(self) -> None:
        key, certificate = self._data / "server.key", self._data / "server.crt"
        words = ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", key]
        names = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate]
        _run(["openssl", "req", "-new", "-x509", *words, *names], self._user)
        (self.home / "server.crt").write_bytes(certificate.read_bytes())

    def stop(self) -> None:
        # What SIGTERM asks for waits until every client has gone.
        for daemon in self.daemons:
            daemon.signal(signal.SIGINT)
        super().stop()

    def kill(self) -> None:
        # Its processes have groups of their own.
        children = [pid for daemon in self.daemons for pid in _children(daemon)]
        super().kill()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def settings(self, namespace: str = "kvfs") -> dict[str, Any]:
        """The table ``[kv]`` of a volume in this server."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": _USER,
            "password": PASSWORD,
            "database": _USER,
            "namespace": namespace,
            "sslmode": "prefer" if self._tls else "disable",
        }

    def close(self) -> None:
        super().close()
        if self._elsewhere is not None:
            shutil.rmtree(self._elsewhere, ignore_errors=True)


def _children(daemon: Daemon) -> list[int]:
    if not daemon.is_running():
        return []
    text = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text()
    return [int(word) for word in text.split()]


def _needed(program: str) -> str:
    found = _program(program)
    if found is None:
        raise ServerFailed(f"{program} is not installed (Debian: {Postgres.packages})")
    return found


def _run(command: list[Any], user: str | None) -> None:
    done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailed(f"{command[0]} failed:\n{done.stderr[-4000:]}")


__all__ = ["PASSWORD", "Postgres"]

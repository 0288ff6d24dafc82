"""etcd: one member, or a cluster of several on this machine."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import attrs

from kvfs.testing.servers.base import Daemon, Server, ServerFailed, free_port

_ETCDCTL_S = 60


@attrs.frozen
class _Member:
    """Where one member listens."""

    name: str
    client_port: int
    peer_port: int
    health_port: int

    @classmethod
    def numbered(cls, number: int) -> _Member:
        return cls(f"m{number}", free_port(), free_port(), free_port())

    def is_healthy(self) -> bool:
        """Does it serve, and has it a leader?"""
        try:
            with urllib.request.urlopen(self._health, timeout=5) as answer:
                return bool(json.load(answer)["health"] == "true")
        except (URLError, OSError, ValueError):
            return False

    @property
    def _health(self) -> str:
        return f"http://127.0.0.1:{self.health_port}/health"


class Etcd(Server):
    """An etcd.

    :param members: how many processes; all but the minority are needed.
    :param flags: further flags of each, as ``--max-txn-ops=16``.
    :param tls: certificate, key and the authority that clients are trusted by, as files: clients
        have to use TLS, and to show a certificate.
    """

    name = "etcd"
    programs = ("etcd", "etcdctl")
    packages = "etcd-server etcd-client"

    def __init__(
        self,
        home: Path,
        *,
        members: int = 1,
        flags: Sequence[str] = (),
        tls: tuple[Path, Path, Path] | None = None,
    ) -> None:
        super().__init__(home)
        self._members = [*map(_Member.numbered, range(members))]
        self._scheme = "http" if tls is None else "https"
        self._flags = [*flags]
        if tls is not None:
            certificate, key, authority = tls
            self._flags += [
                f"--cert-file={certificate}",
                f"--key-file={key}",
                f"--trusted-ca-file={authority}",
                "--client-cert-auth",
            ]

    @property
    def endpoints(self) -> list[str]:
        """Where the members listen, as in the settings of the driver."""
        scheme = "https://" if self._scheme == "https" else ""
        return [f"{scheme}127.0.0.1:{member.client_port}" for member in self._members]

    def settings(self, **more: Any) -> dict[str, Any]:
        """A table ``[kv]`` with a namespace that nobody has used yet."""
        return {"endpoints": self.endpoints, "namespace": f"t{secrets.token_hex(8)}", **more}

    def etcdctl(self, *arguments: str, user: str = "") -> str:
        """What etcd's own command prints; without TLS only.

        :param user: as ``name:password``.
        """
        done = subprocess.run(
            ["etcdctl", *([f"--user={user}"] if user else []), *arguments],
            env={**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ",".join(self.endpoints)},
            capture_output=True,
            text=True,
            timeout=_ETCDCTL_S,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"etcdctl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def count(self, prefix: str) -> int:
        """How many keys begin so, past the driver."""
        found = self.etcdctl("get", "--prefix", "--keys-only", "--write-out=json", prefix)
        return len(json.loads(found).get("kvs", ()))

    def start(self) -> None:
        self.daemons = [
            Daemon(self._command(m), self.home / f"{m.name}.log") for m in self._members
        ]
        for daemon in self.daemons:
            daemon.start()
        for daemon, member in zip(self.daemons, self._members, strict=True):
            daemon.wait_until(member.is_healthy)

    def is_ready(self) -> bool:
        """Do all members serve?"""
        return all(member.is_healthy() for member in self._members)

    def _command(self, member: _Member) -> list[str]:
        clients = f"{self._scheme}://127.0.0.1:{member.client_port}"
        peers = f"http://127.0.0.1:{member.peer_port}"
        cluster = [f"{other.name}=http://127.0.0.1:{other.peer_port}" for other in self._members]
        return [
            "etcd",
            f"--name={member.name}",
            f"--data-dir={self.home / member.name}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster={','.join(cluster)}",
            f"--listen-metrics-urls=http://127.0.0.1:{member.health_port}",
            "--logger=zap",
            "--log-level=error",
            *self._flags,
        ]


__all__ = ["Etcd"]

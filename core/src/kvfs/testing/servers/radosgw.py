"""Ceph's S3 gateway, over a cluster of one disk."""

from __future__ import annotations

from pathlib import Path

from kvfs.testing.servers.ceph import Ceph
from kvfs.testing.servers.s3 import S3Server


class Radosgw(S3Server):
    """An independent implementation with authentication and durability, and quirks of its own."""

    name = "radosgw"
    programs = (*Ceph.programs, "radosgw", "radosgw-admin")
    packages = Ceph.packages
    access_key = Ceph.access_key
    secret_key = Ceph.secret_key

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._ceph = Ceph(home, gateway=True)
        self.port = self._ceph.gateway_port

    def start(self) -> None:
        self._ceph.start()
        self.daemons = self._ceph.daemons
        self.daemons[-1].wait_until(self.answers)

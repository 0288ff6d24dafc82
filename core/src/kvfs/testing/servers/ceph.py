"""Ceph: one monitor and one OSD, and on request the S3 gateway (radosgw).

No manager: it is not needed for objects, and would take longer to start than all the rest.
"""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import HTTPError, URLError
from urllib.request import urlopen
from uuid import uuid4

from kvfs.testing.servers.base import Daemon, Server, ServerFailed, accepts, free_port

_COMMAND_S = 60
# The lines "ms mon" matter: radosgw would ask for encryption, which needs authentication.  Sockets
# for administration are left out, as their paths may be no longer than 107 bytes.
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
auth cluster required = {auth}
auth service required = {auth}
auth client required = {auth}
keyring = {home}/keyring
ms mon client mode = crc
ms mon service mode = crc
ms mon cluster mode = crc
mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = {pgs}
osd pool default pgp num = {pgs}
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = {objectstore}
osd memory target = 939524096
bluestore block size = {device_bytes}
bluestore cache autotune = false
bluestore cache size = 67108864
memstore device bytes = {device_bytes}
mon data = {home}/mon
osd data = {home}/osd
rgw data = {home}/rgw
run dir = {home}
admin socket =
log file = {home}/$name.log
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw thread pool size = 32
rgw run sync thread = false
rgw enable gc threads = false
rgw dns name = 127.0.0.1
"""


class Ceph(Server):
    """A cluster of one disk.

    :param gateway: start radosgw too: S3 at :attr:`endpoint`, path-style, one user.
    :param auth: clients need a key (cephx); those of :attr:`conf` have the administrator's.
    :param objectstore: ``bluestore``, or ``memstore``: quicker, and empty after a restart.
    :param device_bytes: size of the disk, a sparse file.
    """

    name = "ceph"
    programs = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "ceph-authtool")
    packages = "ceph-mon ceph-osd ceph-common radosgw"

    access_key: ClassVar[str] = "kvfs"
    secret_key: ClassVar[str] = "kvfs-secret"

    def __init__(
        self,
        home: Path,
        *,
        gateway: bool = False,
        auth: bool = False,
        objectstore: str = "bluestore",
        device_bytes: int = 4 << 30,
    ) -> None:
        super().__init__(home)
        self.conf = home / "ceph.conf"
        """What a client needs to know."""
        self.gateway_port = free_port() if gateway else 0
        self._gateway = gateway
        self._auth = auth
        self._objectstore = objectstore
        self._device_bytes = device_bytes
        self._pools: set[str] = set()

    @property
    def endpoint(self) -> str:
        """Where the gateway is."""
        assert self._gateway, "the gateway was not asked for"
        return f"http://127.0.0.1:{self.gateway_port}"

    def start(self) -> None:
        if not self.daemons:
            self._make_monitor()
        monitor, *others = self.daemons
        monitor.start()
        monitor.wait_until(partial(accepts, self._port))
        if not others:
            others = self._make_others()
        osd, *gateways = others
        before = self._booted()
        osd.start()
        # A gateway waits for the OSD by itself, and is the slowest to start.
        for gateway in gateways:
            gateway.start()
        osd.wait_until(lambda: self._booted() > before)
        for gateway in gateways:
            gateway.wait_until(self._gateway_answers)

    def command(self, *arguments: str) -> Any:
        """The answer of ``ceph ARGUMENTS``.

        :raises ServerFailed: it failed.
        """
        limit = ["--connect-timeout", str(_COMMAND_S)]
        output = self._run("ceph", *limit, "--format", "json", *arguments)
        return json.loads(output) if output.strip() else None

    def pool(self, name: str) -> str:
        """Make a pool, unless it is there; its name."""
        if name not in self._pools:
            self.command("osd", "pool", "create", name)
            self._pools.add(name)
        return name

    def user(self, name: str, *, mon: str, osd: str) -> None:
        """Make a user with these rights, and put its key into the keyring."""
        key = self._run("ceph", "auth", "get-or-create", name, "mon", mon, "osd", osd)
        with (self.home / "keyring").open("a") as keyring:
            keyring.write(key)

    def settings(self, namespace: str, *, pool: str = "kvfs") -> dict[str, object]:
        """The table ``[kv]`` of a volume of that name."""
        return {"conf": str(self.conf), "pool": self.pool(pool), "namespace": namespace}

    def _run(self, program: str, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [program, "-c", str(self.conf), *arguments],
            capture_output=True,
            text=True,
            timeout=2 * _COMMAND_S,
            check=False,
        )
        if check and done.returncode:
            raise ServerFailed(f"{program} {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout

    def _daemon(self, program: str, name: str, *arguments: str) -> Daemon:
        command = [program, "-c", str(self.conf), "-n", name, "-f", *arguments]
        return Daemon(command, self.home / f"{program}.out")

    def _make_monitor(self) -> None:
        fsid = str(uuid4())
        self._port, v1 = free_port(), free_port()
        for folder in ("mon", "osd", "rgw"):
            (self.home / folder).mkdir()
        configuration = _CONFIGURATION.format(
            fsid=fsid,
            v2=self._port,
            v1=v1,
            auth="cephx" if self._auth else "none",
            home=self.home,
            pgs=8,
            objectstore=self._objectstore,
            device_bytes=self._device_bytes,
            gateway=self.gateway_port,
        )
        self.conf.write_text(configuration)
        keyring, monitors = str(self.home / "keyring"), str(self.home / "monmap")
        caps = ["mon", "osd", "mgr"]
        everything = [part for name in caps for part in ("--cap", name, "allow *")]
        for name in ("mon.", "client.admin"):
            new = [] if name != "mon." else ["--create-keyring"]
            self._run("ceph-authtool", *new, keyring, "--gen-key", "-n", name, *everything)
        address = f"[v2:127.0.0.1:{self._port},v1:127.0.0.1:{v1}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monitors)
        files = ["--monmap", monitors, "--keyring", keyring]
        self._run("ceph-mon", "-i", "a", "--mkfs", *files)
        self.daemons = [self._daemon("ceph-mon", "mon.a")]

    def _make_others(self) -> list[Daemon]:
        uuid = str(uuid4())
        self.command("osd", "new", uuid)
        if self._auth:
            self.user("osd.0", mon="allow profile osd", osd="allow *")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)
        self.daemons.append(self._daemon("ceph-osd", "osd.0"))
        if self._gateway:
            self.daemons.append(self._daemon("radosgw", "client.admin"))
        return self.daemons[1:]

    def _booted(self) -> int:
        """The epoch in which the OSD came up; the monitor goes on to call a killed one up."""
        epoch: int = self.command("osd", "dump")["osds"][0]["up_from"]
        return epoch

    def _gateway_answers(self) -> bool:
        if not _answers(self.endpoint):
            return False
        user = ["--uid", "kvfs", "--display-name", "kvfs"]
        keys = ["--access-key", self.access_key, "--secret-key", self.secret_key]
        self._run("radosgw-admin", "user", "create", *user, *keys, check=False)  # or it is there
        return True


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except HTTPError:
        return True
    except (URLError, OSError):
        return False


__all__ = ["Ceph"]

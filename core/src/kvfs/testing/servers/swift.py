"""OpenStack Swift with its S3 middleware: a server that answers 501 to a put on a condition."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

from kvfs.testing.servers.base import Daemon, ServerFailed, accepts, free_port
from kvfs.testing.servers.s3 import S3Server

_PARTS = ("account", "container", "object")
_COMMON = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {home}
devices = {home}/devices
mount_check = false
log_address =
log_level = ERROR
"""
_STORAGE = """
[pipeline:main]
pipeline = {part}-server

[app:{part}-server]
use = egg:swift#{part}
recon_cache_path = {home}/recon
"""
_PROXY = """
[pipeline:main]
pipeline = catch_errors cache s3api tempauth bulk copy slo dlo versioned_writes symlink proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}

[filter:s3api]
use = egg:swift#s3api
location = {region}
s3_acl = false
check_bucket_owner = false

[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user_name} = {secret} .admin

[filter:bulk]
use = egg:swift#bulk

[filter:copy]
use = egg:swift#copy

[filter:slo]
use = egg:swift#slo

[filter:dlo]
use = egg:swift#dlo

[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true

[filter:symlink]
use = egg:swift#symlink
"""


class Swift(S3Server):
    """One device, three storage servers, a proxy that speaks S3, and the cache that it needs."""

    name = "swift"
    programs = (
        *(f"swift-{part}-server" for part in (*_PARTS, "proxy")),
        "swift-ring-builder",
        "memcached",
    )
    packages = "swift-proxy swift-account swift-container swift-object memcached"
    access_key = "test:tester"
    secret_key = "testing-secret"

    def start(self) -> None:
        if not self.daemons:
            self._make()
        cache, *storage, proxy = self.daemons
        for daemon in (cache, *storage):
            daemon.start()
        for daemon, port in zip((cache, *storage), self._ports, strict=True):
            daemon.wait_until(partial(accepts, port))
        proxy.start()
        proxy.wait_until(self.answers)

    def _make(self) -> None:
        self.port = free_port()
        self._ports = [free_port() for _ in range(1 + len(_PARTS))]
        memcached, *ports = self._ports
        (self.home / "devices" / "disk").mkdir(parents=True)
        (self.home / "recon").mkdir()
        self._write("swift.conf", "[swift-hash]\nswift_hash_path_suffix = kvfs\n")
        cache = ["memcached", "-l", "127.0.0.1", "-p", str(memcached), "-U", "0", "-u", _user()]
        self.daemons = [Daemon(cache, self.home / "memcached.log", environment=self._environment)]
        for part, port in zip(_PARTS, ports, strict=True):
            self._ring(part, port)
            text = _COMMON + _STORAGE
            self._write(
                f"{part}.conf", text.format(port=port, user=_user(), home=self.home, part=part)
            )
            self.daemons.append(self._daemon(part))
        account, _, name = self.access_key.partition(":")
        proxy = (_COMMON + _PROXY).format(
            port=self.port,
            user=_user(),
            home=self.home,
            memcached=memcached,
            region=self.region,
            account=account,
            user_name=name,
            secret=self.secret_key,
        )
        self._write("proxy.conf", proxy)
        self.daemons.append(self._daemon("proxy"))

    @property
    def _environment(self) -> dict[str, str]:
        return {"SWIFT_CONF_FILE": str(self.home / "swift.conf"), "PYTHONWARNINGS": "ignore"}

    def _daemon(self, part: str) -> Daemon:
        command = [f"swift-{part}-server", str(self.home / f"{part}.conf")]
        return Daemon(command, self.home / f"{part}.log", environment=self._environment)

    def _ring(self, part: str, port: int) -> None:
        builder = str(self.home / f"{part}.builder")
        self._run("swift-ring-builder", builder, "create", "4", "1", "1")
        device = f"r1z1-127.0.0.1:{port}/disk"
        self._run("swift-ring-builder", builder, "add", device, "1")
        self._run("swift-ring-builder", builder, "rebalance")

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode > 1:  # 1 is a warning
            raise ServerFailed(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def _write(self, name: str, text: str) -> None:
        Path(self.home, name).write_text(text)


def _user() -> str:
    import getpass

    return getpass.getuser()

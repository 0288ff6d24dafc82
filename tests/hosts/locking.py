"""Programs that lock files, on two hosts that have one volume mounted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import attrs

from kvfs.testing.mounts import Site, site_in, wait_until
from kvfs.testing.places import Place

from .conftest import LEASE_S, PATIENCE_S, TIMEOUT_S, numbers
from .hosts import Host

LOCKER = Path(__file__).with_name("locker.py")
STATS_XATTR = "user.kvfs.requests"
names = count(1)


@attrs.frozen
class Locker:
    """A program on a host that locks a file as it is told (locker.py)."""

    site: Site
    pid: int
    """As its host numbers it."""
    _process: subprocess.Popen[str]

    def ask(self, request: str) -> str:
        """Have it do something; returns what became of it."""
        self.begin(request)
        return self.answer()

    def begin(self, request: str) -> None:
        """Have it do what may take long."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{request}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """What became of what it began."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def signal(self, name: str) -> None:
        """Send it a signal."""
        subprocess.run([*self.site.prefix, "kill", f"-{name}", str(self.pid)], check=True)


def _end(process: subprocess.Popen[str]) -> None:
    """Let a program end, or kill it if it waits for something."""
    assert process.stdin is not None
    process.stdin.close()
    process.send_signal(signal.SIGCONT)  # nsenter(1) stops with a program that is stopped
    try:
        process.wait(PATIENCE_S / 10)
    except subprocess.TimeoutExpired:
        process.kill()
    with process:
        pass


@attrs.frozen
class Pair:
    """Two hosts that have a volume mounted, to which both write."""

    one: Host
    other: Host
    _volume: Path
    _path: Path
    _stack: ExitStack

    @classmethod
    @contextmanager
    def over(cls, place: Place, directory: Path) -> Iterator[Pair]:
        """They boot, and mount a new volume; no locks are left of them in the end."""
        kv = place.table(f"volume{next(numbers)}") | {"timeout": TIMEOUT_S}
        settings = {"lease": LEASE_S, "locks": "cluster", "shared": True}
        with site_in(directory) as site, ExitStack() as stack:
            volume = site.config({"driver": "scratch"}, kv=kv, volume=settings)
            hosts = [stack.enter_context(Host.boot(site.path / name)) for name in ("one", "other")]
            for host in hosts:
                host.mount(volume)
            with ExitStack() as programs:
                yield cls(hosts[0], hosts[1], volume, site.path, programs)
            for host in hosts:
                host.site.run("umount", host.site.target())
            said = site.error("inspect", volume, "K:", code=3)
            assert "there is no record" in said

    def third(self) -> Host:
        """One more."""
        host = self._stack.enter_context(Host.boot(self._path / f"third{next(names)}"))
        host.mount(self._volume)
        return host

    def file(self) -> str:
        """The name of a new file, which no kernel has seen."""
        name = f"file{next(names)}"
        (self.one.mnt / name).write_text("0")
        return name

    def locker(self, host: Host, name: str, *files: str) -> Locker:
        """A program on a host, with a file open."""
        program = [sys.executable, str(LOCKER), str(host.site.target() / name)]
        process = subprocess.Popen(
            [*host.site.prefix, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._stack.callback(_end, process)
        assert process.stdout is not None
        locker = Locker(host.site, int(process.stdout.readline()), process)
        assert locker.ask(" ".join(["open", *files])) == "done"
        return locker

    def lockers(self, *files: str, name: str = "") -> tuple[Locker, Locker]:
        """A program on each host, with the same file open, by default a new one."""
        name = name or self.file()
        return self.locker(self.one, name, *files), self.locker(self.other, name, *files)

    def flock(self, host: Host, name: str, *words: str) -> int:
        """The exit status of flock(1) on a host."""
        path = str(host.site.target() / name)
        command = ["flock", *words[:-1], path, words[-1]]
        return subprocess.run(
            [*host.site.prefix, *command], check=False, timeout=PATIENCE_S
        ).returncode


def begin_to_wait(host: Host, locker: Locker, request: str) -> None:
    """Have a program ask for a lock; return when its host knows."""
    before = _waits(host)
    locker.begin(request)
    wait_until(lambda: _waits(host) > before, "it waits for the lock")


def _waits(host: Host) -> int:
    """How often a lock was asked for on a host, to be waited for."""
    requests = json.loads(os.getxattr(host.mnt, STATS_XATTR))
    return int(requests.get("SETLKW", 0))

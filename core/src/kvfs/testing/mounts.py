"""Real mounts by the real command, for tests that look at KVFS from outside.

A :class:`Site` is a user's world in a directory: home, cache, runtime files, and the ``kvfs``
command that is installed beside the Python that runs the tests.  What it mounts is a
:class:`Mounted`: the daemon can be asked, killed and unmounted.  :meth:`Site.close` leaves nothing
behind, whatever happened::

    with site_in(tmp_path) as site:
        mounted = site.mount(tarballs)
        assert sorted(os.listdir(mounted.path)) == ["a", "b"]
        mounted.kill()
        site.mount(tarballs)  # at the same place
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from kvfs.testing import gated
from kvfs.testing.gated import Gate
from kvfs.testing.invariants import violations
from kvfs.volume import Volume, from_tables

PATIENCE_S = 60.0
"""A command that takes longer has failed."""
_TABLE = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")

_MOUNTED = re.compile(r" is mounted at .*, process (?P<pid>\d+)(, log (?P<log>.*))?$", re.MULTILINE)


def mounted_below(directory: Path) -> list[Path]:
    """Where a KVFS is mounted below a directory, the last made first; asks nothing of it."""
    found = []
    for line in _TABLE.read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        place = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), before.split(b" ")[4])
        path = Path(os.fsdecode(place))
        if after.startswith(b"fuse.kvfs ") and path.is_relative_to(directory):
            found.append(path)
    return found[::-1]


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = 30.0) -> None:
    """Ask until it holds, for what gives no sign of itself; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(0.02)


def wait_for_end(descriptor: int) -> None:
    """Return when the process of a pidfd has ended."""
    assert select.select([descriptor], [], [], PATIENCE_S)[0], "the process does not end"


@attrs.define(kw_only=True)
class Mounted:
    """A volume that a daemon serves at a directory."""

    site: Site
    path: Path
    pid: int
    log_path: Path | None

    def status(self) -> dict[str, Any]:
        """What ``kvfs status`` says about it."""
        found: dict[str, Any] = self.site.json("status", self.path)
        return found

    def states(self) -> dict[str, int]:
        """How many tarballs are in which state."""
        states: dict[str, int] = self.status()["tarballs"]["states"]
        return states

    def info(self, path: str) -> dict[str, Any]:
        """What ``kvfs info`` says about a path."""
        found: dict[str, Any] = self.site.json("info", self.path, path)
        return found

    def log(self) -> str:
        """What the daemon has written to its log."""
        assert self.log_path is not None
        return self.log_path.read_text(errors="replace")

    def memory(self, field: str) -> int:
        """A line of ``/proc/PID/status`` in bytes, as ``VmHWM`` or ``RssAnon``."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
        assert found is not None, text
        return int(found[1]) << 10

    def is_alive(self) -> bool:
        """Is the daemon there, and does its mount answer?"""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
            os.statvfs(self.path)
        except OSError:
            return False
        return self.is_mounted() and stat.rpartition(")")[2].split()[0] not in "ZX"

    def signal(self, number: int) -> None:
        """Send the daemon a signal, and return when it has ended."""
        descriptor = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(descriptor, number)
            wait_for_end(descriptor)
        finally:
            os.close(descriptor)

    def kill(self) -> None:
        """Kill the daemon; its mount point stays, dead.  Its workers have ended, too."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        workers = [os.pidfd_open(int(pid)) for pid in children]
        try:
            self.signal(signal.SIGKILL)
            for worker in workers:
                wait_for_end(worker)
        finally:
            for worker in workers:
                os.close(worker)

    def umount(self, *options: str) -> None:
        """``kvfs umount``; the daemon has ended when it returns."""
        self.site.run("umount", *options, self.path)
        assert not self.is_mounted(), f"{self.path} is still mounted"

    def is_mounted(self) -> bool:
        """Is anything mounted there?"""
        return self.path in mounted_below(self.path)


class Foreground(NamedTuple):
    """A mount whose daemon is a process that the test started."""

    mounted: Mounted
    process: subprocess.Popen[str]


@attrs.define(kw_only=True)
class Site:
    """A user's world, and what is mounted in it."""

    path: Path
    """No longer than some 60 bytes: there are sockets in it."""
    environment: dict[str, str]
    frontend: str | None = None
    """What serves the mounts; ``None``: what ``kvfs mount`` takes where nobody chooses."""
    prefix: tuple[str, ...] = ()
    """Words before each command, as of setpriv(1)."""
    mounts: list[Mounted] = attrs.field(factory=list)
    _stack: ExitStack = attrs.field(factory=ExitStack)

    # -- the command -------------------------------------------------------------------------------

    def command(self, *words: object) -> list[str]:
        """A command line of ``kvfs``."""
        program = Path(sys.executable).with_name("kvfs")
        assert program.exists(), f"{program} is not installed: run make dev"
        return [*self.prefix, str(program), *map(str, words)]

    def run(
        self, *words: object, code: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``kvfs``, and see that it exits with ``code``."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment | environment,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *words: object) -> Any:
        """The document that ``kvfs ... --json`` prints."""
        return json.loads(self.run(*words, "--json").stdout)

    def error(self, *words: object, code: int) -> str:
        """The one line with which ``kvfs`` refuses."""
        lines = self.run(*words, code=code).stderr.splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Run ``kvfs`` beside the test; killed at the end if it still runs."""
        return self.beside(*self.command(*words))

    def beside(self, *words: object) -> subprocess.Popen[str]:
        """Run any program beside the test; killed at the end if it still runs."""
        process = subprocess.Popen(
            [*map(str, words)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self._stack.callback(end)
        return process

    # -- mounts ------------------------------------------------------------------------------------

    def mount(self, volume: Path, *options: str, at: str = "mnt") -> Mounted:
        """``kvfs mount`` in the background, at a directory of the site."""
        target = self.target(at)
        said = self.run("mount", *self._chosen(), *options, volume, target).stdout
        return self._mounted(target, said)

    def target(self, name: str = "mnt") -> Path:
        """A directory to mount at."""
        path = self.path / name
        if path not in mounted_below(path):
            path.mkdir(exist_ok=True)
        return path

    def foreground(self, volume: Path, *options: str, at: str = "mnt") -> Foreground:
        """``kvfs mount --foreground``, as soon as it says that it is ready."""
        target = self.target(at)
        words = ("mount", "--foreground", *self._chosen(), *options)
        process = self.start(*words, volume, target)
        assert process.stdout is not None
        return Foreground(self._mounted(target, process.stdout.readline()), process)

    def _chosen(self) -> tuple[str, ...]:
        return () if self.frontend is None else ("--frontend", self.frontend)

    def _mounted(self, target: Path, said: str) -> Mounted:
        """What ``kvfs mount`` says that it did."""
        found = _MOUNTED.search(said)
        assert found is not None, said
        mounted = Mounted(
            site=self,
            path=target,
            pid=int(found["pid"]),
            log_path=None if found["log"] is None else Path(found["log"]),
        )
        self.mounts.append(mounted)
        return mounted

    def config(self, backing: Mapping[str, Any], *, name: str = "volume", **more: Any) -> Path:
        """A configuration file over LMDB in the site.

        :param more: further settings, as ``volume={"refresh": "1s"}``.
        """
        tables = {"kv": {"driver": "lmdb", "path": str(self.path / f"cache-{name}")}}
        tables |= {"backing": dict(backing)} | more
        path = self.path / f"{name}.toml"
        path.write_text("".join(_toml(table, rows) for table, rows in tables.items()))
        return path

    def gated(self, directory: Path, **more: Any) -> tuple[Gate, Path]:
        """A gate, and the configuration of a volume whose tarballs come through it."""
        site = self.path / "site"
        gated.install(site)
        self.environment["PYTHONPATH"] = str(site)
        gate = self._stack.enter_context(Gate(self.path / "gate"))
        backing = {"driver": "gated", "path": str(directory), "gate": str(self.path / "gate")}
        return gate, self.config(backing, **more)

    def violations(self, directory: Path, *, name: str = "volume") -> list[str]:
        """What is wrong with the cache of a volume made by :meth:`config`; nothing may run."""
        with self.opened(directory, name=name) as volume:
            return [*violations(volume)]

    @contextmanager
    def opened(self, directory: Path, *, name: str = "volume") -> Iterator[Volume]:
        """The cache of a volume made by :meth:`config`, opened by this process."""
        kv = {"driver": "lmdb", "path": str(self.path / f"cache-{name}")}
        backing = {"driver": "posix", "path": str(directory)}
        with Volume(from_tables({"kv": kv, "backing": backing}, where="a test")) as volume:
            yield volume

    def close(self) -> None:
        """End every process and every mount of the site."""
        self._stack.close()
        for mounted in reversed(self.mounts):
            if not mounted.is_mounted():
                continue
            subprocess.run(
                self.command("umount", "--force", mounted.path),
                env=self.environment,
                capture_output=True,
                timeout=PATIENCE_S,
                check=False,
            )
        for pid in self._daemons():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for place in mounted_below(self.path):
            subprocess.run(["umount", "-l", place], check=True, capture_output=True)

    def _daemons(self) -> list[int]:
        """The processes that left a record of a mount."""
        records = (self.path / "run" / "kvfs").glob("*.json")
        return [int(json.loads(path.read_bytes())["holder"].split("/")[1]) for path in records]


def _toml(name: str, rows: Mapping[str, Any]) -> str:
    # Strings, numbers and truth values are written alike in TOML and JSON; so are their lists.
    lines = [f"[{name}]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in rows.items()]
    return "\n".join(lines) + "\n"


def environment_in(path: Path) -> dict[str, str]:
    """The environment of a user whose world is a directory; made if need be."""
    runtime = path / "run"
    runtime.mkdir(parents=True, mode=0o700, exist_ok=True)
    environment = os.environ | {
        "HOME": str(path),
        "XDG_CACHE_HOME": str(path / "cache"),
        "XDG_RUNTIME_DIR": str(runtime),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
    environment.pop("KVFS_DEBUG", None)
    return environment


@contextmanager
def site_in(directory: Path, *, frontend: str | None = None) -> Iterator[Site]:
    """A new site, in a directory of its own; nothing of it stays mounted or running.

    :param frontend: what serves its mounts; see :attr:`Site.frontend`.
    """
    path = directory / "s"
    environment = environment_in(path)
    site = Site(path=path, environment=environment, frontend=frontend)
    try:
        yield site
    finally:
        site.close()
        shutil.rmtree(path, ignore_errors=True)


__all__ = [
    "Foreground",
    "Mounted",
    "Site",
    "environment_in",
    "mounted_below",
    "site_in",
    "wait_for_end",
    "wait_until",
]

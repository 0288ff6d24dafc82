"""Hosts: processes in namespaces of their own, which see another boot and none of each other.

A host has its own mounts and process ids, its own boot id, and a user's home with what is mounted
there.  With the other hosts it shares the disk, where the tarballs are, and the network of
loopback, where the engine's server is.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Self
from uuid import uuid4

import attrs

from kvfs.closing import Closing
from kvfs.testing.mounts import Mounted, Site, environment_in

# The first process of a namespace is everybody's heir: it lets the dead go, and does nothing else.
# What is mounted elsewhere would stay alive with its copies here.
_INIT = """
awk '$3 == "fuse.kvfs" { print $2 }' /proc/mounts | xargs -r umount --lazy
mount --bind "$0" /proc/sys/kernel/random/boot_id && trap "" CHLD && echo up && exec sleep infinity
"""


@attrs.define
class Host(Closing):
    """A host that is up, until :meth:`close`."""

    site: Site
    """Runs commands on it.  Process ids that they tell are the host's own."""
    _init: subprocess.Popen[str]

    @classmethod
    def boot(cls, path: Path, **environment: str) -> Self:
        """Have it up.

        :param path: a directory for its home; there may be what an earlier boot has left.
        """
        boot_id = path.with_suffix(".boot-id")
        boot_id.write_text(f"{uuid4()}\n")
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        init = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *isolated, "sh", "-c", _INIT, boot_id],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert init.stdout is not None
        assert init.stdout.readline() == "up\n"
        entered = ("nsenter", "--target", str(_child(init.pid)), "--mount", "--pid", "--")
        site = Site(path=path, environment=environment_in(path) | environment, prefix=entered)
        return cls(site, init)

    def mount(self, volume: Path) -> Mounted:
        """``kvfs mount`` on this host."""
        return self.site.mount(volume)

    @property
    def root(self) -> Path:
        """Its root directory, as this process gets there."""
        return Path(f"/proc/{_child(self._init.pid)}/root")

    @property
    def mnt(self) -> Path:
        """Where its volume is mounted, as this process gets there."""
        return self.root / self.site.target().relative_to("/")

    def _processes(self) -> list[int]:
        """All but the first."""
        first = _child(self._init.pid)
        namespace = os.readlink(f"/proc/{first}/ns/pid")
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{name}/ns/pid") == namespace and int(name) != first:
                    found.append(int(name))
            except OSError:
                continue  # It has ended.
        return found

    def freeze(self) -> None:
        """Let nothing run on it any more: it is as slow as can be, and not dead."""
        for pid in self._processes():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for pid in self._processes():
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """Have it dead at once, with all its processes and mounts."""
        if self._init.poll() is None:
            os.kill(_child(self._init.pid), signal.SIGKILL)
        self._init.wait()

    def close(self) -> None:
        """Nothing is left of it."""
        self.kill()
        assert self._init.stdout is not None
        self._init.stdout.close()


def _child(pid: int) -> int:
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)

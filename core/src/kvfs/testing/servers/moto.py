"""moto: an S3 server in memory; fast, complete, and trusting (it verifies no checksum)."""

from __future__ import annotations

from kvfs.testing.servers.base import Daemon, free_port
from kvfs.testing.servers.s3 import S3Server, program


class Moto(S3Server):
    """``moto_server``.  A restart begins with nothing."""

    name = "moto"
    programs = ("moto_server",)
    packages = "none; PyPI: moto[server,s3], in a virtual environment of its own"

    @classmethod
    def missing(cls) -> str | None:
        if program("moto_server", "moto") is None:
            return "moto_server is not installed: run .ci/setup dev"
        return None

    def start(self) -> None:
        command = program("moto_server", "moto")
        assert command is not None, self.missing()
        if not self.daemons:
            self.port = free_port()
            arguments = [command, "-H", "127.0.0.1", "-p", str(self.port)]
            self.daemons = [Daemon(arguments, self.home / "moto.log")]
        self.daemons[0].start()
        self.daemons[0].wait_until(self.answers)

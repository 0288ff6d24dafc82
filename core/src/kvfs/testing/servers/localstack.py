"""localstack: an S3 server in memory that is strict about checksums, which moto is not."""

from __future__ import annotations

from kvfs.testing.servers.base import Daemon, free_port
from kvfs.testing.servers.s3 import S3Server, program


class Localstack(S3Server):
    """The S3 part of localstack-core.  A restart begins with nothing.

    It needs Python 3.12 or newer, in an environment of its own.
    """

    name = "localstack"
    programs = ("python",)
    packages = "none; PyPI: localstack-core[base-runtime], in an environment of its own"

    @classmethod
    def missing(cls) -> str | None:
        if program("localstack-supervisor", "localstack") is None:
            return "localstack is not installed: run .ci/setup dev where there is Python 3.12"
        return None

    def start(self) -> None:
        supervisor = program("localstack-supervisor", "localstack")
        assert supervisor is not None, self.missing()
        python = supervisor.removesuffix("localstack-supervisor") + "python"
        if not self.daemons:
            self.port = free_port()
            arguments = [python, "-m", "localstack.runtime.main"]
            environment = {
                "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
                "GATEWAY_SERVER": "hypercorn",  # the default one listens at all addresses
                "SERVICES": "s3",
                "SKIP_SSL_CERT_DOWNLOAD": "1",
                "DISABLE_EVENTS": "1",
                "DNS_ADDRESS": "0",
                "LOCALSTACK_VOLUME_DIR": str(self.home / "volume"),
                "TMPDIR": str(self.home),
            }
            log = self.home / "localstack.log"
            self.daemons = [Daemon(arguments, log, environment=environment)]
        self.daemons[0].start()
        self.daemons[0].wait_until(self.answers)

"""Every S3 server that this machine can have, each running once, and real mounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.testing.mounts import Site, site_in
from kvfs.testing.servers.s3 import S3Server

from .servers import ALWAYS, SERVERS, WHERE_POSSIBLE, Bucket


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers the run had."""
    terminalreporter.section("S3 servers")
    for server in (*ALWAYS, *WHERE_POSSIBLE):
        terminalreporter.line(f"{server.name}: {server.missing() or 'tested'}")


@pytest.fixture(scope="session", params=SERVERS, ids=lambda server: server.name)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    """A server."""
    assert request.param.missing() is None, request.param.missing()
    with request.param(tmp_path_factory.mktemp(request.param.name)) as running:
        yield running


@pytest.fixture
def bucket(server: S3Server) -> Bucket:
    """A new bucket of it."""
    return Bucket.new(server)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A user's world."""
    with site_in(tmp_path) as made:
        yield made

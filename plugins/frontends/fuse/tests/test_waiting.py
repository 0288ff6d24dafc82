"""Requests whose contents have not arrived: they wait, and nobody else does."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from .conftest import Serve

pytestmark = pytest.mark.timeout(60)


def cat(path: Path) -> subprocess.Popen[bytes]:
    """A reader that a test may leave blocked."""
    return subprocess.Popen(["cat", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(reader: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """How a reader ended: its status, output and errors."""
    out, error = reader.communicate()
    return reader.returncode, out, error


@pytest.mark.parametrize(
    ("path", "content"), [("gated/file", b"arrived\n"), ("gated-file", b"arrived as well\n")]
)
def test_a_reader_that_waits_gets_its_file_and_blocks_nobody(
    serve: Serve, path: str, content: bytes
) -> None:
    served = serve(gated=True)
    reader = cat(served.target / path)
    served.await_line("waiting")
    assert (served.target / "link").read_bytes() == b"leaf\n"
    assert len(os.listdir(served.target / "odd")) > 5
    assert (served.target / "big").read_bytes()
    assert reader.poll() is None
    served.open_gate()
    assert ended(reader) == (0, content, b"")


def test_more_readers_than_threads(serve: Serve) -> None:
    served = serve(gated=True, settings={"waiters": 2})
    readers = [cat(served.target / path) for path in ("gated/file", "gated-file") for _ in range(4)]
    served.await_line("waiting")
    assert (served.target / "link").read_bytes() == b"leaf\n"
    served.open_gate()
    contents = [ended(reader) for reader in readers]
    assert contents == [(0, b"arrived\n", b"")] * 4 + [(0, b"arrived as well\n", b"")] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("path", ["gated/file", "gated-file"])
def test_a_reader_that_waits_can_be_interrupted(serve: Serve, path: str, number: int) -> None:
    served = serve(gated=True)
    reader = cat(served.target / path)
    served.await_line("waiting")
    reader.send_signal(number)
    assert ended(reader)[0] == -number
    assert (served.target / "link").read_bytes() == b"leaf\n"
    served.open_gate()
    assert (served.target / path).read_bytes().startswith(b"arrived")


def test_a_reader_that_has_not_begun_to_wait_can_be_interrupted(serve: Serve) -> None:
    served = serve(gated=True, settings={"waiters": 1})
    first = cat(served.target / "gated-file")
    served.await_line("waiting")
    second = cat(served.target / "gated" / "file")
    served.await_line("missing")
    second.send_signal(signal.SIGINT)
    assert ended(second)[0] == -signal.SIGINT
    served.open_gate()
    assert ended(first) == (0, b"arrived as well\n", b"")


def test_stopping_ends_those_who_wait(serve: Serve) -> None:
    served = serve(gated=True)
    reader = cat(served.target / "gated" / "file")
    served.await_line("waiting")
    served.signal(signal.SIGTERM)
    served.end()
    assert served.mounted() == []
    status, out, error = ended(reader)
    assert (status, out) == (1, b"")
    messages = [os.strerror(number) for number in (errno.ENOTCONN, errno.ECONNABORTED)]
    assert any(message.encode() in error for message in messages), error


def test_what_a_waiting_request_fails_with_reaches_its_caller(serve: Serve) -> None:
    served = serve(gated=True)
    lost = subprocess.Popen(
        ["stat", served.target / "gated" / "absent"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    served.await_line("waiting")
    served.open_gate()
    _, error = lost.communicate()
    assert lost.returncode == 1
    assert b"No such file or directory" in error

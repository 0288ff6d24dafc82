"""Single requests: what fails, what waits, what changes behind the kernel's back."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kvfs.testing.mounts import wait_until
from kvfs_frontend_pyfuse3._waiting import is_interrupted

from .conftest import Serve

pytestmark = pytest.mark.timeout(60)
SLOW = ("slow", "slow-contents", "slow-directory")
"""Waits in LOOKUP, in OPEN, in OPENDIR."""


def start(*words: str | Path) -> subprocess.Popen[bytes]:
    """A program that a test may leave blocked."""
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def look(root: Path, name: str) -> subprocess.Popen[bytes]:
    """A program that looks at something slow."""
    return start("ls" if name == "slow-directory" else "cat", root / "a" / name)


def test_failures_are_the_callers_alone(serve: Serve) -> None:
    served = serve()
    for name in ("corrupt", "bug"):
        for _ in range(3):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                (served.target / "a" / name).read_bytes()
    assert (served.target / "a/first").read_bytes() == b"first"
    log = served.log.read_text()
    assert "corrupt on purpose" in log
    assert "ZeroDivisionError: a bug on purpose" in log


def test_extended_attributes_switched_off(serve: Serve) -> None:
    path = serve(xattrs=False).target / "a/first"
    for call in (lambda: os.getxattr(path, "user.x"), lambda: os.listxattr(path)):
        with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
            call()


CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda root: (root / "first").open("r+b", buffering=0).write(b"x"),
    "create": lambda root: (root / "new").write_bytes(b""),
    "truncate": lambda root: os.truncate(root / "first", 1),
    "mkdir": lambda root: (root / "new").mkdir(),
    "mkfifo": lambda root: os.mkfifo(root / "new"),
    "symlink": lambda root: (root / "new").symlink_to("x"),
    "link": lambda root: (root / "new").hardlink_to(root / "first"),
    "unlink": lambda root: (root / "first").unlink(),
    "rmdir": lambda root: (root / "directory").rmdir(),
    "rename": lambda root: (root / "first").rename(root / "new"),
    "chmod": lambda root: (root / "first").chmod(0o600),
    "setxattr": lambda root: os.setxattr(root / "first", "user.x", b""),
    "removexattr": lambda root: os.removexattr(root / "first", "user.x"),
}


@pytest.mark.filterwarnings("ignore:unclosed file")
@pytest.mark.parametrize("read_only", [True, False], ids=["read-only volume", "other volume"])
def test_every_change_is_refused(serve: Serve, read_only: bool) -> None:
    """This binding only reads, whatever the volume would allow."""
    served = serve(read_only=read_only)
    (mount,) = served.mounted()
    assert mount.read_only
    for what, change in CHANGES.items():
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            pytest.fail(f"{what}: {change(served.target / 'a')}")
    assert (served.target / "a/first").read_bytes() == b"first"


@pytest.mark.parametrize("name", SLOW)
def test_who_waits_blocks_nobody_and_gets_an_answer(serve: Serve, name: str) -> None:
    served = serve()
    # Known beforehand: libfuse has the kernel look up one name of a directory at a time.
    assert (served.target / "a/directory").is_dir()
    program = look(served.target, name)
    served.await_line("waiting")
    assert (served.target / "a/directory/file").read_bytes() == b"directory/file"
    assert os.listdir(served.target / "a/directory") == ["file"]
    assert program.poll() is None
    served.order("open")
    expected = b"file\n" if name == "slow-directory" else name.encode()
    assert program.communicate() == (expected, b"")


def test_more_who_wait_than_threads(serve: Serve) -> None:
    served = serve(waiters=2)
    programs = [look(served.target, "slow-contents") for _ in range(8)]
    served.await_line("waiting")
    assert (served.target / "a/first").read_bytes() == b"first"
    served.order("open")
    assert [program.communicate()[0] for program in programs] == [b"slow-contents"] * 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("name", SLOW)
def test_who_waits_can_be_interrupted(serve: Serve, name: str, number: int) -> None:
    served = serve()
    program = look(served.target, name)
    served.await_line("waiting")
    program.send_signal(number)
    program.communicate()
    assert program.returncode == -number
    served.order("open")
    assert b"slow" in look(served.target, "slow-contents").communicate()[0]


def test_a_signal_that_is_blocked_is_no_interruption() -> None:
    thread = threading.get_native_id()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert signal.SIGUSR1 in signal.sigpending()
        assert not is_interrupted(thread)
        assert not is_interrupted(1 << 22)
    finally:
        assert signal.sigtimedwait([signal.SIGUSR1], 1) is not None
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_stopping_ends_those_who_wait(serve: Serve) -> None:
    served = serve()
    program = look(served.target, "slow")
    served.await_line("waiting")
    served.end(signal.SIGTERM)
    out, error = program.communicate()
    assert (program.returncode, out) == (1, b"")
    assert os.strerror(errno.ENOTCONN).encode() in error


def test_a_connection_that_is_cut_ends_the_server_and_those_who_wait(serve: Serve) -> None:
    assert os.geteuid() == 0, "umount -f is for root"
    served = serve()
    program = look(served.target, "slow")
    served.await_line("waiting")
    subprocess.run(["umount", "-f", served.target], check=False, capture_output=True)
    assert program.communicate()[0] == b""
    assert program.returncode == 1
    served.end()


def test_a_name_that_leads_elsewhere_is_forgotten(serve: Serve) -> None:
    """Although the kernel was told that it may believe what it knew for ever."""
    served = serve()
    assert (served.target / "a/moving").read_bytes() == b"first"
    served.order("move")
    wait_until(lambda: (served.target / "a/moving").read_bytes() == b"second", "it leads elsewhere")
    served.end(signal.SIGTERM)
    assert "the kernel was not told" not in served.log.read_text()

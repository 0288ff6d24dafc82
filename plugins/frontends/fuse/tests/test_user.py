"""Mounting as an ordinary user, through fusermount3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.errors import PermissionDenied, Unsupported
from kvfs_frontend_fuse.mounting import fusermount

from .conftest import Place, Serve, Served

pytestmark = pytest.mark.timeout(60)
NOBODY = 65534
# Without udev, as in many containers, only root may open /dev/fuse.  Where root runs the tests,
# ordinary users get a device of their own, and a configuration, in a mount namespace of its own.
NAMESPACE = """
set -e
mount -t tmpfs none "$1"
mknod -m 666 "$1/fuse" c 10 229
echo "$2" > "$1/fuse.conf"
mount --bind "$1/fuse" /dev/fuse
mount --bind "$1/fuse.conf" /etc/fuse.conf
echo made
exec sleep infinity
"""


@pytest.fixture
def configuration() -> str:
    """What stands in /etc/fuse.conf."""
    return ""


@pytest.fixture
def place(tmp_path: Path, configuration: str) -> Iterator[Place]:
    """A mount namespace in which ordinary users may use FUSE."""
    if os.geteuid() != 0:
        yield Place()
        return
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", NAMESPACE, "sh"]
    holder = subprocess.Popen(
        [*command, str(tmp_path), configuration], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "made\n"
        yield Place(holder.pid)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


@pytest.fixture
def user(mount_point: Path) -> int:
    """An ordinary user who owns the mount point: nobody, or whoever runs the tests."""
    if os.geteuid() != 0:
        return os.geteuid()
    os.chown(mount_point, NOBODY, NOBODY)
    return NOBODY


def read_as(user: int, served: Served, name: str) -> bytes:
    """What the user reads in a file of a mount."""
    command = served.place.command("cat", served.target / name, user=user)
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_mount_read_and_end(serve: Serve, user: int) -> None:
    served = serve(user=user)
    (mount,) = served.mounted()
    assert (mount.fstype, mount.source) == ("fuse.kvfs", "toy")
    assert {"ro", "nosuid", "nodev", f"user_id={user}"} <= set(mount.options)
    assert "allow_other" not in mount.options
    assert read_as(user, served, "link") == b"leaf\n"
    served.signal(signal.SIGTERM)
    served.end()
    assert served.mounted() == []


def test_a_source_with_commas(serve: Serve, user: int) -> None:
    (mount,) = serve(user=user, settings={"fsname": "a,b\\c d"}).mounted()
    assert mount.source == "a,b\\c d"


def test_a_killed_server_is_recovered(serve: Serve, user: int) -> None:
    first = serve(user=user)
    first.signal(signal.SIGKILL)
    first.process.wait()
    second = serve(user=user)
    assert len(second.mounted()) == 1
    assert read_as(user, second, "link") == b"leaf\n"


def test_a_signal_while_in_use(serve: Serve, user: int) -> None:
    served = serve(user=user)
    # A process of the user: root itself may not enter.
    guest = subprocess.Popen(
        served.place.command(
            *("sh", "-c", 'cd "$1" && echo inside && exec sleep infinity', "sh", served.target),
            user=user,
        ),
        stdout=subprocess.PIPE,
    )
    assert guest.stdout is not None
    try:
        assert guest.stdout.readline() == b"inside\n"
        served.signal(signal.SIGTERM)
        served.end()
        assert served.mounted() == []
        assert "in use: detached" in served.log.read_text()
    finally:
        guest.kill()
        guest.wait()
        guest.stdout.close()


def test_release_refuses_what_is_in_use_and_does_not_own(serve: Serve, user: int) -> None:
    served = serve(user=user)
    script = (
        "import sys; from kvfs_frontend_fuse.mounting.mount import release; import os; "
        "user = int(sys.argv[2]); os.getuid() == 0 and os.setresuid(user, user, user); "
        "force = sys.argv[3] == 'force'; "
        "release(sys.argv[1], force=force)"
    )

    def release(as_user: int, how: str) -> str:
        done = subprocess.run(
            served.place.command(*(sys.executable, "-c", script, served.target, str(as_user), how)),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr

    guest = subprocess.Popen(
        served.place.command("tail", "-f", served.target / "link", user=user),
        stdout=subprocess.PIPE,
    )
    assert guest.stdout is not None
    try:
        assert guest.stdout.readline() == b"leaf\n"
        assert "kvfs.errors.Conflict" in release(user, "gently")
        if os.geteuid() == 0:
            assert "kvfs.errors.PermissionDenied" in release(user - 1, "force")
        assert served.mounted()
        assert release(user, "force") == ""
        assert served.mounted() == []
    finally:
        guest.kill()
        guest.wait()
        guest.stdout.close()
    served.end()


def test_what_fusermount_refuses_is_said(serve: Serve, user: int) -> None:
    refused = serve(user=user, settings={"allow_other": True}, wait=False)
    line = refused.line()
    assert line.startswith("PermissionDenied allow_other needs the line user_allow_other"), line
    assert refused.mounted() == []


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("configuration", ["user_allow_other"])
def test_allow_other_where_it_is_allowed(serve: Serve, user: int) -> None:
    served = serve(user=user, settings={"allow_other": True})
    (mount,) = served.mounted()
    assert "allow_other" in mount.options
    assert read_as(user - 1, served, "link") == b"leaf\n"


def test_a_directory_of_somebody_else(serve: Serve, mount_point: Path, user: int) -> None:
    if os.geteuid() == 0:
        os.chown(mount_point, 0, 0)
    else:
        mount_point.chmod(0o555)
    assert serve(user=user, wait=False).line().startswith("PermissionDenied")


def test_without_fusermount_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="apt-get install fuse3"):
        fusermount.mount(b"/nowhere", [], source=b"x", subtype=b"kvfs")


def test_a_refusal_without_words_is_still_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / fusermount.PROGRAM
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PermissionDenied, match="did not say why"):
        fusermount.unmount(b"/nowhere", lazy=False)

"""How mounts begin and end: signals, umount, busy mounts, killed servers, refusals."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from kvfs.errors import Conflict, NotFound
from kvfs.registry import find
from kvfs_frontend_fuse import FuseSettings, mounts
from kvfs_frontend_fuse._frontend import FuseFrontend
from kvfs_frontend_fuse.mounting.mountinfo import is_dead

from .conftest import Serve, Served
from .toy import ToyVolume, small

pytestmark = pytest.mark.timeout(60)
NOBODY = 65534
as_root = pytest.mark.usefixtures("root")


def release(served: Served, *, force: bool = False) -> None:
    FuseFrontend(FuseSettings()).release(str(served.target), force=force)


def use(path: Path) -> int:
    """Keep a mount busy; the file is not read yet."""
    return os.open(path, os.O_RDONLY)


def leave(file: int) -> None:
    """Close a file whose server is gone; close(2) says so, and closes it."""
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.close(file)


def is_mounted(target: Path) -> bool:
    return any(mount.mount_point == target for mount in mounts())


def test_the_mount_is_as_it_says(serve: Serve) -> None:
    (mount,) = serve().mounted()
    assert (mount.fstype, mount.source) == ("fuse.kvfs", "toy")
    assert {"ro", "nosuid", "nodev", "default_permissions"} <= set(mount.options)
    assert ("allow_other" in mount.options) is (os.geteuid() == 0)


def test_a_source_of_any_text(serve: Serve) -> None:
    (mount,) = serve(settings={"fsname": "a b,c\\d#e"}).mounted()
    assert mount.source == "a b,c\\d#e"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_and_ends(serve: Serve, number: int) -> None:
    served = serve()
    assert (served.target / "link").read_bytes() == b"leaf\n"
    served.signal(number)
    served.end()
    assert not is_mounted(served.target)
    assert os.listdir(served.target) == []


def test_umount_ends_the_server(serve: Serve) -> None:
    served = serve()
    subprocess.run(["umount", served.target], check=True)
    served.end()


def test_release_ends_the_server(serve: Serve) -> None:
    served = serve()
    release(served)
    served.end()
    with pytest.raises(NotFound, match="no KVFS is mounted"):
        release(served)


def test_release_refuses_what_is_in_use(serve: Serve) -> None:
    served = serve()
    file = use(served.target / "bytes-4097")
    try:
        with pytest.raises(Conflict, match="in use"):
            release(served)
        assert os.read(file, 10) != b""
    finally:
        os.close(file)
    release(served)
    served.end()


def test_a_forced_release_serves_open_files_to_their_end(serve: Serve) -> None:
    served = serve()
    file = use(served.target / "big")
    try:
        release(served, force=True)
        assert os.listdir(served.target) == []
        assert len(os.pread(file, 4096, 20 << 20)) == 4096
        assert served.process.poll() is None
    finally:
        os.close(file)
    served.end()


def test_a_signal_while_in_use_detaches_and_ends(serve: Serve) -> None:
    served = serve()
    file = use(served.target / "big")
    try:
        served.signal(signal.SIGTERM)
        served.end()
        assert not is_mounted(served.target)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.pread(file, 4096, 20 << 20)
    finally:
        leave(file)
    assert "in use: detached" in served.log.read_text()


def test_a_signal_ends_what_somebody_had_detached(serve: Serve) -> None:
    served = serve()
    file = use(served.target / "big")
    try:
        release(served, force=True)
        served.signal(signal.SIGTERM)
        served.end()
    finally:
        leave(file)


def test_a_signal_ends_what_is_covered_by_another_mount(serve: Serve) -> None:
    first = serve()
    subprocess.run(["mount", "-t", "tmpfs", "none", first.target], check=True)
    try:
        first.signal(signal.SIGTERM)
        first.end()
        assert os.listdir(first.target) == []
    finally:
        subprocess.run(["umount", first.target], check=True)
    # Nothing can be unmounted below another mount: the next one clears it away.
    serve()
    assert len(first.mounted()) == 1


def test_two_signals_are_as_good_as_one(serve: Serve) -> None:
    served = serve()
    served.signal(signal.SIGINT)
    served.signal(signal.SIGTERM)
    served.end()
    assert not is_mounted(served.target)


def test_a_killed_server_is_recovered_by_the_next_mount(serve: Serve) -> None:
    first = serve()
    file = use(first.target / "big")
    try:
        first.signal(signal.SIGKILL)
        first.process.wait()
        (dead,) = first.mounted()
        assert is_dead(dead)
        second = serve()
        (alive,) = second.mounted()
        assert alive.device != dead.device
        assert not is_dead(alive)
        assert (second.target / "link").read_bytes() == b"leaf\n"
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.pread(file, 4096, 0)
    finally:
        leave(file)


def test_a_killed_server_is_released_without_force(serve: Serve) -> None:
    served = serve()
    served.signal(signal.SIGKILL)
    served.process.wait()
    release(served)
    assert not is_mounted(served.target)


def test_a_mount_that_is_alive_is_left_alone(serve: Serve) -> None:
    first = serve()
    second = serve(wait=False)
    assert second.line().startswith("AlreadyExists a KVFS that is alive is mounted")
    assert second.process.wait() == 1
    assert (first.target / "link").read_bytes() == b"leaf\n"


def test_a_mount_that_hangs_counts_as_alive_and_hangs_nobody(serve: Serve) -> None:
    first = serve()
    first.signal(signal.SIGSTOP)
    second = serve(wait=False)
    assert second.line().startswith("AlreadyExists")
    assert second.process.wait() == 1
    first.signal(signal.SIGCONT)
    first.signal(signal.SIGTERM)
    first.end()


def test_a_missing_mount_point(serve: Serve, mount_point: Path) -> None:
    mount_point.rmdir()
    refused = serve(wait=False)
    assert refused.line().startswith("NotFound the mount point")
    assert refused.process.wait() == 1


def test_a_mount_point_that_is_a_file(serve: Serve, mount_point: Path) -> None:
    mount_point.rmdir()
    mount_point.write_bytes(b"")
    assert "is not a directory" in serve(wait=False).line()


def test_a_mount_point_with_entries(serve: Serve, mount_point: Path) -> None:
    (mount_point / "mine").write_bytes(b"")
    assert "is not empty" in serve(wait=False).line()
    served = serve(settings={"nonempty": True})
    assert not (served.target / "mine").exists()
    served.signal(signal.SIGTERM)
    served.end()
    assert (mount_point / "mine").exists()


def test_a_mount_point_through_a_symbolic_link(serve: Serve, mount_point: Path) -> None:
    actual = mount_point.parent / "actual"
    actual.mkdir()
    mount_point.rmdir()
    mount_point.symlink_to(actual)
    served = serve()
    assert is_mounted(actual)
    assert (served.target / "link").read_bytes() == b"leaf\n"
    served.signal(signal.SIGTERM)
    served.end()
    assert not is_mounted(actual)


@as_root
def test_permissions_are_checked_by_the_kernel(serve: Serve) -> None:
    target = serve().target
    secret = ["cat", str(target / "secret")]
    assert subprocess.run(secret, capture_output=True, check=True).stdout == b"secret\n"
    refused = subprocess.run(secret, user=NOBODY, group=NOBODY, capture_output=True, check=False)
    assert b"Permission denied" in refused.stderr
    subprocess.run(["ls", str(target)], user=NOBODY, check=True, stdout=subprocess.DEVNULL)


@as_root
def test_others_stay_out_where_they_are_not_allowed(serve: Serve) -> None:
    target = serve(settings={"allow_other": False}).target
    listing = ["ls", str(target)]
    assert b"big" in subprocess.run(listing, capture_output=True, check=True).stdout
    refused = subprocess.run(listing, user=NOBODY, capture_output=True, check=False)
    assert b"Permission denied" in refused.stderr


def test_stop_from_another_thread_than_the_one_that_serves(mount_point: Path) -> None:
    frontend = FuseFrontend(FuseSettings())
    ready = threading.Event()
    server = threading.Thread(
        target=frontend.serve,
        args=(ToyVolume(small()), str(mount_point)),
        kwargs={"ready": ready.set},
    )
    server.start()
    ready.wait()
    # By another process: this one holds its lock while it looks.
    assert subprocess.check_output(["cat", mount_point / "link"]) == b"leaf\n"
    frontend.stop()
    server.join()
    assert not is_mounted(mount_point)


def test_stop_before_serve(mount_point: Path) -> None:
    frontend = FuseFrontend(FuseSettings())
    frontend.stop()
    frontend.serve(ToyVolume(small()), str(mount_point), ready=lambda: None)
    assert not is_mounted(mount_point)


def test_what_ready_raises_ends_the_mount(mount_point: Path) -> None:
    def ready() -> None:
        raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        FuseFrontend(FuseSettings()).serve(ToyVolume(small()), str(mount_point), ready=ready)
    assert not is_mounted(mount_point)


def test_the_driver_is_found_by_its_name() -> None:
    info = find("frontend", "fuse")
    frontend = info.load()(info.settings())
    assert isinstance(frontend, FuseFrontend)
    assert frontend.capability == info.capability

"""How mounts begin and end: signals, umount, busy mounts, killed servers, refusals."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kvfs.errors import Conflict
from kvfs.registry import find
from kvfs_frontend_fuse import mounts
from kvfs_frontend_pyfuse3 import Pyfuse3Settings
from kvfs_frontend_pyfuse3._frontend import Pyfuse3Frontend

from .conftest import Serve
from .serve import make_volume

pytestmark = pytest.mark.timeout(60)


def frontend() -> Pyfuse3Frontend:
    return Pyfuse3Frontend(Pyfuse3Settings())


def is_mounted(target: Path) -> bool:
    return any(mount.mount_point == target for mount in mounts())


def leave(file: int) -> None:
    """Close a file whose server is gone; close(2) says so, and closes it."""
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.close(file)


def test_the_mount_is_as_it_says(serve: Serve) -> None:
    (mount,) = serve(fsname="a b,c").mounted()
    assert (mount.fstype, mount.source) == ("fuse.kvfs", "a b,c")
    assert {"ro", "nosuid", "nodev", "default_permissions"} <= set(mount.options)
    assert ("allow_other" in mount.options) is (os.geteuid() == 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_and_ends(serve: Serve, number: int) -> None:
    served = serve()
    assert (served.target / "a/directory/file").read_bytes() == b"directory/file"
    served.end(number)
    assert os.listdir(served.target) == []


def test_a_release_ends_the_server_but_not_what_is_in_use(serve: Serve) -> None:
    served = serve()
    file = os.open(served.target / "a/first", os.O_RDONLY)
    with pytest.raises(Conflict, match="in use"):
        frontend().release(str(served.target))
    assert os.read(file, 5) == b"first"
    os.close(file)
    frontend().release(str(served.target))
    served.end()


def test_a_forced_release_serves_open_files_to_their_end(serve: Serve) -> None:
    served = serve()
    file = os.open(served.target / "a/first", os.O_RDONLY)
    frontend().release(str(served.target), force=True)
    assert os.listdir(served.target) == []
    assert os.pread(file, 5, 0) == b"first"
    assert served.process.poll() is None
    os.close(file)
    served.end()


def test_a_signal_while_in_use_detaches_and_ends(serve: Serve) -> None:
    served = serve()
    file = os.open(served.target / "a/first", os.O_RDONLY)
    served.end(signal.SIGTERM)
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.pread(file, 5, 0)
    leave(file)
    assert "in use: detached" in served.log.read_text()


def test_a_killed_server_is_recovered_by_the_next_mount(serve: Serve) -> None:
    first = serve()
    first.process.kill()
    first.process.wait()
    assert first.mounted()
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.statvfs(first.target)
    second = serve()
    assert len(second.mounted()) == 1
    assert (second.target / "a/first").read_bytes() == b"first"


def test_a_mount_that_is_alive_is_left_alone(serve: Serve) -> None:
    first = serve()
    second = serve(wait=False)
    assert second.line().startswith("AlreadyExists a KVFS that is alive is mounted")
    assert second.process.wait() == 1
    assert (first.target / "a/first").read_bytes() == b"first"


def test_a_mount_point_that_will_not_do(serve: Serve, mount_point: Path) -> None:
    (mount_point / "mine").write_bytes(b"")
    assert "is not empty" in serve(wait=False).line()
    served = serve(nonempty=True)
    assert not (served.target / "mine").exists()
    served.end(signal.SIGTERM)
    (mount_point / "mine").unlink()
    mount_point.rmdir()
    assert serve(wait=False).line().startswith("NotFound the mount point")


def test_what_stops_at_any_time_from_any_thread(mount_point: Path) -> None:
    """Also: the volume is served again by the same process, and not by two mounts at once."""
    with make_volume() as volume:
        for _ in range(2):
            served, ready = frontend(), threading.Event()
            server = threading.Thread(
                target=served.serve, args=(volume, str(mount_point)), kwargs={"ready": ready.set}
            )
            server.start()
            assert ready.wait(30)
            # By another process: this one might hold its lock while it looks.
            read = subprocess.check_output(["cat", mount_point / "a/first"])
            assert read == b"first"
            other = mount_point.parent / "other"
            other.mkdir(exist_ok=True)
            with pytest.raises(Conflict, match="one mount at a time"):
                frontend().serve(volume, str(other), ready=lambda: None)
            served.stop()
            server.join()
            assert not is_mounted(mount_point)
            assert not is_mounted(other)


def test_stop_before_serve_and_ready_that_raises(mount_point: Path) -> None:
    def ready() -> None:
        raise KeyError("on purpose")

    with make_volume() as volume:
        stopped = frontend()
        stopped.stop()
        stopped.serve(volume, str(mount_point), ready=lambda: None)
        assert not is_mounted(mount_point)
        with pytest.raises(KeyError, match="on purpose"):
            frontend().serve(volume, str(mount_point), ready=ready)
        assert not is_mounted(mount_point)


def test_the_driver_is_found_by_its_name() -> None:
    info = find("frontend", "pyfuse3")
    found = info.load()(info.settings())
    assert isinstance(found, Pyfuse3Frontend)
    assert found.capability == info.capability


def test_nothing_of_it_is_imported_before_it_is_used() -> None:
    """Listing the drivers needs neither libfuse nor trio."""
    program = (
        "import sys; from kvfs.registry import find; find('frontend', 'pyfuse3');"
        "print('pyfuse3' in sys.modules, 'trio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"False False\n"

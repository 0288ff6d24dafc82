"""What the kernel forgets when it is told that something changed, and what it keeps."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from kvfs.volume import Observer
from kvfs_frontend_fuse import FuseSettings
from kvfs_frontend_fuse._frontend import FuseFrontend
from kvfs_frontend_fuse.serving.invalidation import Invalidator

from .toy import Node, ToyVolume, Tree

pytestmark = pytest.mark.usefixtures("root")


def receive(device: socket.socket) -> list[tuple[int, int, bytes]]:
    """Every notification that was sent: code, length and body."""
    found: list[tuple[int, int, bytes]] = []
    while True:
        try:
            raw = device.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return found
        length, code, unique = struct.unpack_from("=IiQ", raw)
        assert (length, unique) == (len(raw), 0)
        found.append((code, length, raw[16:]))


def test_notifications_as_the_kernel_takes_them() -> None:
    own, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with own, device:
        invalidator = Invalidator(device.fileno())
        invalidator.changed([(1, b"name"), (7, b"\xff" * 255)], [1, 1 << 63])
        assert receive(own) == [
            (3, 16 + 16 + 5, struct.pack("=QII", 1, 4, 0) + b"name\0"),
            (3, 16 + 16 + 256, struct.pack("=QII", 7, 255, 0) + b"\xff" * 255 + b"\0"),
            (2, 16 + 24, struct.pack("=Qqq", 1, 0, 0)),
            (2, 16 + 24, struct.pack("=Qqq", 1 << 63, 0, 0)),
        ]
        invalidator.close()
        invalidator.close()
        invalidator.changed([(1, b"name")], [1])
        assert receive(own) == []
        assert device.fileno() >= 0  # its owner's still


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENOTCONN, errno.ENOENT, errno.EINVAL])
def test_a_device_that_refuses_harms_nobody(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def writev(descriptor: int, buffers: object) -> int:
        asked.append(descriptor)
        raise OSError(number, "no")

    with open(os.devnull, "wb") as device:
        invalidator = Invalidator(device.fileno())
    monkeypatch.setattr(os, "writev", writev)
    invalidator.changed([(1, b"a"), (1, b"b")], [])
    # After the end of the mount it is not even tried.
    assert len(asked) == (1 if number in (errno.ENODEV, errno.ENOTCONN) else 2)
    assert ("did not take" in caplog.text) == (number == errno.EINVAL)
    invalidator.close()


class Changing(ToyVolume):
    """A toy whose names may lead elsewhere."""

    observer: Observer | None = None

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        self.observer = observer

        def unsubscribe() -> None:
            self.observer = None

        return unsubscribe


def served_tree() -> tuple[Tree, Node, Node]:
    """``sub`` with a file in it, and another directory that no name leads to."""
    tree = Tree()
    old = tree.directory(tree.root, b"sub")
    tree.file(old, b"file", b"old")
    tree.file(tree.root, b"other", b"stays")
    new = tree._new(tree.root, mode=old.mode)
    tree.file(new, b"file", b"new")
    tree.file(new, b"more", b"")
    return tree, old, new


def test_a_name_that_leads_elsewhere(mount_point: Path) -> None:
    """The kernel may keep everything for ever, and learns of the change at once."""
    tree, _, new = served_tree()
    volume = Changing(tree)
    frontend = FuseFrontend(FuseSettings())
    ready = Event()
    thread = Thread(
        target=frontend.serve, args=(volume, str(mount_point)), kwargs={"ready": ready.set}
    )
    thread.start()
    try:
        assert ready.wait(30)
        file, other = mount_point / "sub/file", mount_point / "other"
        assert (file.read_bytes(), other.read_bytes()) == (b"old", b"stays")
        assert sorted(os.listdir(mount_point)) == ["other", "sub"]
        old_file = file.open("rb")

        tree.root.children[b"sub"] = new
        tree.root.children[b"another"] = tree.nodes[new.number + 1]
        tree.root.order.append(b"another")
        tree.root.entries.clear()
        tree.root.mtime_ns += 10**9
        # Not told, it does not know.
        assert file.read_bytes() == b"old"
        assert sorted(os.listdir(mount_point)) == ["other", "sub"]

        before = volume.calls.copy()
        assert volume.observer is not None
        volume.observer.changed([(1, b"sub"), (1, b"not known")], [1])
        assert file.read_bytes() == b"new"
        assert sorted(os.listdir(mount_point / "sub")) == ["file", "more"]
        assert sorted(os.listdir(mount_point)) == ["another", "other", "sub"]
        # What did not change is not asked for again, and who had the old file open still has it.
        asked = volume.calls - before
        assert other.read_bytes() == b"stays"
        assert volume.calls["read"] == before["read"] + 1
        assert asked["lookup"] <= 3
        assert old_file.read() == b"old"
        old_file.close()
    finally:
        frontend.stop()
        thread.join(30)
    assert not thread.is_alive()
    assert volume.observer is None

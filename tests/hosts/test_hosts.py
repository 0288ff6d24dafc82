"""Several hosts mount one volume over one server: they share what they fetch, die, and stall."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

from kvfs.tarballs.catalogue import State
from kvfs.testing.mounts import wait_until
from kvfs.testing.trees import assert_same_tree, tree_of

from .conftest import PATIENCE_S, Run, Shared

FILES = 300
FILE_BYTES = 2_000
LAST = "last"


def publish(shared: Shared, name: str, version: bytes = b"1") -> Path:
    """Put a tarball in the folder, at once; returns the tree that is in it."""
    tree = shared.folder.parent / f"{name}-{version.decode()}"
    for number in range(FILES):
        path = tree / f"d{number % 7}" / f"{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(version * FILE_BYTES)
    (tree / LAST).write_bytes(version)
    draft = shared.folder / f"{name}.draft"
    words = ["tar", "--format=pax", "--sort=name", "-C", str(tree), "-cf", str(draft), "."]
    subprocess.run(words, check=True, capture_output=True)
    draft.replace(shared.folder / f"{name}.tar")
    return tree


def half_of(shared: Shared, name: str) -> int:
    """Half the size of a tarball."""
    return (shared.folder / f"{name}.tar").stat().st_size // 2


def same(tree: Path, served: Path) -> None:
    """All of it is there."""
    assert_same_tree(tree_of(tree), tree_of(served), ignoring=["root"])


def test_one_fetches_and_both_are_served(shared: Shared, run: Run) -> None:
    trees = {name: publish(shared, name) for name in "abc"}
    one, other = shared.mounted("one"), shared.mounted("other")
    readers = [run((host.mnt / "a" / LAST).read_bytes) for host in (one, other) * 3]
    stream = shared.gate.opened("a.tar")
    stream.allow(half_of(shared, "a"))
    stream.wait_for(half_of(shared, "a"))
    stream.allow(None)
    assert {reader.result(PATIENCE_S) for reader in readers} == {b"1"}
    for name, first, second in (("b", one, other), ("c", other, one)):
        shared.gate.leave_open(f"{name}.tar")
        assert os.listdir(first.mnt / name) == os.listdir(second.mnt / name)
    for host in (one, other):
        for name, tree in trees.items():
            same(tree, host.mnt / name)
    assert [shared.gate.count(f"{name}.tar") for name in "abc"] == [1, 1, 1]
    for host in (one, other):
        found = host.site.json("status", host.site.target())
        assert found["tarballs"]["states"] == {"sealed": 3}
        [mount] = found["mounts"]
        assert mount["activity"] is not None
    one.site.run("umount", one.site.target())
    assert (other.mnt / "b" / LAST).read_bytes() == b"1"
    other.site.run("umount", other.site.target())
    shared.check()


def test_a_host_dies_in_mid_ingest(shared: Shared, run: Run) -> None:
    tree = publish(shared, "a")
    dying, other = shared.mounted("dying"), shared.mounted("other")
    lost = run((dying.mnt / "a" / LAST).read_bytes)
    stream = shared.gate.opened("a.tar")
    stream.allow(half_of(shared, "a"))
    stream.wait_for(half_of(shared, "a"))
    shared.gate.leave_open("a.tar")
    waiting = run((other.mnt / "a" / LAST).read_bytes)
    dying.kill()
    assert isinstance(lost.exception(PATIENCE_S), OSError)
    assert waiting.result(PATIENCE_S) == b"1"
    same(tree, other.mnt / "a")
    # It boots again, and has everything.
    again = shared.mounted("dying")
    same(tree, again.mnt / "a")
    assert shared.gate.count("a.tar") == 2
    for host in (again, other):
        host.site.run("umount", host.site.target())
    shared.check()


def test_a_host_stalls_in_mid_ingest(shared: Shared, run: Run) -> None:
    """It is taken over, and what it writes when it goes on is not taken."""
    tree = publish(shared, "a")
    slow, quick = shared.mounted("slow"), shared.mounted("quick")
    late = run((slow.mnt / "a" / LAST).read_bytes)
    stream = shared.gate.opened("a.tar")
    stream.allow(half_of(shared, "a"))
    stream.wait_for(half_of(shared, "a"))
    shared.gate.leave_open("a.tar")
    slow.freeze()
    same(tree, quick.mnt / "a")
    assert shared.gate.count("a.tar") == 2
    with shared.opened() as volume:
        written = dict(volume.sealed.scan(b"", None))
        slow.thaw()
        stream.allow(None)
        assert late.result(PATIENCE_S) == b"1"
        same(tree, slow.mnt / "a")
        for host in (slow, quick):
            host.site.run("umount", host.site.target())
        assert dict(volume.sealed.scan(b"", None)) == written
        assert [record.state for _, record in volume.tarballs.catalogue] == [State.SEALED]
    assert shared.gate.count("a.tar") == 2
    shared.check()


def test_what_is_replaced_or_removed_is_seen_by_both(shared: Shared) -> None:
    for name in "ab":
        publish(shared, name)
        shared.gate.leave_open(f"{name}.tar")
    hosts = [shared.mounted("one"), shared.mounted("other")]
    for host in hosts:
        assert (host.mnt / "a" / LAST).read_bytes() == b"1"
    tree = publish(shared, "a", b"2")
    (shared.folder / "b.tar").unlink()
    for host in hosts:
        new = partial(_holds, host.mnt / "a" / LAST, b"2")
        wait_until(new, "the new version is seen", seconds=PATIENCE_S)
        wait_until(lambda: os.listdir(host.mnt) == ["a"], "b is gone", seconds=PATIENCE_S)  # noqa: B023
        same(tree, host.mnt / "a")
    assert shared.gate.count("a.tar") == 2
    for host in hosts:
        host.site.run("umount", host.site.target())
    shared.check()


def _holds(
    path: Path, data: bytes, *, failing: Collection[int] = (errno.ESTALE, errno.ENOENT)
) -> bool:
    """Has a file these contents?  It may fail in such a way, and has not then."""
    try:
        return path.read_bytes() == data
    except OSError as error:
        if error.errno not in failing:
            raise
        return False


@contextmanager
def reading(directory: Path, *, allowing: int = 0) -> Iterator[list[int]]:
    """Read a tree meanwhile, over and over; yields how many files were read.

    :param allowing: an errno that a read may fail with.
    """
    stop, wrong, reads = Event(), [], [0]

    def read() -> None:
        while not stop.is_set():
            for number in range(FILES):
                path = directory / f"d{number % 7}" / f"{number:03}"
                try:
                    with path.open("rb") as file:
                        data = file.read()
                        # So that the next read asks the file system again.
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                except OSError as error:
                    if error.errno != allowing:
                        wrong.append(str(error))
                    continue
                reads[0] += 1
                if data != b"1" * FILE_BYTES:
                    wrong.append(f"{path}: {data[:10]!r}")

    reader = Thread(target=read)
    reader.start()
    try:
        yield reads
    finally:
        stop.set()
        reader.join()
    assert wrong == []


def test_evicted_under_the_readers_of_another_host(shared: Shared) -> None:
    publish(shared, "a")
    shared.gate.leave_open("a.tar")
    hosts = [shared.mounted("one"), shared.mounted("other")]
    with (
        reading(hosts[0].mnt / "a") as first,
        reading(hosts[1].mnt / "a") as second,
        shared.opened() as volume,
    ):
        [(number, _)] = volume.tarballs.catalogue
        for _ in range(3):
            wait_until(partial(volume.tarballs.is_sealed, number), "it is fetched")
            before = first[0], second[0]
            assert volume.tarballs.evict(number)
            went_on = partial(_are_beyond, (first, second), before)
            wait_until(went_on, "the readers go on", seconds=PATIENCE_S)
    for host in hosts:
        host.site.run("umount", host.site.target())
    shared.check()


def _are_beyond(counts: tuple[list[int], ...], before: tuple[int, ...]) -> bool:
    return all(now[0] > then + FILES for now, then in zip(counts, before, strict=True))


def test_the_server_dies_under_readers_and_in_mid_ingest(shared: Shared, run: Run) -> None:
    trees = {name: publish(shared, name) for name in "ab"}
    shared.gate.leave_open("a.tar")
    one, other = shared.mounted("one"), shared.mounted("other")
    same(trees["a"], one.mnt / "a")
    with reading(other.mnt / "a", allowing=errno.EIO) as reads:
        wait_until(lambda: reads[0] > 0, "somebody reads", seconds=PATIENCE_S)
        fetching = run((one.mnt / "b" / LAST).read_bytes)
        stream = shared.gate.opened("b.tar")
        stream.allow(half_of(shared, "b"))
        stream.wait_for(half_of(shared, "b"))
        shared.gate.leave_open("b.tar")
        shared.server.kill()
        stream.allow(None)
        failed = fetching.exception(PATIENCE_S)
        assert isinstance(failed, OSError)
        assert failed.errno == errno.EIO
        said = one.site.error("status", one.site.target(), code=5)
        assert "Traceback" not in said
        shared.server.start()
        before = reads[0]
        wait_until(lambda: reads[0] > before + FILES, "readers go on", seconds=PATIENCE_S)
    for host in (one, other):
        served = partial(_holds, host.mnt / "b" / LAST, b"1", failing=[errno.EIO])
        wait_until(served, "it is fetched after all", seconds=PATIENCE_S)
        for name, tree in trees.items():
            same(tree, host.mnt / name)
    assert shared.gate.count("a.tar") == 1
    for host in (one, other):
        host.site.run("umount", host.site.target())
    shared.check()


def test_a_worker_dies_while_the_server_is_away(shared: Shared, run: Run) -> None:
    """The one that replaces it waits for the server, however long that takes, and so do readers."""
    tree = publish(shared, "a")
    shared.gate.leave_open("a.tar")
    mounted = shared.site.mount(shared.config)
    same(tree, mounted.path / "a")
    shared.server.kill()
    for _ in range(2):
        _kill_worker(mounted.pid)
    wait_until(lambda: "waits until" in mounted.log(), "it waits", seconds=PATIENCE_S)
    reader = run((mounted.path / "a").stat)
    shared.server.start()
    assert reader.result(PATIENCE_S).st_nlink > 2
    same(tree, mounted.path / "a")
    # Nor does one that waits keep the mount from ending.
    shared.server.kill()
    _kill_worker(mounted.pid)
    wait_until(lambda: mounted.log().count("waits until") > 1, "it waits", seconds=PATIENCE_S)
    shared.site.run("umount", "--force", mounted.path)
    shared.server.start()
    shared.check()


def _kill_worker(daemon: int) -> None:
    """Kill the one worker of a mount, and return when another has taken its place."""
    children = Path(f"/proc/{daemon}/task/{daemon}/children")
    [worker] = children.read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    wait_until(lambda: children.read_text().split() not in ([worker], []), "it is replaced")

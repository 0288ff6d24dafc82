"""What becomes of a tarball that was written to: it is kept, whatever its object does."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import cast

import attrs
import pytest

from kvfs.capability import Durability
from kvfs.files import Caller, Changes, Refused, WritableFiles
from kvfs.files.following import Order, Place
from kvfs.files.records import ROOT_INODE, written_key
from kvfs.files.writing import FallocateFlag
from kvfs.tarballs.catalogue import CHANGED_UNDER, State, Tarball
from kvfs.testing.trees import assert_same_tree, tree_of_volume
from kvfs.testing.volumes import TINY, Stores
from kvfs.volume import Volume

from .support import directory, file, hardlink, tarball

OpenVolume = Callable[..., Volume]

WRITABLE = {"volume": {"writable": True}}
OLD = tarball(directory(b"d"), file(b"d/a"), file(b"d/b"), file(b"c"))
NEW = tarball(file(b"new"))


@pytest.fixture
def stores() -> Stores:
    stores = Stores()
    stores.backing.write("t.tar", OLD)
    stores.backing.write("u.tar", NEW)
    return stores


@contextmanager
def writing(stores: Stores) -> Iterator[Volume]:
    """A volume whose tarballs are written to."""
    with stores.volume(WRITABLE) as volume:
        volume.begin_writing("test")
        yield volume


@pytest.fixture
def volume(stores: Stores) -> Iterator[Volume]:
    with writing(stores) as opened:
        yield opened


@contextmanager
def writable(volume: Volume) -> Iterator[WritableFiles]:
    with closing(volume.files(wait=True)) as files:
        yield cast(WritableFiles, files)


def record_of(volume: Volume, name: str) -> tuple[int, Tarball]:
    """The id and the record of an object."""
    [found] = [(at, record) for at, record in volume.tarballs.catalogue if record.object == name]
    return found


def write(volume: Volume, path: bytes, data: bytes) -> None:
    with writable(volume) as files:
        files.write(files.open_path(path).inode, 0, data)


def read(volume: Volume, path: bytes) -> bytes:
    with closing(volume.files(wait=True)) as files:
        return b"".join(files.read(files.open_path(path).inode, 0, 1 << 20))


def names(volume: Volume, path: bytes = b"") -> set[bytes]:
    with closing(volume.files(wait=True)) as files:
        return {entry.name for entry in files.entries(files.open_path(path).inode)}


# -- the first write -------------------------------------------------------------------------------


def test_the_first_write_makes_it_dirty(volume: Volume, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kvfs")
    assert read(volume, b"t/d/a") == b"contents"
    number, record = record_of(volume, "t.tar")
    assert not record.dirty
    write(volume, b"t/d/a", b"X")
    write(volume, b"t/d/b", b"Y")
    assert record_of(volume, "t.tar") == (number, attrs.evolve(record, dirty=True))
    assert volume.state.get(written_key(number)) is not None
    assert not record_of(volume, "u.tar")[1].dirty
    assert caplog.text.count("t.tar is written to") == 1
    assert (read(volume, b"t/d/a"), read(volume, b"t/d/b")) == (b"Xontents", b"Yontents")


def test_what_is_refused_between_two_tarballs_makes_neither_dirty(volume: Volume) -> None:
    with writable(volume) as files:
        one, other = files.open_path(b"t").inode, files.open_path(b"u").inode
        inode = files.open_path(b"t/c").inode
        for refused in (
            lambda: files.link(inode, other, b"l"),
            lambda: files.rename(one, b"c", other, b"c"),
            lambda: files.rename(one, b"c", ROOT_INODE, b"c"),
        ):
            with pytest.raises(Refused) as caught:
                refused()
            assert caught.value.errno == errno.EXDEV
    assert not any(record.dirty for _, record in volume.tarballs.catalogue)


def test_what_is_above_the_tarballs_is_not_written_to(volume: Volume) -> None:
    with writable(volume) as files:
        top, inode, caller = files.open_path(b"t").inode, files.open_path(b"t/c").inode, Caller()
        for change in (
            lambda: files.mknod(ROOT_INODE, b"x", stat.S_IFREG | 0o644, 0, caller),
            lambda: files.mkdir(ROOT_INODE, b"x", 0o755, caller),
            lambda: files.symlink(ROOT_INODE, b"x", b"y", caller),
            lambda: files.tmpfile(ROOT_INODE, stat.S_IFREG | 0o600, caller),
            lambda: files.unlink(ROOT_INODE, b"t"),
            lambda: files.rmdir(ROOT_INODE, b"t"),
            lambda: files.rename(ROOT_INODE, b"t", ROOT_INODE, b"x"),
            lambda: files.rename(ROOT_INODE, b"t", top, b"x"),
            lambda: files.setattr(ROOT_INODE, Changes(mode=0o700)),
            lambda: files.setxattr(ROOT_INODE, b"user.a", b""),
            lambda: files.removexattr(ROOT_INODE, b"user.a"),
        ):
            with pytest.raises(Refused) as caught:
                change()
            assert caught.value.errno == errno.EROFS
        with pytest.raises(Refused) as caught:
            files.link(inode, ROOT_INODE, b"x")
        assert caught.value.errno == errno.EXDEV
    assert names(volume) == {b"t", b"u"}


def test_the_attributes_of_the_top_are_those_that_its_name_leads_to(volume: Volume) -> None:
    """Of the directory above too, which is not of the tarball."""
    with writable(volume) as files:
        top = files.open_path(b"t").inode
        files.setattr(top, Changes(mode=0o700, uid=1, mtime_ns=5))
        files.mkdir(top, b"new", 0o755, Caller())
        attributes = files.stat(top)
        assert (attributes.mode & 0o7777, attributes.uid, attributes.nlink) == (0o700, 1, 4)
        assert files.find(ROOT_INODE, b"t") == attributes
        assert attributes in [entry.attributes for entry in files.entries(ROOT_INODE)]


# -- taking away -----------------------------------------------------------------------------------


def test_it_is_not_evicted(volume: Volume) -> None:
    read(volume, b"u/new")
    write(volume, b"t/c", b"X")
    assert not volume.tarballs.evict(record_of(volume, "t.tar")[0])
    assert volume.tarballs.evict(record_of(volume, "u.tar")[0])
    assert read(volume, b"t/c") == b"Xontents"
    assert record_of(volume, "t.tar")[1].state is State.SEALED


def test_an_object_that_was_replaced(
    stores: Stores, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    write(volume, b"t/c", b"X")
    stores.backing.write("t.tar", NEW)
    for _ in range(2):  # told at each refresh, and once
        caplog.clear()
        report = volume.refresh()
        assert (report.deferred, report.replaced, report.removed) == (1, 0, 0)
        assert caplog.text.count(CHANGED_UNDER) == 1
        assert (names(volume, b"t"), read(volume, b"t/c")) == ({b"d", b"c"}, b"Xontents")
    assert caplog.text.count(CHANGED_UNDER) == 1  # by nobody who only looked
    # The old version again.
    caplog.clear()
    stores.backing.write("t.tar", OLD)
    report = volume.refresh()
    assert (report.deferred, report.replaced, report.removed) == (0, 0, 0)
    assert caplog.text == ""
    assert read(volume, b"t/c") == b"Xontents"


def test_an_object_that_was_removed(
    stores: Stores, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    write(volume, b"t/c", b"X")
    for name in ("t.tar", "u.tar"):
        stores.backing.delete(name)
    report = volume.refresh()
    assert (report.deferred, report.removed) == (1, 1)
    assert caplog.text.count(CHANGED_UNDER) == 1
    assert (names(volume), read(volume, b"t/c")) == ({b"t"}, b"Xontents")
    stores.backing.write("t.tar", OLD)
    assert volume.refresh().deferred == 0
    write(volume, b"t/c", b"Y")
    assert read(volume, b"t/c") == b"Yontents"


def test_a_directory_that_needs_its_name(
    stores: Stores, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not moved aside under who writes to it; the other is shown once it may have a name."""
    write(volume, b"t/c", b"X")
    stores.backing.write("t/below.tar", NEW)
    assert volume.refresh().added == 0
    assert "t/below.tar is not shown: t.tar, which is being fetched or written to" in caplog.text
    assert read(volume, b"t/c") == b"Xontents"
    assert names(volume, b"t") == {b"d", b"c"}
    stores.backing.delete("t/below.tar")
    volume.refresh()
    assert read(volume, b"t/c") == b"Xontents"


@pytest.mark.parametrize("state", [State.INGESTING, State.EVICTING])
def test_what_a_dead_process_left_half_done(stores: Stores, volume: Volume, state: State) -> None:
    """As after a power cut, and a kill while it was fetched anew."""
    write(volume, b"t/c", b"X")
    number, record = record_of(volume, "t.tar")
    left = attrs.evolve(record, state=state, holder="another-boot/1/2")
    volume.tarballs.catalogue.change(number, record, left)
    report = volume.refresh()
    assert (report.deferred, report.replaced, report.removed) == (0, 0, 0)
    _, after = record_of(volume, "t.tar")
    assert (after.state, after.dirty, after.epoch) == (State.ABSENT, True, record.epoch)
    assert read(volume, b"t/c") == b"Xontents"
    write(volume, b"t/d/a", b"Y")
    assert read(volume, b"t/d/a") == b"Yontents"


# -- those who do not read by the overlay ----------------------------------------------------------


def test_what_is_read_ahead_is_not_what_was_fetched(stores: Stores) -> None:
    """Neither by who writes nor, when that is over, by who only reads."""
    with writing(stores) as volume:
        follows(volume, b"t", is_followed=True)
        write(volume, b"t/d/a", b"X")
        follows(volume, b"t", is_followed=False)
        read(volume, b"u/new")
        follows(volume, b"u", is_followed=True)
    with stores.volume() as volume:
        follows(volume, b"t", is_followed=False)
        follows(volume, b"u", is_followed=True)


def follows(volume: Volume, path: bytes, *, is_followed: bool) -> None:
    """Is what stands in a directory read ahead?"""
    following = volume.following()
    assert following is not None
    files = volume.files(wait=True)
    [inode, *_] = [
        entry.attributes.inode
        for top in (files.open_path(path).inode, *subdirectories(volume, path))
        for entry in files.entries(top)
        if not entry.attributes.is_directory
    ]
    place = following.place(inode)
    assert (place is not None) == is_followed
    around = following.after(Order.NUMBER, Place(inode - 1, 0, 0), 10)
    assert bool(around) == is_followed
    if volume._writing is not None:
        assert (following.contents(inode, 1 << 20) is not None) == is_followed
    following.release()
    files.close()


def subdirectories(volume: Volume, path: bytes) -> list[int]:
    files = volume.files(wait=True)
    return [
        entry.attributes.inode
        for entry in files.entries(files.open_path(path).inode)
        if entry.attributes.is_directory
    ]


# -- its way out -----------------------------------------------------------------------------------

LARGE = bytes(range(256)) * 40


def test_exported_it_is_as_it_was_written(stores: Stores) -> None:
    """Whoever has no other way to get at what was written has this one."""
    stores.capability = attrs.evolve(TINY, batch_ops_max=None, durability=Durability.PROCESS)
    members = [file(b"large", LARGE), file(b"cut", LARGE), file(b"holed", LARGE), file(b"gone")]
    members += [directory(b"d"), file(b"d/a"), hardlink(b"d/b", b"d/a"), hardlink(b"e", b"d/a")]
    stores.backing.write("t.tar", tarball(*members))
    with writing(stores) as volume, writable(volume) as files:
        top, old = files.open_path(b"t").inode, files.open_path(b"t/d").inode
        files.write(files.open_path(b"t/large").inode, 5000, b"new")
        files.fallocate(files.open_path(b"t/holed").inode, HOLE, 100, 5000)
        for size in (1000, 9000):
            files.setattr(files.open_path(b"t/cut").inode, Changes(size=size))
        new = number_of(files.mkdir(top, b"new", 0o750, Caller(5, 6)))
        files.rename(old, b"a", new, b"moved")
        files.rename(top, b"d", new, b"d")
        files.unlink(top, b"e")
        files.link(files.open_path(b"t/large").inode, new, b"large")
        files.setxattr(new, b"user.a", b"")
        files.symlink(new, b"link", b"../large", Caller())
        files.mknod(new, b"fifo", stat.S_IFIFO | 0o600, 0, Caller())
        files.setattr(top, Changes(mode=0o700))
        in_use = files.open_path(b"t/gone").inode
        files.unlink(top, b"gone")
        assert files.stat(in_use).nlink == 0
        expected = [*without_contents(volume, b"t")]
        # No archive has a place for a socket.
        files.mknod(new, b"socket", stat.S_IFSOCK | 0o600, 0, Caller())
        files.setattr(new, Changes(mtime_ns=1))
        parts: list[bytes] = []
        report = volume.export(b"t", lambda data: parts.append(bytes(data)))
        assert report.members == len(expected)
        files.unlink(new, b"socket")
        files.setattr(new, Changes(mtime_ns=1))
        stores.backing.write("copy.tar", b"".join(parts))
        volume.refresh()
        with closing(volume.files(wait=True)) as others:
            copy = others.open_path(b"copy").inode
            volume.tarballs.fetch(record_of(volume, "copy.tar")[0])
            assert_same_tree(tree_of_volume(files, top), tree_of_volume(others, copy))


HOLE = FallocateFlag.PUNCH_HOLE | FallocateFlag.KEEP_SIZE


def number_of(entry: bytes) -> int:
    return int.from_bytes(entry[:8], "little")


def without_contents(volume: Volume, path: bytes) -> Iterator[tuple[bytes, ...]]:
    """The paths below one."""
    with closing(volume.files(wait=True)) as files:
        for node in tree_of_volume(files, files.open_path(path).inode):
            yield node.path

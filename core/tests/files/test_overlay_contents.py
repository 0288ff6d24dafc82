"""Files and directories of many records in a tarball: what is written of them is little, and right.

The machine (``test_overlay_machine``) has small ones; here more goes than is named one by one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import cast

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvfs.capability import Durability
from kvfs.files import Attributes, Caller, Changes, Refused, WritableFiles
from kvfs.files.change import FEW
from kvfs.files.overlay import GONE
from kvfs.files.records import dirent_key, extent_key, inode_key, link_key
from kvfs.files.writing import FallocateFlag
from kvfs.kv import Batch, KVStore, prefix_end
from kvfs.layers.passing import KVLayer
from kvfs.tar.member import Member, MemberType
from kvfs.tar.writer import TarWriter
from kvfs.testing.volumes import Stores
from kvfs.testing.written import inconsistencies

from .writing_support import SMALL, number_of, refused

LIKE_ETCD = attrs.evolve(SMALL, batch_ops_max=128, commit_bytes_best=1 << 20)
EXTENT = 128
COUNT = 10 * FEW
LARGE = bytes(range(1, 241)) * (COUNT * EXTENT // 240) + bytes((7,)) * (COUNT * EXTENT % 240)
ENTRIES = 5000
FIRST_OPS = 12
"""So many operations are more than any change takes that is not about many extents."""


class Counted(KVLayer):
    """Keeps how many operations each commit had."""

    ops: list[int]

    def commit(self, batch: Batch, durability: Durability) -> None:
        self.ops.append(batch.ops)
        self.inner.commit(batch, durability)


@attrs.define
class Inside:
    """A tarball that is written to."""

    files: WritableFiles
    top: int
    state: KVStore
    sealed: KVStore
    ops: list[int]

    def find(self, name: bytes, parent: int | None = None) -> int:
        found = self.files.find(parent or self.top, name)
        assert found is not None
        self.files.forget(found.inode, 1)
        return found.inode

    def read(self, inode: int) -> bytes:
        return b"".join(self.files.read(inode, 0, 1 << 30))

    def stat(self, inode: int) -> Attributes:
        return self.files.stat(inode)

    def truncate(self, inode: int, size: int) -> None:
        self.files.setattr(inode, Changes(size=size))

    def data(self, inode: int) -> list[tuple[int, int]]:
        """The ranges that are said to hold data."""
        found, at, size = [], 0, self.stat(inode).size
        while at < size:
            try:
                start = self.files.seek(inode, at, os.SEEK_DATA)
            except Refused as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            at = self.files.seek(inode, start, os.SEEK_HOLE)
            found.append((start, at))
        return found

    def above(self, prefix: bytes) -> dict[bytes, bytes]:
        """What the state store has."""
        return {bytes(k): bytes(v) for k, v in self.state.scan(prefix, prefix_end(prefix))}


def archive() -> bytes:
    parts: list[bytes] = []
    writer = TarWriter(lambda data: parts.append(bytes(data)))
    writer.add(Member(b"large", size=len(LARGE)), [LARGE])
    writer.add(Member(b"one", size=300), [LARGE[:300]])
    for name in (b"two", b"three"):
        writer.add(Member(name, MemberType.HARDLINK, linkname=b"one"), [])
    writer.close()
    return b"".join(parts)


def crowd() -> bytes:
    parts: list[bytes] = []
    writer = TarWriter(lambda data: parts.append(bytes(data)))
    for number in range(ENTRIES):
        writer.add(Member(b"many/%d" % number, size=1), [b"x"])
    writer.close()
    return b"".join(parts)


ARCHIVE = archive()


@contextmanager
def inside_of(data: bytes) -> Iterator[Inside]:
    stores = Stores(capability=LIKE_ETCD)
    stores.backing.write("t.tar", data)
    with stores.volume({"volume": {"writable": True}}) as volume:
        volume.begin_writing("test")
        assert volume._writing is not None
        store = volume._writing.store
        counted = Counted(store.driver)
        counted.ops = []
        store.driver = counted
        with closing(cast(WritableFiles, volume.files(wait=True))) as files:
            top = files.open_path(b"t").inode
            volume.tarballs.fetch(top >> 40)
            yield Inside(files, top, store, volume.sealed, counted.ops)
            in_use = files._context.references
            assert inconsistencies(store, in_use, sealed=volume.sealed, root=top) == []


@pytest.fixture
def inside() -> Iterator[Inside]:
    with inside_of(ARCHIVE) as made:
        yield made


# -- few records for many extents ------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, EXTENT, 5 * EXTENT + 7, len(LARGE) - 1])
def test_cutting_off_a_large_file_writes_little(inside: Inside, size: int) -> None:
    inode = inside.find(b"large")
    inside.truncate(inode, size)
    assert max(inside.ops) < FEW
    assert len(inside.above(extent_key(inode, 0)[:9])) == bool(size % EXTENT)
    assert inside.read(inode) == LARGE[:size]
    assert inside.stat(inode).blocks == -(-size // EXTENT)
    # What was cut off does not come back.
    inside.truncate(inode, len(LARGE))
    content = LARGE[:size].ljust(len(LARGE), b"\0")
    assert inside.read(inode) == content
    assert inside.data(inode) == ([(0, size)] if size else [])
    assert inside.stat(inode).blocks == -(-size // EXTENT)
    inside.files.write(inode, len(LARGE) - 5, b"end")
    assert inside.read(inode) == content[:-5] + b"end" + content[-2:]


def test_removing_a_large_file_writes_little(inside: Inside) -> None:
    inode = inside.find(b"large")
    inside.files.unlink(inside.top, b"large")
    assert max(inside.ops) < FIRST_OPS
    assert inside.above(b"E") == {}
    assert inside.above(inode_key(inode)) == {inode_key(inode): GONE}
    assert inside.files.lookup(inside.top, b"large") is None


def test_removing_a_large_file_that_was_written_to(inside: Inside) -> None:
    """What lies above of it goes, as a range."""
    inode = inside.find(b"large")
    inside.files.write(inode, 0, LARGE[: 3 * FEW * EXTENT // 2])
    assert len(inside.above(extent_key(inode, 0)[:9])) > FEW
    inside.ops.clear()
    inside.files.unlink(inside.top, b"large")
    assert max(inside.ops) < FIRST_OPS
    assert inside.above(b"E") == {}


@pytest.mark.parametrize("mode", [FallocateFlag.PUNCH_HOLE, FallocateFlag.ZERO_RANGE])
def test_a_hole_of_many_extents(inside: Inside, mode: FallocateFlag) -> None:
    """Each has to be named, and an engine takes so many at once."""
    inode = inside.find(b"large")
    start, stop = EXTENT + 5, (COUNT - 2) * EXTENT - 5
    inside.files.fallocate(inode, mode | FallocateFlag.KEEP_SIZE, start, stop - start)
    assert max(inside.ops) <= LIKE_ETCD.batch_ops_max  # type: ignore[operator]
    assert inside.read(inode) == LARGE[:start] + bytes(stop - start) + LARGE[stop:]
    assert inside.data(inode)[0] == (0, start)
    assert inside.stat(inode).blocks == 2 + 3
    # Holes take nothing, and are not looked for again.
    inside.ops.clear()
    inside.files.fallocate(inode, mode | FallocateFlag.KEEP_SIZE, start, stop - start)
    assert len(inside.ops) == 1


def test_a_hole_up_to_the_end_of_a_file_that_then_grows(inside: Inside) -> None:
    inode = inside.find(b"large")
    grown = len(LARGE) + 1000
    inside.files.fallocate(inode, FallocateFlag.ZERO_RANGE, 10, grown - 10)
    assert inside.stat(inode).size == grown
    assert inside.read(inode) == LARGE[:10].ljust(grown, b"\0")
    assert inside.stat(inode).blocks == 1


# In extents, and so many bytes more; a range may have more extents than are named one by one.
PLACES = st.builds(
    lambda extents, more: max(extents * EXTENT + more, 0),
    st.sampled_from((0, 1, 2, FEW, FEW + 1, 3 * FEW, COUNT - 1, COUNT, COUNT + 2)),
    st.sampled_from((-1, 0, 1, 70)),
)
STEPS = st.tuples(st.sampled_from(("write", "truncate", "zero")), PLACES, PLACES)


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=6))
def test_any_changes_of_a_large_file(steps: list[tuple[str, int, int]]) -> None:
    with inside_of(ARCHIVE) as inside:
        inode, content = inside.find(b"large"), bytearray(LARGE)
        for number, (what, at, other) in enumerate(steps):
            low, high = sorted((at, other))
            if what == "truncate":
                inside.truncate(inode, at)
                content[at:] = bytes(max(at - len(content), 0))
            elif what == "zero":
                mode = FallocateFlag.PUNCH_HOLE | FallocateFlag.KEEP_SIZE
                inside.files.fallocate(inode, mode, low, high - low + 1)
                end = min(high + 1, len(content))
                content[low:end] = bytes(max(end - low, 0))
            else:
                data = bytes((200 + number,)) * min(high - low + 1, 20 * EXTENT)
                inside.files.write(inode, low, data)
                content.extend(bytes(max(low - len(content), 0)))
                content[low : low + len(data)] = data
            assert inside.read(inode) == content
        held = bytearray(len(content))
        for start, stop in inside.data(inode):
            held[start:stop] = content[start:stop]
        assert held == content


# -- names -----------------------------------------------------------------------------------------


def test_a_crowded_directory_is_emptied_and_removed() -> None:
    with inside_of(crowd()) as inside:
        directory = inside.find(b"many")
        names = [entry.name for entry in inside.files.entries(directory)]
        assert len(names) == ENTRIES
        for name in names:
            inside.files.forget(inside.find(name, directory), 1)  # the listing gave it
        with refused(errno.ENOTEMPTY):
            inside.files.rmdir(inside.top, b"many")
        for name in names[1:]:
            inside.files.unlink(directory, name)
        with refused(errno.ENOTEMPTY):
            inside.files.rmdir(inside.top, b"many")
        assert [entry.name for entry in inside.files.entries(directory)] == names[:1]
        inside.files.unlink(directory, names[0])
        prefix = dirent_key(directory, 0)[:9]
        assert len(inside.above(prefix)) == ENTRIES  # so many marks
        inside.files.rmdir(inside.top, b"many")
        assert max(inside.ops) < FIRST_OPS
        assert inside.above(prefix) == {}
        # A new one of this name has nothing to do with it.
        again = number_of(inside.files.mkdir(inside.top, b"many", 0o755, Caller()))
        assert again != directory
        assert [*inside.files.entries(again)] == []


def test_a_name_that_comes_back(inside: Inside) -> None:
    inside.files.unlink(inside.top, b"large")
    inode = number_of(inside.files.mknod(inside.top, b"large", 0o100644, 0, Caller()))
    assert inside.find(b"large") == inode
    assert inside.read(inode) == b""
    inside.files.unlink(inside.top, b"large")
    inside.files.forget(inode, 1)
    assert inside.files.lookup(inside.top, b"large") is None
    assert not inside.above(inode_key(inode))


def test_a_file_of_several_names_loses_them_all(inside: Inside) -> None:
    inode = inside.find(b"one")
    names = {b"one", b"two", b"three"}
    for name in (b"one", b"three", b"two"):
        assert inside.stat(inode).nlink == len(names)
        inside.files.unlink(inside.top, name)
        names.remove(name)
        assert {entry.name for entry in inside.files.entries(inside.top)} == {b"large", *names}
        for left in names:  # the listing gave them once more
            inside.files.forget(inside.find(left), 1)
    assert inside.above(link_key(inode, 0, 0)[:9]) == {}
    assert inside.above(inode_key(inode)) == {inode_key(inode): GONE}

"""Each thing that can be wrong is found, named and mended, and nothing else is touched."""

from __future__ import annotations

import stat

import pytest

from kvfs.checking import Kind, check
from kvfs.errors import AlreadyExists
from kvfs.files import Caller, WritableFiles
from kvfs.files.change import name_record
from kvfs.files.records import (
    InodeFlag,
    dirent_key,
    extent_key,
    inode_key,
    link_key,
    unlinked_key,
    xattr_key,
)

from .support import (
    ACL,
    Bench,
    Harms,
    Written,
    adding_to,
    bench_over,
    damage,
    essence,
    fill,
    fsck,
    kinds,
    look,
    make_everything,
    mended,
    number_of,
    scratch,
    tarball,
)

EMPTY = bytes(10_240)
"""A tarball with nothing in it."""


@pytest.fixture(params=[scratch, lambda: tarball(EMPTY)], ids=["scratch", "tarball"])
def stores(request: pytest.FixtureRequest) -> Written:
    """Stores with something of everything, nothing of it wrong."""
    made: Written = request.param()
    fill(made, make_everything)
    return made


HARMS: Harms = {}
"""By name: what is found, how it is made, and the paths that do not look as before."""
harm = adding_to(HARMS)


# -- records ---------------------------------------------------------------------------------------


@harm(Kind.STRAY)
def stray_space(bench: Bench) -> None:
    bench.store.put(b"Zwhat", b"is this")


@harm(Kind.STRAY)
def stray_key(bench: Bench) -> None:
    bench.store.put(b"I123", b"is this")


@harm(Kind.STRAY)
def stray_tarball(bench: Bench) -> None:
    bench.store.put(extent_key(1 << 40, 0), b"of a tarball")


@harm(Kind.COUNTER)
def counter_behind(bench: Bench) -> None:
    bench.store.put(bench.counter, b"3")


@harm(Kind.COUNTER)
def counter_unreadable(bench: Bench) -> None:
    bench.store.put(bench.counter, b"\x80what")


@harm(Kind.ROOT, b"")
def root_unreadable(bench: Bench) -> None:
    bench.store.put(inode_key(bench.root), b"gone")


@harm(Kind.ROOT)
def root_elsewhere(bench: Bench) -> None:
    node = bench.node(bench.root)
    node.parent = 77
    bench.store.put(inode_key(bench.root), node.pack())


@harm(Kind.INODE, b"dir/fifo")
def inode_unreadable(bench: Bench) -> None:
    bench.store.put(inode_key(bench.inode(b"dir/fifo")), b"torn")


@harm(Kind.INODE, b"dir/fifo")
def inode_of_no_type(bench: Bench) -> None:
    bench.change(b"dir/fifo", mode=0o644)


@harm(Kind.INODE)
def inode_of_other_number(bench: Bench) -> None:
    inode = bench.inode(b"dir/sub/large")
    node = bench.node(inode)
    node.attributes.inode = bench.nobody
    bench.store.put(inode_key(inode), node.pack())


@harm(Kind.INODE)
def inode_flags(bench: Bench) -> None:
    key = inode_key(bench.inode(b"dir/sub/large"))
    raw = bytearray(bench.store.get(key) or b"")
    raw[121] |= 0xF0
    bench.store.put(key, bytes(raw))


@harm(Kind.INODE)
def inode_padding(bench: Bench) -> None:
    key = inode_key(bench.inode(b"dir/sub"))
    raw = bytearray(bench.store.get(key) or b"")
    raw[123] = 1
    bench.store.put(key, bytes(raw))


@harm(Kind.INODE)
def directory_with_extents(bench: Bench) -> None:
    inode = bench.inode(b"dir")
    node = bench.node(inode)
    node.flags |= InodeFlag.EXTENTS
    bench.store.put(inode_key(inode), node.pack())


@harm(Kind.LOST_INODE, b"dir/sub/large", b"dir/sub")
def file_gone(bench: Bench) -> None:
    bench.store.delete(inode_key(bench.inode(b"dir/sub/large")))


@harm(Kind.LOST_INODE, b"dir/sub")
def directory_gone(bench: Bench) -> None:
    bench.store.delete(inode_key(bench.inode(b"dir/sub")))


@harm(Kind.LOST_INODE)
def names_in_a_file(bench: Bench) -> None:
    inode = bench.inode(b"dir/small")
    bench.store.put(dirent_key(inode, 16), name_record(16, b"x", inode, 0o100644))


# -- contents --------------------------------------------------------------------------------------


@harm(Kind.CONTENT)
def size_of_a_small_file(bench: Bench) -> None:
    bench.change(b"dir/small", size=9)


@harm(Kind.CONTENT)
def size_of_a_link(bench: Bench) -> None:
    bench.change(b"dir/link", size=5000)


@harm(Kind.CONTENT)
def bytes_of_a_directory(bench: Bench) -> None:
    inode = bench.inode(b"dir/sub")
    node = bench.node(inode)
    node.content = b"what?"
    bench.store.put(inode_key(inode), node.pack())


@harm(Kind.CONTENT)
def size_beyond_all(bench: Bench) -> None:
    bench.change(b"dir/sub/large", size=1 << 62)


@harm(Kind.EXTENT)
def extent_of_nothing(bench: Bench) -> None:
    bench.store.put(extent_key(bench.inode(b"dir/small"), 3), b"of nothing")


@harm(Kind.EXTENT)
def extent_behind_the_end(bench: Bench) -> None:
    bench.store.put(extent_key(bench.inode(b"dir/sub/large"), 900), b"behind")


@harm(Kind.EXTENT)
def extent_too_long(bench: Bench) -> None:
    key = extent_key(bench.inode(b"dir/sub/large"), 0)
    bench.store.put(key, (bench.store.get(key) or b"") + b"more")


@harm(Kind.EXTENT)
def extent_past_the_end(bench: Bench) -> None:
    key = extent_key(bench.inode(b"dir/sub/large"), 7)
    bench.store.put(key, (bench.store.get(key) or b"") + b"more")


@harm(Kind.EXTENT)
def flag_of_extents_gone(bench: Bench) -> None:
    inode = bench.inode(b"dir/sub/large")
    node = bench.node(inode)
    node.flags &= ~InodeFlag.EXTENTS
    bench.store.put(inode_key(inode), node.pack())


@harm(Kind.BLOCKS)
def blocks_of_a_small_file(bench: Bench) -> None:
    bench.change(b"dir/small", blocks=7)


@harm(Kind.BLOCKS)
def blocks_of_a_large_file(bench: Bench) -> None:
    bench.change(b"dir/sub/large", blocks=99)


@harm(Kind.BLOCKS, b"dir/sub/large")
def extent_missing(bench: Bench) -> None:
    bench.store.delete(extent_key(bench.inode(b"dir/sub/large"), 1))


# -- extended attributes ---------------------------------------------------------------------------


@harm(Kind.XATTR)
def xattr_of_nothing(bench: Bench) -> None:
    bench.put(xattr_key(bench.nobody, b"user.x"), b"?")


@harm(Kind.XATTR)
def flag_of_xattrs_gone(bench: Bench) -> None:
    inode = bench.inode(b"dir/sub/large")
    node = bench.node(inode)
    node.flags &= ~InodeFlag.XATTRS
    bench.store.put(inode_key(inode), node.pack())


@harm(Kind.XATTR)
def acl_unreadable(bench: Bench) -> None:
    bench.put(xattr_key(bench.inode(b"dir/sub/large"), ACL), b"\2\0\0")


# -- names -----------------------------------------------------------------------------------------


@harm(Kind.DIRENT, b"dir/fifo")
def dirent_unreadable(bench: Bench) -> None:
    bench.store.put(bench.key_of(b"dir/fifo"), b"torn")


@harm(Kind.DIRENT)
def dirent_of_other_type(bench: Bench) -> None:
    node = bench.node(bench.inode(b"dir/fifo"))
    raw = name_record(node.slot, b"fifo", node.inode, 0o040755)
    bench.store.put(bench.key_of(b"dir/fifo"), raw)


@harm(Kind.DIRENT)
def dirent_not_shared(bench: Bench) -> None:
    key = bench.key_of(b"dir/fifo")
    bench.store.put(key, (bench.store.get(key) or b"")[:-1] + b"\0")


@harm(Kind.DANGLING, b"dir/fifo")
def inode_gone(bench: Bench) -> None:
    bench.store.delete(inode_key(bench.inode(b"dir/fifo")))


@harm(Kind.DANGLING, b"dir")
def name_of_nothing(bench: Bench) -> None:
    slot = bench.names.slot(b"ghost")
    raw = name_record(slot, b"ghost", bench.nobody, 0o100644)
    bench.store.put(dirent_key(bench.inode(b"dir"), slot), raw)


@harm(Kind.DANGLING)
def name_of_the_root(bench: Bench) -> None:
    slot = bench.names.slot(b"up")
    raw = name_record(slot, b"up", bench.root, 0o040755)
    bench.store.put(dirent_key(bench.inode(b"dir"), slot), raw)


@harm(Kind.NAME, b"dir/fifo")
def no_file_name(bench: Bench) -> None:
    node = bench.node(bench.inode(b"dir/fifo"))
    raw = name_record(node.slot, b"a/b", node.inode, node.attributes.mode)
    bench.store.put(bench.key_of(b"dir/fifo"), raw)


@harm(Kind.NAME)
def name_twice(bench: Bench) -> None:
    node = bench.node(bench.inode(b"dir/fifo"))
    raw = name_record(node.slot + 1, b"fifo", node.inode, node.attributes.mode)
    bench.store.put(dirent_key(node.parent, node.slot + 1), raw)


@harm(Kind.SLOT)
def wrong_slot(bench: Bench) -> None:
    node = bench.node(bench.inode(b"dir/fifo"))
    bench.store.delete(bench.key_of(b"dir/fifo"))
    node.slot = 99
    bench.store.put(inode_key(node.inode), node.pack())
    raw = name_record(99, b"fifo", node.inode, node.attributes.mode)
    bench.store.put(dirent_key(node.parent, 99), raw)


@harm(Kind.SLOT)
def gap_in_a_chain(bench: Bench) -> None:
    node = bench.node(bench.inode(b"dir/fifo"))
    slot = node.slot + 2
    bench.store.delete(bench.key_of(b"dir/fifo"))
    raw = name_record(slot, b"fifo", node.inode, node.attributes.mode)
    bench.store.put(dirent_key(node.parent, slot), raw)


@harm(Kind.BACK_POINTER)
def back_pointer_of_a_file(bench: Bench) -> None:
    _point(bench, b"dir/sub/large", bench.nobody, bench.nobody)


@harm(Kind.BACK_POINTER)
def back_pointer_of_a_directory(bench: Bench) -> None:
    _point(bench, b"dir/sub", bench.root, 18)


@harm(Kind.BACK_POINTER)
def back_pointer_of_several(bench: Bench) -> None:
    _point(bench, b"dir/small", bench.nobody, bench.nobody)


@harm(Kind.LINK)
def link_record_gone(bench: Bench) -> None:
    inode = bench.inode(b"second")
    bench.store.delete(link_key(inode, bench.root, bench.names.slot(b"second")))


@harm(Kind.LINK)
def link_record_of_nothing(bench: Bench) -> None:
    bench.put(link_key(bench.inode(b"dir/small"), bench.nobody, 16), b"")


@harm(Kind.LINK)
def link_record_of_no_inode(bench: Bench) -> None:
    bench.put(link_key(bench.nobody, bench.root, 16), b"")


@harm(Kind.SECOND_NAME)
def second_name_of_a_directory(bench: Bench) -> None:
    inode, slot = bench.inode(b"dir/sub"), bench.names.slot(b"again")
    bench.store.put(dirent_key(bench.root, slot), name_record(slot, b"again", inode, 0o040755))


# -- links -----------------------------------------------------------------------------------------


@harm(Kind.ORPHAN, b"dir/sub/large")
def file_without_a_name(bench: Bench) -> None:
    bench.store.delete(bench.key_of(b"dir/sub/large"))


@harm(Kind.ORPHAN, b"dir/sub", b"dir/sub/large", b"dir/sub/third", b"dir/sub/deep")
def directory_without_a_name(bench: Bench) -> None:
    bench.store.delete(bench.key_of(b"dir/sub"))


@harm(Kind.ORPHAN, b"dir/sub", b"dir/sub/large", b"dir/sub/third", b"dir/sub/deep")
def unlinked_directory_with_names(bench: Bench) -> None:
    bench.store.delete(bench.key_of(b"dir/sub"))
    bench.store.put(unlinked_key(bench.inode(b"dir") + 1), b"")


@harm(Kind.UNLINKED)
def unlinked_with_a_name(bench: Bench) -> None:
    bench.store.put(unlinked_key(bench.inode(b"dir/fifo")), b"")


@harm(Kind.UNLINKED)
def unlinked_and_gone(bench: Bench) -> None:
    bench.store.put(unlinked_key(bench.nobody), b"")


@harm(Kind.LINK_COUNT)
def links_of_a_file(bench: Bench) -> None:
    bench.change(b"dir/small", nlink=7)


@harm(Kind.LINK_COUNT)
def links_of_a_directory(bench: Bench) -> None:
    bench.change(b"dir", nlink=9)


@harm(Kind.LINK_COUNT)
def links_of_the_root(bench: Bench) -> None:
    bench.change(b"", nlink=0)


@harm(Kind.LOOP, b"dir/sub", b"dir/sub/large", b"dir/sub/third", b"dir/sub/deep")
def loop(bench: Bench) -> None:
    sub, deep = bench.inode(b"dir/sub"), bench.inode(b"dir/sub/deep")
    bench.store.delete(bench.key_of(b"dir/sub"))
    slot = bench.names.slot(b"round")
    bench.store.put(dirent_key(deep, slot), name_record(slot, b"round", sub, 0o040755))
    node = bench.node(sub)
    node.parent, node.slot = deep, slot
    bench.store.put(inode_key(sub), node.pack())


@harm(Kind.LOOP, b"dir/sub/deep")
def loop_of_one(bench: Bench) -> None:
    deep = bench.inode(b"dir/sub/deep")
    bench.store.delete(bench.key_of(b"dir/sub/deep"))
    slot = bench.names.slot(b"self")
    bench.store.put(dirent_key(deep, slot), name_record(slot, b"self", deep, 0o040755))
    node = bench.node(deep)
    node.parent, node.slot = deep, slot
    bench.store.put(inode_key(deep), node.pack())


def _point(bench: Bench, path: bytes, parent: int, slot: int) -> None:
    inode = bench.inode(path)
    node = bench.node(inode)
    node.parent, node.slot = parent, slot
    bench.store.put(inode_key(inode), node.pack())


# -- the tests -------------------------------------------------------------------------------------


def test_a_volume_that_was_written_to_is_clean(stores: Written) -> None:
    told, report = fsck(stores)
    assert told == []
    assert report.is_clean
    assert mended(stores) == []


@pytest.mark.parametrize("name", HARMS)
def test_it_is_found_named_and_mended(stores: Written, name: str) -> None:
    kind, hurt, paths = HARMS[name]
    before = essence(look(stores))
    hurt(bench_over(stores))
    assert kind in kinds(stores)
    assert kind in {problem.kind for problem in mended(stores)}
    after = essence(look(stores))
    for path in before.keys() - paths:
        assert after[path] == before[path], path


def test_a_check_changes_nothing(stores: Written) -> None:
    bench = bench_over(stores)
    bench.put(unlinked_key(bench.nobody), b"")
    before = dict(damage(stores).scan(b"A", b"V"))
    assert kinds(stores) == {Kind.UNLINKED}
    assert dict(damage(stores).scan(b"A", b"V")) == before


def test_lost_and_found(stores: Written) -> None:
    bench = bench_over(stores)
    large, sub = bench.inode(b"dir/sub/large"), bench.inode(b"dir/sub")
    content = look(stores)[b"dir/sub/large"].content
    bench.store.delete(bench.key_of(b"dir/sub/large"))
    bench.store.delete(bench.key_of(b"dir/sub"))
    mended(stores)
    seen = look(stores)
    assert seen[b"lost+found/#%d" % large].content == content
    assert seen[b"lost+found/#%d/deep" % sub].attributes.is_directory
    assert stat.S_IMODE(seen[b"lost+found"].attributes.mode) == 0o700
    assert seen[b"lost+found"].attributes.nlink == 3


def test_contents_outlive_the_record_of_their_inode(stores: Written) -> None:
    """Names and contents whose inode is gone are there again, with new attributes."""
    bench = bench_over(stores)
    before = look(stores)
    bench.store.delete(inode_key(bench.inode(b"dir/sub/large")))
    bench.store.delete(inode_key(bench.node(bench.inode(b"dir/small")).parent))
    mended(stores)
    after = look(stores)
    assert after[b"dir/sub/large"].content == before[b"dir/sub/large"].content
    assert after[b"dir/sub/large"].xattrs == before[b"dir/sub/large"].xattrs
    assert after.keys() == before.keys()


def test_unlinked_files_in_use_when_the_daemon_died_are_no_problem(stores: Written) -> None:
    def work(files: WritableFiles, root: int) -> None:
        number_of(files.mknod(root, b"temporary", stat.S_IFREG | 0o600, 0, Caller()))
        files.unlink(root, b"temporary")
        files._context.sync()
        records.update(files._context.store.scan(b"", None))

    records: dict[bytes, bytes] = {}
    fill(stores, work)
    store = damage(stores)
    for key, value in records.items():
        if key[:1] in b"IU":
            store.put(key, value)
    assert [key for key in records if key[:1] == b"U"]
    assert fsck(stores)[0] == []


def test_names_that_collide() -> None:
    """A chain whose first name is torn out."""
    few = scratch()

    def work(files: WritableFiles, root: int) -> None:
        for number in range(40):
            files.mknod(root, b"name-%d" % number, stat.S_IFREG | 0o600, 0, Caller())
        for number in range(0, 40, 5):
            files.unlink(root, b"name-%d" % number)

    fill(few, work, hash_bits=2)
    assert fsck(few)[0] == []
    names = set(look(few))
    store = damage(few)
    keys = [key for key, _ in store.scan(b"D", b"E")]
    store.delete(keys[0])
    store.delete(keys[len(keys) // 2])
    assert Kind.SLOT in kinds(few)
    mended(few)
    found = set(look(few))
    assert len(names - found) <= 2
    assert len([path for path in found if path.startswith(b"lost+found/")]) == len(names - found)


def test_who_writes_keeps_it_out(stores: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvfs.volume.volume.WRITER_PATIENCE_S", 0)
    with stores.volume_over() as volume:
        volume.begin_writing("a test")
        with pytest.raises(AlreadyExists), stores.volume_over() as other:
            check(other, lambda problem: None)

"""What can be wrong with what lies over a tarball: found, named, and mended in the layer above."""

from __future__ import annotations

import json
import stat

import pytest

from kvfs.checking import Kind
from kvfs.files import Changes, WritableFiles
from kvfs.files.change import name_record
from kvfs.files.overlay import GONE
from kvfs.files.records import (
    EPOCH_BITS,
    FIRST_MADE_NUMBER,
    NUMBER_BITS,
    ROOT_INODE,
    catalogue_key,
    dirent_key,
    extent_key,
    inode_key,
    link_key,
    tarball_of,
    written_key,
    xattr_key,
)

from .support import (
    ACL,
    TOP,
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
    mended,
    tarball,
    touch_everything,
)


@pytest.fixture
def stores() -> Written:
    """Stores with something of everything in a tarball, most of it changed, nothing wrong."""
    made = tarball()
    fill(made, touch_everything)
    return made


HARMS: Harms = {}
"""By name: what is found, how it is made, and the paths that do not look as before."""
harm = adding_to(HARMS)


# -- what says which tarballs were written to ------------------------------------------------------


def _forget(bench: Bench) -> None:
    """Have the catalogue not say that the tarball was written to."""
    key = catalogue_key(tarball_of(bench.root))
    fields = json.loads(bench.store.get(key) or b"")
    del fields["dirty"]
    bench.store.put(key, json.dumps(fields).encode())


@harm(Kind.WRITTEN)
def catalogue_does_not_say_so(bench: Bench) -> None:
    _forget(bench)


@harm(Kind.WRITTEN)
def written_record_of_no_tarball(bench: Bench) -> None:
    bench.store.put(written_key(4711), b"2147483648")


@harm(Kind.COUNTER)
def written_record_gone(bench: Bench) -> None:
    bench.store.delete(bench.counter)


@harm(Kind.COUNTER)
def numbers_of_what_was_fetched(bench: Bench) -> None:
    bench.store.put(bench.counter, b"3")


# -- records of no tree, and of nothing ------------------------------------------------------------


@harm(Kind.STRAY)
def of_another_tarball(bench: Bench) -> None:
    bench.store.put(extent_key((4711 << EPOCH_BITS) + 1 << NUMBER_BITS, 0), b"lost")


@harm(Kind.STRAY)
def of_another_version(bench: Bench) -> None:
    bench.store.put(inode_key(bench.inode(b"dir") + (1 << NUMBER_BITS)), b"lost")


@harm(Kind.STRAY)
def of_a_number_that_none_has(bench: Bench) -> None:
    bench.store.put(inode_key(bench.root + FIRST_MADE_NUMBER + (1 << 30)), b"lost")


@harm(Kind.STRAY)
def without_its_tag(bench: Bench) -> None:
    bench.store.put(xattr_key(bench.inode(b"dir/sub/large"), b"user.other"), b"value")


@harm(Kind.MARK)
def hides_nothing(bench: Bench) -> None:
    bench.store.put(dirent_key(bench.inode(b"dir"), 99), GONE)


@harm(Kind.MARK)
def hides_no_extent(bench: Bench) -> None:
    bench.store.put(extent_key(bench.inode(b"dir/sub/large"), 4711), GONE)


# -- inodes ----------------------------------------------------------------------------------------


@harm(Kind.INODE, b"dir/sub", b"dir/fifo")
def unreadable(bench: Bench) -> None:
    for path in (b"dir/fifo", b"dir/sub"):
        bench.store.put(inode_key(bench.inode(path)), b"torn")


@harm(Kind.INODE)
def of_another_type(bench: Bench) -> None:
    bench.change(b"dir/sub", mode=stat.S_IFREG | 0o755)


@harm(Kind.LOST_INODE, b"dir/sub")
def said_to_be_gone(bench: Bench) -> None:
    """A name that was written leads there."""
    bench.store.put(inode_key(bench.inode(b"dir/sub")), GONE)


@harm(Kind.DANGLING, b"dir/sub", b"dir/sub/deep")
def gone_but_for_its_name(bench: Bench) -> None:
    """A name that was fetched leads there."""
    bench.store.put(inode_key(bench.inode(b"dir/sub/deep")), GONE)


@harm(Kind.LOST_INODE, b"dir/sub/large")
def contents_without_their_record(bench: Bench) -> None:
    bench.store.delete(inode_key(bench.inode(b"dir/sub/large")))


@harm(Kind.LOST_INODE, b"dir/sub/large")
def hole_without_its_record(bench: Bench) -> None:
    inode = bench.inode(b"dir/sub/large")
    bench.store.delete(inode_key(inode))
    bench.store.put(extent_key(inode, 0), GONE)
    bench.store.delete(extent_key(inode, 1))


@harm(Kind.LOST_INODE, b"dir/sub/large")
def contents_of_what_is_said_to_be_gone(bench: Bench) -> None:
    bench.store.put(inode_key(bench.inode(b"dir/sub/large")), GONE)


@harm(Kind.ROOT, b"")
def root_gone(bench: Bench) -> None:
    bench.store.delete(inode_key(bench.root))


# -- contents --------------------------------------------------------------------------------------


@harm(Kind.EXTENT, b"dir/sub/large")
def fetched_extents_behind_the_end(bench: Bench) -> None:
    bench.change(b"dir/sub/large", size=140)


@harm(Kind.EXTENT)
def extent_of_what_has_none(bench: Bench) -> None:
    bench.store.put(extent_key(bench.inode(b"dir/sub/deep"), 0), b"what?")


@harm(Kind.BLOCKS, b"dir/sub/large")
def extent_said_to_be_a_hole(bench: Bench) -> None:
    bench.store.put(extent_key(bench.inode(b"dir/sub/large"), 0), GONE)


# -- extended attributes ---------------------------------------------------------------------------


@harm(Kind.XATTR, b"dir/sub/deep")
def attribute_of_what_was_fetched_without(bench: Bench) -> None:
    bench.put(xattr_key(bench.inode(b"dir/sub/deep"), b"user.more"), b"value")


@harm(Kind.XATTR)
def acl_unreadable(bench: Bench) -> None:
    bench.put(xattr_key(bench.inode(b"dir/sub/large"), ACL), b"\2\0\0")


# -- names and links -------------------------------------------------------------------------------


@harm(Kind.DIRENT)
def attributes_in_a_fetched_name(bench: Bench) -> None:
    bench.store.delete(bench.key_of(b"dir/fifo"))


@harm(Kind.DIRENT)
def name_unreadable(bench: Bench) -> None:
    bench.store.put(bench.key_of(b"dir/fifo"), b"torn")


@harm(Kind.DANGLING)
def removed_name_is_back(bench: Bench) -> None:
    for key, value in [*bench.store.scan(b"D", b"E")]:
        if not value:
            bench.store.delete(key)


@harm(Kind.DANGLING)
def leads_out(bench: Bench) -> None:
    slot = bench.names.slot(b"out")
    key = dirent_key(bench.inode(b"dir"), slot)
    bench.store.put(key, name_record(slot, b"out", ROOT_INODE, 0o040755))


@harm(Kind.ORPHAN)
def name_hidden(bench: Bench) -> None:
    for path in (b"dir/fifo", b"dir/sub"):
        bench.store.put(bench.key_of(path), GONE)


@harm(Kind.ORPHAN)
def removed_inode_is_back(bench: Bench) -> None:
    for key, value in [*bench.store.scan(b"I", b"J")]:
        if not value:
            bench.store.delete(key)


@harm(Kind.LINK)
def further_name_hidden(bench: Bench) -> None:
    slot = bench.names.slot(b"second")
    bench.store.put(link_key(bench.inode(b"second"), bench.root, slot), GONE)


@harm(Kind.LINK_COUNT)
def links(bench: Bench) -> None:
    bench.change(b"dir/small", nlink=7)


# -- the tests -------------------------------------------------------------------------------------


def _fetched(stores: Written) -> dict[bytes, bytes]:
    """All that no check may touch."""
    with stores.volume_over() as volume:
        return dict(volume.sealed.scan(b"", None))


def test_what_was_changed_is_clean(stores: Written) -> None:
    told, report = fsck(stores)
    assert (told, report.tarballs) == ([], 1)
    assert mended(stores) == []


@pytest.mark.parametrize("name", HARMS)
def test_it_is_found_named_and_mended(stores: Written, name: str) -> None:
    kind, hurt, paths = HARMS[name]
    before = essence(look(stores))
    fetched = _fetched(stores)
    hurt(bench_over(stores))
    assert kind in kinds(stores)
    assert kind in {problem.kind for problem in mended(stores)}
    after = essence(look(stores))
    for path in before.keys() - paths:
        assert after[path] == before[path], path
    assert _fetched(stores) == fetched


def test_a_problem_says_where(stores: Written) -> None:
    bench_over(stores).change(b"dir/sub/large", nlink=7)
    [problem] = fsck(stores)[0]
    assert problem.path == TOP + b"/dir/sub/large"


def test_contents_outlive_their_record(stores: Written) -> None:
    bench = bench_over(stores)
    before = look(stores)[b"dir/sub/large"]
    for record in (b"torn", GONE):
        bench.store.put(inode_key(bench.inode(b"dir/sub/large")), record)
        mended(stores)
        after = look(stores)[b"dir/sub/large"]
        assert (after.content, after.xattrs) == (before.content, before.xattrs)


def test_fetched_extents_of_what_is_small_now(stores: Written) -> None:
    """Its record does not say that they are not its any more."""

    def shorten(files: WritableFiles, root: int) -> None:
        inode = files.open_path(TOP + b"/dir/sub/large").inode
        files.setattr(inode, Changes(size=0))
        files.write(inode, 0, b"small")

    fill(stores, shorten)
    before = look(stores)
    bench = bench_over(stores)
    node = bench.node(bench.inode(b"dir/sub/large"))
    assert node.cut == 0
    node.cut = None
    bench.store.put(inode_key(node.inode), node.pack())
    assert {problem.kind for problem in mended(stores)} == {Kind.EXTENT}
    assert look(stores) == before


def test_changes_that_nothing_speaks_of_are_not_taken_for_changes(stores: Written) -> None:
    """Neither the catalogue nor anything else says that the tarball was written to."""
    bench = bench_over(stores)
    bench.store.delete(bench.counter)
    _forget(bench)
    assert {problem.kind for problem in mended(stores)} == {Kind.STRAY}
    assert look(stores)[b"dir/null"].attributes.uid == 0


def test_said_to_be_written_and_not(stores: Written) -> None:
    clean = tarball()
    look(clean)
    bench = bench_over(clean)
    bench.store.put(bench.counter, b"2147483648")
    assert {problem.kind for problem in mended(clean)} == {Kind.WRITTEN}
    assert bench.store.get(bench.counter) is None


def _forget_what_was_fetched(stores: Written) -> None:
    """As after a power cut."""
    with stores.volume_over() as volume:
        [(number, record)] = volume.tarballs.catalogue
        volume.tarballs.catalogue.change(number, record, record.forgotten())
        volume.sealed.clear_range(b"", b"\xff")


def test_it_is_fetched_to_be_checked(stores: Written) -> None:
    before = look(stores)
    _forget_what_was_fetched(stores)
    bench = bench_over(stores)
    bench.store.put(inode_key(bench.nobody + FIRST_MADE_NUMBER), b"torn")
    assert Kind.INODE in {problem.kind for problem in mended(stores)}
    assert look(stores) == before


def test_what_cannot_be_fetched_is_not_checked(stores: Written) -> None:
    _forget_what_was_fetched(stores)
    stores.backing.delete("dir/tarball.tar")
    before = dict(damage(stores).scan(b"A", b"T"))
    for repair in (False, True):
        told, report = fsck(stores, repair=repair)
        assert [problem.kind for problem in told] == [Kind.NOT_CHECKED]
        assert told[0].path == TOP
        assert (report.left, report.tarballs) == (1, 0)
    assert dict(damage(stores).scan(b"A", b"T")) == before


def test_tarballs_that_were_not_written_to_are_under_seals() -> None:
    clean = tarball()
    told, report = fsck(clean)
    assert (told, report.left, report.tarballs) == ([], 0, 0)
    look(clean)
    assert mended(clean) == []

"""Versions of tarballs: what inode numbers they get, who is told, and who waits for what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import attrs
import pytest

from kvfs.errors import KVFSError, NotFound, Stale
from kvfs.files import Files
from kvfs.files.records import NUMBER_BITS, ROOT_INODE, inode_key
from kvfs.tarballs import service, tree
from kvfs.tarballs.catalogue import State
from kvfs.testing.invariants import violations
from kvfs.volume import Volume

from .support import (
    PATIENCE_S,
    WatchedStores,
    archive,
    contents,
    number_of,
    sealed_records,
    states,
)

OpenVolume = Callable[..., Volume]
Run = Callable[..., Future[object]]


def version(number: int) -> bytes:
    """An archive of a version; about 20 KB, so that a gate can stand in its middle."""
    return archive({b"%03d" % name: b"%d of %d\n" % (name, number) * 20 for name in range(20)})


def named(number: int) -> bytes:
    """What is in its file ``000``."""
    return b"0 of %d\n" % number * 20


HALF = len(version(1)) // 2


@pytest.fixture
def stores() -> WatchedStores:
    stores = WatchedStores()
    stores.backing.write("t.tar", version(1))
    return stores


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a function in a thread of its own."""
    with ThreadPoolExecutor(16) as pool:
        yield pool.submit


@attrs.define
class Told:
    """An observer that writes down what it is told."""

    entries: list[tuple[int, bytes]] = attrs.field(factory=list)
    directories: list[int] = attrs.field(factory=list)

    def changed(self, entries: Sequence[tuple[int, bytes]], directories: Sequence[int]) -> None:
        self.entries += entries
        self.directories += directories

    def taken(self) -> tuple[set[tuple[int, bytes]], set[int]]:
        """What was told since the last time."""
        taken = set(self.entries), set(self.directories)
        self.entries, self.directories = [], []
        return taken


def root_of(volume: Volume, path: bytes = b"t") -> int:
    return volume.files(wait=False).open_path(path).inode


def read(volume: Volume, path: bytes) -> bytes:
    files = volume.files(wait=True)
    return b"".join(files.read(files.open_path(path).inode, 0, 1 << 20))


# -- inode numbers ---------------------------------------------------------------------------------


def test_what_nobody_saw_keeps_its_numbers(stores: WatchedStores, open_volume: OpenVolume) -> None:
    volume = open_volume()
    root = root_of(volume)
    stores.backing.write("t.tar", version(2))
    assert volume.refresh().replaced == 1
    assert root_of(volume) == root
    stores.backing.write("t.tar", version(3))
    assert read(volume, b"t/000") == named(3)
    assert root_of(volume) == root


def test_each_version_that_was_seen_has_its_own(
    stores: WatchedStores, open_volume: OpenVolume
) -> None:
    volume = open_volume()
    trees = set()
    for number in range(1, 6):
        stores.backing.write("t.tar", version(number))
        volume.refresh()
        assert read(volume, b"t/000") == named(number)
        root = root_of(volume)
        inodes = {entry.attributes.inode for entry in volume.files(wait=True).entries(root)}
        assert {inode >> NUMBER_BITS for inode in inodes} == {root >> NUMBER_BITS}
        trees.add(root >> NUMBER_BITS)
        assert [*violations(volume)] == []
    assert len(trees) == 5


def test_one_that_comes_again_is_another(stores: WatchedStores, open_volume: OpenVolume) -> None:
    """Even if it is the very same object: the name was absent, or another's, meanwhile."""
    volume = open_volume()
    roots = set()
    for number in range(4):
        assert read(volume, b"t/000") == named(1)
        roots.add(root_of(volume))
        stores.backing.delete("t.tar")
        assert volume.refresh().removed == 1
        with pytest.raises(NotFound):
            root_of(volume)
        assert sealed_records(stores) == 0
        stores.backing.write("t.tar", version(1))
        assert volume.refresh().added == 1
        assert len(roots) == number + 1


def test_what_was_given_up_comes_again_as_it_was(
    stores: WatchedStores, open_volume: OpenVolume
) -> None:
    volume = open_volume()
    assert not volume.tarballs.evict(number_of(volume, "t.tar"))
    before = contents(volume, b"t")
    root = root_of(volume)
    inodes = [entry.attributes for entry in volume.files(wait=True).entries(root)]
    assert volume.tarballs.evict(number_of(volume, "t.tar"))
    assert states(volume) == {"t.tar": State.ABSENT}
    assert sealed_records(stores) == 0
    assert not volume.tarballs.evict(number_of(volume, "t.tar"))
    assert root_of(volume) == root
    assert contents(volume, b"t") == before
    assert [entry.attributes for entry in volume.files(wait=True).entries(root)] == inodes
    assert stores.watched.readers == 2


@pytest.mark.parametrize("finds", ["the refresh", "the touch"])
def test_what_was_given_up_and_changed_is_another(
    stores: WatchedStores, open_volume: OpenVolume, finds: str
) -> None:
    volume = open_volume()
    told = Told()
    assert read(volume, b"t/000") == named(1)
    old = root_of(volume)
    inode = volume.files(wait=True).open_path(b"t/000").inode
    volume.tarballs.evict(number_of(volume, "t.tar"))
    volume.subscribe(told)
    stores.backing.write("t.tar", version(2))
    if finds == "the refresh":
        assert volume.refresh().replaced == 1
    else:
        with pytest.raises(Stale):
            volume.files(wait=True).lookup(old, b"000")
    assert told.taken()[0] == {(ROOT_INODE, b"t")}
    assert read(volume, b"t/000") == named(2)
    calls: list[Callable[[Files], object]] = [
        lambda files: files.lookup(old, b"000"),
        lambda files: files.lookup(old, b"absent"),
        lambda files: files.readdir(old, 0, 4096, True),
        lambda files: files.readdir(old, 2, 4096, True),
        lambda files: files.getattr(old),
        lambda files: files.getattr(inode),
        lambda files: files.read(inode, 0, 4096),
        lambda files: files.path_of(inode),
    ]
    for call in calls:
        for wait in (False, True):
            with pytest.raises(Stale):
                call(volume.files(wait=wait))


def test_numbers_that_are_used_up(
    stores: WatchedStores, open_volume: OpenVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "FIRST_MADE_NUMBER", 12)
    volume = open_volume()
    report = volume.tarballs.fetch(number_of(volume, "t.tar"))
    assert report is not None
    assert (report.members, report.lost) == (10, 10)
    assert "at most 11 members" in report.problems[0].message
    assert len(contents(volume, b"t")) == 10
    assert read(volume, b"t/000") == named(1)


# -- who waits -------------------------------------------------------------------------------------


def test_who_waits_for_what_is_being_replaced_gets_the_new_or_learns_of_it(
    stores: WatchedStores, open_volume: OpenVolume, run: Run
) -> None:
    """The ingest of the old version is let go on, and finds that there is a new one."""
    stores.watched.arm(HALF)
    volume = open_volume()
    by_path = [run(read, volume, b"t/%03d" % number) for number in (0, 19)]
    assert stores.watched.reached.wait(PATIENCE_S)
    root = root_of(volume)
    by_inode = run(lambda: volume.files(wait=True).lookup(root, b"019"))
    listing = run(lambda: [*volume.files(wait=True).entries(root)])
    stores.backing.write("t.tar", version(2))
    assert volume.refresh().deferred == 1
    stores.watched.let_go()
    with pytest.raises(Stale):
        listing.result(PATIENCE_S)
    # Members that arrived before the end are served: whole, of the old version, not for keeping.
    right = [
        named(number).replace(b"0 of", b"%d of" % name) for name in (0, 19) for number in (1, 2)
    ]
    for answer in by_path:
        try:
            assert answer.result(PATIENCE_S) in right
        except Stale:
            pass  # the kernel looks a path up again then; open_path leaves that to its caller
    try:
        entry = by_inode.result(PATIENCE_S)
        assert isinstance(entry, bytes)
        assert entry[16:40] == bytes(24)
    except Stale:
        pass
    assert read(volume, b"t/000") == named(2)
    assert volume.refresh().replaced == 0


def test_who_waits_for_what_is_removed_learns_of_it(
    stores: WatchedStores, open_volume: OpenVolume, run: Run
) -> None:
    volume, other = open_volume(), open_volume()
    root = root_of(volume)
    number = number_of(volume, "t.tar")
    record = other.tarballs.catalogue.get(number)
    assert record is not None
    other.tarballs.fetch(number)
    record = other.tarballs.catalogue.get(number)
    assert record is not None
    stores.backing.delete("t.tar")
    with other.tarballs.life.withdrawn(number, record) as withdrawn:
        assert withdrawn is not None
        waiting = run(lambda: volume.files(wait=True).lookup(root, b"000"))
        with pytest.raises(TimeoutError):
            waiting.result(3 * service.WATCH_INTERVAL_S)
        gone = withdrawn.gone()
        # What the refresh does then, but for the name.
        other.tarballs.catalogue.change(number, withdrawn, gone)
    with pytest.raises(Stale):
        waiting.result(PATIENCE_S)
    other.tarballs.catalogue.change(number, gone, record.forgotten())
    assert other.refresh().removed == 1


def test_the_failure_of_a_version_is_not_told_of_the_next(
    stores: WatchedStores, open_volume: OpenVolume
) -> None:
    volume, other = open_volume(), open_volume()
    stores.backing.write("t.tar", b"no tarball at all" * 1000)
    for each in (volume, other):
        with pytest.raises(KVFSError):
            read(each, b"t/000")
    stores.backing.write("t.tar", version(2))
    assert other.refresh().replaced == 1
    for each in (volume, other):
        assert read(each, b"t/000") == named(2)


# -- who is told -----------------------------------------------------------------------------------


def test_observers(stores: WatchedStores, open_volume: OpenVolume) -> None:
    volume = open_volume()
    told, unsubscribed = Told(), Told()
    end = volume.subscribe(told)
    volume.subscribe(unsubscribed)()
    assert volume.refresh().tarballs == 1
    assert told.taken() == (set(), set())

    root = root_of(volume)
    volume.tarballs.fetch(number_of(volume, "t.tar"))  # the attributes of the root are known now
    assert told.taken() == (set(), {root})

    stores.backing.write("t.tar", version(2))
    stores.backing.write("d/u.tar", version(1))
    volume.refresh()
    directory = root_of(volume, b"d")
    entries = {(ROOT_INODE, b"t"), (ROOT_INODE, b"d"), (directory, b"u")}
    assert told.taken() == (entries, {ROOT_INODE, directory})

    stores.backing.write("t/inside.tar", version(1))  # so "t" has to be a directory
    volume.refresh()
    entries, directories = told.taken()
    assert entries >= {(ROOT_INODE, b"t"), (ROOT_INODE, b"t.tar")}
    assert directories >= {ROOT_INODE}

    stores.backing.delete("d/u.tar")
    volume.refresh()
    entries, directories = told.taken()
    assert entries == {(directory, b"u"), (ROOT_INODE, b"d")}
    assert ROOT_INODE in directories

    end()
    stores.backing.write("e.tar", version(1))
    volume.refresh()
    assert told.taken() == unsubscribed.taken() == (set(), set())


def test_what_is_told_is_committed_already(stores: WatchedStores, open_volume: OpenVolume) -> None:
    volume = open_volume()
    read(volume, b"t/000")
    seen: list[tuple[int, State]] = []

    class Looks:
        def changed(self, entries: Sequence[tuple[int, bytes]], directories: Sequence[int]) -> None:
            if entries:
                record = volume.tarballs.catalogue.get(number_of(volume, "t.tar"))
                assert record is not None
                seen.append((root_of(volume), record.state))

    old = root_of(volume)
    volume.subscribe(Looks())
    stores.backing.write("t.tar", version(2))
    volume.refresh()
    # The name leads elsewhere before the first record of the old version goes.
    assert seen == [(root_of(volume), State.EVICTING)]
    assert old != root_of(volume)


def test_an_observer_that_fails_harms_nobody(
    stores: WatchedStores, open_volume: OpenVolume, caplog: pytest.LogCaptureFixture
) -> None:
    class Clumsy:
        def changed(self, entries: Sequence[tuple[int, bytes]], directories: Sequence[int]) -> None:
            raise RuntimeError("oops")

    volume = open_volume()
    told = Told()
    volume.subscribe(Clumsy())
    volume.subscribe(told)
    volume.tarballs.fetch(number_of(volume, "t.tar"))
    assert told.directories == [root_of(volume)]
    assert read(volume, b"t/000") == named(1)
    assert "could not be told" in caplog.text


# -- exports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["given up", "replaced"])
def test_an_export_is_of_one_version(
    stores: WatchedStores, open_volume: OpenVolume, what: str
) -> None:
    """Though the tarball goes while it is written."""
    volume, other = open_volume(), open_volume()
    read(volume, b"t/000")
    parts: list[bytes] = []

    def write(data: bytes | memoryview) -> None:
        if not parts:
            if what == "given up":
                assert other.tarballs.evict(number_of(other, "t.tar"))
            else:
                stores.backing.write("t.tar", version(2))
                assert other.refresh().replaced == 1
        parts.append(bytes(data))

    volume.export(b"t", write)
    assert b"".join(parts) == version(1)
    parts.append(b"")
    again: list[bytes] = []
    volume.export(b"t", lambda data: again.append(bytes(data)))
    assert b"".join(again) == version(1 if what == "given up" else 2)


# -- what is wrong is found ------------------------------------------------------------------------


def test_what_an_earlier_version_left_is_found(
    stores: WatchedStores, open_volume: OpenVolume
) -> None:
    volume = open_volume()
    read(volume, b"t/000")
    old = root_of(volume)
    stores.backing.write("t.tar", version(2))
    volume.refresh()
    read(volume, b"t/000")
    assert [*violations(volume)] == []
    volume.sealed.put(inode_key(old + 5), b"left")
    volume.state.put(inode_key(old), b"left")
    found = [*violations(volume)]
    assert len([line for line in found if "an epoch" in line]) == 1
    assert len([line for line in found if "root of no tarball" in line]) == 1
    volume.sealed.delete(inode_key(old + 5))
    volume.state.delete(inode_key(old))

"""Writing inside tarballs: writers that are killed or overtaken, engines that fail."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from kvfs.capability import Durability
from kvfs.errors import KVFSError, Stale, Unavailable
from kvfs.files import Caller, Refused, WritableFiles
from kvfs.files.records import (
    FIRST_MADE_NUMBER,
    NUMBER_MASK,
    ROOT_NUMBER,
    unlinked_key,
    written_key,
)
from kvfs.kv import Batch
from kvfs.kv.driver import KVDriver
from kvfs.layers.faults import Action, FaultPlan, SimulatedCrash, inject_kv
from kvfs.layers.passing import KVLayer
from kvfs.tarballs import holders
from kvfs.tarballs.catalogue import State
from kvfs.testing.written import inconsistencies
from kvfs.volume import Volume
from kvfs.volume.writing import Writing

from .support import archive, number_of
from .written_support import (
    CHANGED,
    FILES,
    Written,
    change,
    flush,
    record_of,
    tree,
    tree_of,
    writable,
)


@pytest.fixture
def stores() -> Written:
    return Written()


# -- a writer that was killed ----------------------------------------------------------------------


class Dead(KVLayer):
    """What a killed process can do to its engine."""

    def commit(self, batch: Batch, durability: Durability) -> None:
        raise Unavailable("the process is dead", retryable=False)


@contextmanager
def killed(stores: Written, dead: str, mount: str = "mount") -> Iterator[dict[str, int]]:
    """A process was killed that wrote to a tarball, and had an unlinked file in use."""
    with stores.writing(mount, durability="process") as volume:
        change(volume)
        with writable(volume) as files:
            top = files.open_path(b"t").inode
            unlinked = files.open_path(b"t/006").inode
            assert files.lookup(top, b"006") is not None
            files.unlink(top, b"006")
            made = files.open_path(b"t/made").inode
            sealed = files.open_path(b"t/007").inode
        flush(volume)
        with writable(volume) as files:
            files.write(made, 0, b"this is lost")
        assert isinstance(volume._writing, Writing)
        queue = volume._writing._queue
        queue.inner = Dead(queue.inner)
        before = stores.kv["state"].get(b"Vwriter")
        assert before is not None
        claim = before.replace(holders.myself().encode(), dead.encode())
        assert claim != before
        stores.kv["state"].commit(Batch().put(b"Vwriter", claim), Durability.MEMORY)
        yield {"top": top, "unlinked": unlinked, "made": made, "sealed": sealed}


@pytest.mark.parametrize("mount", ["mount", "another"])
def test_who_takes_over_from_a_killed_writer(stores: Written, dead: str, mount: str) -> None:
    left = {name: data for name, data in CHANGED.items() if name != b"006"}
    with killed(stores, dead) as inodes, stores.writing(mount, durability="process") as volume:
        assert record_of(volume) == (State.SEALED, True)
        assert not volume.tarballs.evict(number_of(volume, "t.tar"))
        assert tree(volume) == left
        assert volume._writing is not None
        noted = volume._writing.store.get(unlinked_key(inodes["unlinked"]))
        # Who goes on with the mount has it in use still.
        assert (noted is not None) == (mount == "mount")
        with writable(volume) as files:
            entry = files.mknod(inodes["top"], b"later", 0o100644, 0, Caller())
            later = int.from_bytes(entry[:8], "little")
            assert later > inodes["made"]
            first = inodes["top"] - ROOT_NUMBER + FIRST_MADE_NUMBER
            assert first <= inodes["made"] < later <= first | NUMBER_MASK
            if mount == "mount":
                assert b"".join(files.read(inodes["unlinked"], 0, 9)) == FILES[b"006"][:9]
                files.forget(inodes["unlinked"], 1)
            files.forget(later, 1)
        sealed, root = volume.sealed, inodes["top"]
        assert inconsistencies(volume._writing.store, sealed=sealed, root=root) == []


def test_the_first_fsync_after_a_kill_fails(stores: Written, dead: str) -> None:
    """Once for each file of a tarball that was written to, whether made there or fetched."""
    with (
        killed(stores, dead) as inodes,
        stores.writing(durability="process") as volume,
        writable(volume) as files,
    ):
        files.sync()
        for name in ("made", "sealed", "top"):
            with pytest.raises(Refused) as caught:
                files.sync(inodes[name])
            assert caught.value.errno == errno.EIO
            files.sync(inodes[name])
        entry = files.mknod(inodes["top"], b"later", 0o100644, 0, Caller())
        files.sync(int.from_bytes(entry[:8], "little"))


# -- an engine that fails --------------------------------------------------------------------------


def failing(stores: Written, plan: FaultPlan) -> Written:
    """The same stores, with faults in what is done to the state store."""

    def around(driver: KVDriver, store: str) -> KVDriver:
        return inject_kv(driver, plan) if store == "state" else driver

    wrapped = Written()
    wrapped.around_kv, wrapped.kv = around, stores.kv
    wrapped.objects, wrapped.backing = stores.objects, stores.backing
    return wrapped


def steps(files: WritableFiles) -> Iterator[dict[bytes, bytes]]:
    """Changes, each made to last; what the tarball holds before the first and after each."""
    top, inode = files.open_path(b"t").inode, files.open_path(b"t/003").inode
    held = dict(FILES)
    yield held
    files.write(inode, 0, b"NEW")
    held = {**held, b"003": b"NEW" + held[b"003"][3:]}
    files.sync()
    yield held
    files.rename(top, b"003", top, b"004")
    held = {name: data for name, data in held.items() if name != b"003"} | {b"004": held[b"003"]}
    files.sync()
    yield held
    made = int.from_bytes(files.mknod(top, b"made", 0o100644, 0, Caller())[:8], "little")
    held = {**held, b"made": b""}
    files.sync()
    yield held
    files.write(made, 0, b"m" * 5000)
    held = {**held, b"made": b"m" * 5000}
    files.sync()
    yield held


ALL = [
    Action.UNAVAILABLE,
    Action.ANSWER_LOST,
    Action.EXHAUSTED,
    Action.CRASH_BEFORE,
    Action.CRASH_AFTER,
]


@pytest.mark.parametrize("action", ALL, ids=lambda action: action.name.lower())
def test_a_failure_at_any_commit(action: Action) -> None:
    """From the first write on: a change is there whole or not at all, and none before it lacks."""
    with Written().writing(durability="process") as volume, writable(volume) as files:
        expected = [*steps(files)]
    struck = 0
    for number in range(1, 30):
        stores, plan, done = Written(), FaultPlan(number), 0
        with (
            suppress(KVFSError, SimulatedCrash),
            failing(stores, plan).writing(durability="process") as volume,
            writable(volume) as files,
        ):
            assert tree_of(files) == FILES
            plan.add("commit", action, nth=plan._calls["commit"] + number)
            for done, _ in enumerate(steps(files)):  # noqa: B007
                pass
        if not plan.injected:
            break
        struck += 1
        with stores.volume() as after:
            found = expected.index(tree(after))
            assert found in (done, done + 1)
            root = files_root(after)
            # What was replaced may have been in use; who writes next removes it.
            in_use = range(1 << 64)
            assert inconsistencies(after.state, in_use, sealed=after.sealed, root=root) == []
            state, dirty = record_of(after)
            assert state is State.SEALED
            assert dirty or found == 0
    assert struck > len(expected)


def files_root(volume: Volume) -> int:
    with closing(volume.files(wait=True)) as files:
        return files.open_path(b"t").inode


# -- who takes it away at the moment of the first write --------------------------------------------


class Overtaken(KVLayer):
    """Somebody is a little faster with the first write's tarball."""

    other: Volume
    number: int
    times: int = 1

    def commit(self, batch: Batch, durability: Durability) -> None:
        if written_key(self.number) in batch.puts and self.times:
            self.times -= 1
            self.overtake()
        self.inner.commit(batch, durability)

    def overtake(self) -> None:
        """Take it away."""
        assert self.other.tarballs.evict(self.number)


class Replaced(Overtaken):
    """With another version of its object."""

    def overtake(self) -> None:
        assert self.other.refresh().replaced == 1


def overtaken(stores: Written, kind: type[Overtaken], volume: Volume, other: Volume) -> None:
    layer = kind(volume.state.driver)
    layer.other, layer.number = other, number_of(volume, "t.tar")
    volume.state.driver = layer


def test_a_first_write_that_an_eviction_overtakes(stores: Written) -> None:
    with stores.writing() as volume, stores.volume() as other:
        assert tree(volume) == FILES
        overtaken(stores, Overtaken, volume, other)
        change(volume)
        assert tree(volume) == CHANGED
        assert stores.watched.readers == 2


def test_a_first_write_that_another_version_overtakes(stores: Written) -> None:
    """It is told so, and what is there now is not written to."""
    with stores.writing() as volume, stores.volume() as other:
        assert tree(volume) == FILES
        stores.backing.write("t.tar", archive({b"003": b"other"}))
        overtaken(stores, Replaced, volume, other)
        with pytest.raises(Stale):
            change(volume)
        assert tree(volume) == {b"003": b"other"}
        assert not record_of(volume)[1]
        assert not [*stores.kv["state"].scan(b"W", b"X")]

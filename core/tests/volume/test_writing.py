"""Who may write to a volume, the numbers of new inodes, and what of it all outlives a process."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import pytest

from kvfs.backing import scratch
from kvfs.capability import Durability, KVCapability
from kvfs.errors import AlreadyExists, Closed, Exhausted, Unavailable, Unsupported, errno_of
from kvfs.files import Caller, Refused
from kvfs.files.records import NUMBER_MASK, ROOT_INODE, unlinked_key, volume_key
from kvfs.kv import Batch
from kvfs.kv.driver import KVDriver
from kvfs.kv.memory import CAPABILITY
from kvfs.layers.faults import Action, FaultPlan, inject_kv
from kvfs.layers.passing import KVLayer
from kvfs.tarballs import holders
from kvfs.testing.volumes import Stores
from kvfs.volume import Choice, Volume, VolumeConfig, writing
from kvfs.volume import volume as volumes

from .written_support import writable

WRITER, NEXT = volume_key("writer"), volume_key("next")
NEVER_S = 3600
DURABLE = attrs.evolve(CAPABILITY, durability=Durability.POWER)


@attrs.define
class _Levels(KVLayer):
    """Keeps the levels that commits ask for."""

    inner: KVDriver
    capability: KVCapability = DURABLE
    asked: list[Durability] = attrs.field(factory=list)

    def commit(self, batch: Batch, durability: Durability) -> None:
        self.asked.append(durability)
        self.inner.commit(batch, durability)


class Scratch(Stores):
    """The stores of a volume without a backing store, which outlive the volumes."""

    def config(self, tables: object = None, **volume: object) -> VolumeConfig:
        made = super().config({"volume": {"write_behind": NEVER_S, **volume}})
        return attrs.evolve(made, backing=Choice(scratch.DRIVER, scratch.ScratchSettings()))

    @contextmanager
    def written(self, mount: str = "mount", **settings: object) -> Iterator[Volume]:
        """A volume that this process writes to."""
        with Volume(self.config(**settings)) as volume:
            volume.begin_writing(mount)
            yield volume

    @property
    def state(self) -> KVDriver:
        """What is in the engine, past any queue."""
        return self.kv["state"]

    def writer(self) -> dict[str, str] | None:
        """The claim."""
        record = self.state.get(WRITER)
        return None if record is None else json.loads(record)

    def take_over(self, holder: str, mount: str = "another") -> None:
        """Have the claim be that of somebody else."""
        record = json.dumps({"holder": holder, "mount": mount}).encode()
        self.state.commit(Batch().put(WRITER, record), Durability.MEMORY)


@pytest.fixture
def stores() -> Scratch:
    return Scratch()


def make(volume: Volume, name: bytes, data: bytes = b"") -> int:
    """A file in the root; its inode number."""
    with writable(volume) as files:
        inode = int.from_bytes(files.mknod(ROOT_INODE, name, 0o100644, 0, Caller())[:8], "little")
        if data:
            files.write(inode, 0, data)
        return inode


def names(volume: Volume) -> set[bytes]:
    """What is in the root."""
    with closing(volume.files(wait=True)) as files:
        return {name for name in (b"a", b"b", b"c") if files.lookup(ROOT_INODE, name) is not None}


def die(volume: Volume) -> None:
    """Let a volume go as a killed process does: nothing more reaches its stores."""
    assert isinstance(volume._writing, writing.Writing)
    queue = volume._writing._queue
    queue.inner = Dead(queue.inner)


class Dead(KVLayer):
    """What a killed process can do to its engine."""

    def commit(self, batch: Batch, durability: Durability) -> None:
        raise Unavailable("the process is dead", retryable=False)


# -- the claim -------------------------------------------------------------------------------------


def test_a_writer_claims_the_volume_and_gives_it_up(stores: Scratch) -> None:
    with stores.written("one"):
        assert stores.writer() == {"holder": holders.myself(), "mount": "one"}
    assert stores.writer() is None
    with stores.written("two"):
        assert stores.writer() == {"holder": holders.myself(), "mount": "two"}


@pytest.mark.parametrize("mount", ["mount", "another"])
def test_a_second_writer_is_refused(
    stores: Scratch, mount: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "WRITER_PATIENCE_S", 0.0)
    with stores.written() as first:
        make(first, b"a")
        with Volume(stores.config()) as second:
            pattern = f"process {os.getpid()} is writing"
            with pytest.raises(AlreadyExists, match=pattern):
                second.check_writer()
            with pytest.raises(AlreadyExists, match=pattern):
                second.begin_writing(mount)
        make(first, b"b")  # the other's end has done it no harm
    with stores.written() as third:
        assert names(third) == {b"a", b"b"}


def test_one_volume_does_not_write_twice(stores: Scratch) -> None:
    with stores.written() as volume:
        with pytest.raises(AlreadyExists):
            volume.begin_writing("mount")
        make(volume, b"a")


def test_whoever_is_about_to_end_is_waited_for(
    stores: Scratch, monkeypatch: pytest.MonkeyPatch, dead: str
) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        stores.take_over(dead)

    monkeypatch.setattr("kvfs.volume.volume.time.sleep", wait)
    with Volume(stores.config()) as volume:
        stores.take_over(holders.myself())
        volume.check_writer()
    assert len(waits) == 1


def test_two_that_begin_at_once(stores: Scratch) -> None:
    """Both have seen that nobody writes; one of them is first."""
    with Volume(stores.config()) as volume:

        class First(KVLayer):
            def commit(self, batch: Batch, durability: Durability) -> None:
                if WRITER in batch.puts:
                    stores.take_over("somebody else")
                self.inner.commit(batch, durability)

        volume.state.driver = First(volume.state.driver)
        with pytest.raises(AlreadyExists, match="another process begins to write"):
            volume.begin_writing("mount")
    writer = stores.writer()
    assert writer is not None
    assert writer["holder"] == "somebody else"


def test_what_comes_from_a_store_of_tarballs_is_not_written_to() -> None:
    with Stores().volume() as volume, pytest.raises(Unsupported, match="writable"):
        volume.begin_writing("mount")


def test_an_engine_for_one_thread_is_not_written_to(stores: Scratch) -> None:
    stores.capability = attrs.evolve(CAPABILITY, thread_safe=False)
    with Volume(stores.config()) as volume, pytest.raises(Unsupported, match="several threads"):
        volume.begin_writing("mount")


# -- taking over -----------------------------------------------------------------------------------


def test_a_dead_writer_is_taken_over(stores: Scratch, dead: str) -> None:
    with stores.written() as volume:
        make(volume, b"a")
    stores.take_over(dead)
    with stores.written("another") as volume:
        assert names(volume) == {b"a"}
        make(volume, b"b")
    assert stores.writer() is None


def test_a_successor_of_the_same_mount_keeps_what_is_in_use(stores: Scratch, dead: str) -> None:
    with _killed_over_an_unlinked_file(stores, dead) as inode, stores.written("one") as volume:
        with writable(volume) as files:
            assert b"".join(files.read(inode, 0, 100)) == b"contents"
            assert files.lookup(ROOT_INODE, b"a") is None
            files.forget(inode, 1)
        with writable(volume) as files:
            assert volume._writing is not None
            assert volume._writing.store.get(unlinked_key(inode)) is None


def test_another_mount_removes_what_nobody_uses_any_more(stores: Scratch, dead: str) -> None:
    with _killed_over_an_unlinked_file(stores, dead) as inode, stores.written("two") as volume:
        assert volume._writing is not None
        assert volume._writing.store.get(unlinked_key(inode)) is None
    assert not [key for key, _ in stores.state.scan(b"", None) if inode.to_bytes(8, "big") in key]


@contextmanager
def _killed_over_an_unlinked_file(stores: Scratch, dead: str) -> Iterator[int]:
    """A process of the mount "one" was killed that had an unlinked file in use: its number."""
    with stores.written("one") as volume:
        inode = make(volume, b"a", b"contents")
        with writable(volume) as files:
            files.unlink(ROOT_INODE, b"a")
        _flush(volume)
        die(volume)
        stores.take_over(dead, "one")
        yield inode


def _flush(volume: Volume) -> None:
    """Have all that is queued be in the engine, whatever the volume promises."""
    assert volume._writing is not None
    volume._writing.store.driver.commit(Batch(), Durability.PROCESS)


def test_what_is_in_use_at_the_end_is_removed(stores: Scratch) -> None:
    with stores.written() as volume:
        inode = make(volume, b"a", b"contents")
        with writable(volume) as files:
            files.unlink(ROOT_INODE, b"a")
        _flush(volume)
        assert stores.state.get(unlinked_key(inode)) is not None
    assert not [key for key, _ in stores.state.scan(b"", None) if inode.to_bytes(8, "big") in key]


def test_who_was_taken_for_dead_and_is_not_does_no_harm(
    stores: Scratch, caplog: pytest.LogCaptureFixture
) -> None:
    with stores.written() as volume:
        make(volume, b"a")
        _flush(volume)
        make(volume, b"b")
        stores.take_over("somebody else")
        before = dict(stores.state.scan(b"", None))
        with pytest.raises(Unavailable, match="taken over"):
            _flush(volume)
        with pytest.raises(Unavailable, match="taken over"):
            make(volume, b"c")
    assert "what was written last is lost" in caplog.text
    after = dict(stores.state.scan(b"", None))
    assert {key: value for key, value in before.items() if key in after} == after
    assert after[WRITER] == before[WRITER]


# -- inode numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["memory", "process", "power"])
def test_numbers_never_come_again(stores: Scratch, dead: str, durability: str) -> None:
    """Not even those of files that were lost with a killed process: the kernel may know them."""
    stores.capability = DURABLE
    seen: set[int] = set()
    for _ in range(3):
        with stores.written(durability=durability) as volume:
            for name in (b"a", b"b"):
                inode = make(volume, name)
                assert inode not in seen
                seen.add(inode)
            die(volume)
            stores.take_over(dead, "mount")
    with stores.written() as volume:
        assert names(volume) == set()  # all was lost
        assert make(volume, b"a") not in seen


def test_numbers_are_claimed_many_at_a_time(
    stores: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_NUMBERS_AT_ONCE", 64)
    with stores.written() as volume:
        assert volume._writing is not None
        numbers = [volume._writing.new_inode(0) for _ in range(200)]
        assert len({*numbers}) == 200
        assert numbers == sorted(numbers)
        assert numbers[0] > ROOT_INODE
        assert int(stores.state.get(NEXT) or 0) > numbers[-1]


def test_roots_are_no_new_numbers(stores: Scratch) -> None:
    with stores.written() as volume:
        start = 5 << 32
        stores.state.commit(Batch().put(NEXT, b"%d" % start), Durability.MEMORY)
        assert volume._writing is not None
        assert volume._writing.new_inode(0) & NUMBER_MASK == 16


def test_numbers_end(stores: Scratch) -> None:
    with stores.written() as volume:
        end = writing._NUMBERS_END
        stores.state.commit(Batch().put(NEXT, b"%d" % (end - 1)), Durability.MEMORY)
        with pytest.raises(Exhausted, match="no inode numbers are left"):
            make(volume, b"a")


def test_a_claim_of_numbers_that_fails_is_made_again(stores: Scratch) -> None:
    plan = FaultPlan(1)
    stores.around_kv = lambda driver, _: inject_kv(driver, plan)
    with stores.written() as volume:
        plan.add("commit", Action.UNAVAILABLE, probability=1.0)
        for _ in range(2):
            with pytest.raises(Unavailable):
                make(volume, b"a")
        plan.faults.clear()
        make(volume, b"a")
        assert names(volume) == {b"a"}


# -- durability ------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", Durability)
def test_sync_asks_for_what_the_volume_promises(stores: Scratch, durability: Durability) -> None:
    stores.capability = DURABLE
    levels: dict[str, _Levels] = {}

    def around(driver: KVDriver, store: str) -> KVDriver:
        return levels.setdefault(store, _Levels(driver))

    stores.around_kv = around
    with stores.written(durability=durability.name.lower()) as volume:
        make(volume, b"a")
        asked = levels["state"].asked
        asked.clear()
        with writable(volume) as files:
            files.write(make(volume, b"b"), 0, b"data")
            assert asked == []
            files.sync()
        assert asked == ([] if durability is Durability.MEMORY else [durability])


def test_a_volume_at_memory_waits_for_nothing_and_keeps_all_at_its_end(stores: Scratch) -> None:
    with stores.written(durability="memory") as volume:
        make(volume, b"a", b"data")
        with writable(volume) as files:
            files.sync()
        assert stores.state.get(volume_key("next")) is not None
        with Volume(stores.config()) as other:
            assert names(other) == set()
    with Volume(stores.config()) as other:
        assert names(other) == {b"a"}


def test_an_engine_that_can_do_less_is_asked_for_less(stores: Scratch) -> None:
    with stores.written(durability="power") as volume:
        make(volume, b"a")
        with writable(volume) as files:
            files.sync()  # the memory engine knows no power


@pytest.mark.parametrize("durability", Durability)
def test_fsync_after_a_kill_does_not_say_that_all_is_there(
    stores: Scratch, dead: str, durability: Durability
) -> None:
    """Programs that had files open when the process was killed learn of it, each file once."""
    stores.capability = DURABLE
    level = durability.name.lower()
    with stores.written(durability=level) as volume:
        old = make(volume, b"a")
        with writable(volume) as files:
            files.sync(old)
            files.write(old, 0, b"is lost")
        _flush(volume)
        die(volume)
        stores.take_over(dead, "mount")
        with stores.written(durability=level) as successor, writable(successor) as files:
            new = make(successor, b"b")
            files.sync(new)
            if durability is not Durability.MEMORY:  # which promises nothing
                with pytest.raises(Refused) as caught:
                    files.sync(old)
                assert errno_of(caught.value) == errno.EIO
            files.sync(old)
    with stores.written("another", durability=level) as volume, writable(volume) as files:
        files.sync(old)


# -- the end ---------------------------------------------------------------------------------------


def test_after_the_end_nothing_is_taken(stores: Scratch) -> None:
    with stores.written() as volume:
        make(volume, b"a")
        kept = volume._writing
        assert kept is not None
    with pytest.raises(Closed):
        kept.store.put(b"key", b"value")
    kept.close()


def test_an_end_that_loses_something_says_so_and_gives_the_claim_up(
    stores: Scratch, caplog: pytest.LogCaptureFixture
) -> None:
    with stores.written() as volume:
        make(volume, b"a")
        die(volume)
    assert "what was written last is lost" in caplog.text
    assert stores.writer() is None
    with stores.written() as volume:
        assert names(volume) == set()


def test_the_end_over_an_engine_that_fails(
    stores: Scratch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be reclaimed does not keep what can be committed from it."""
    with stores.written() as volume:
        make(volume, b"a")
        assert volume._writing is not None
        inode = make(volume, b"b")
        # An unlinked file whose inode cannot be read.
        raw = Batch().put(unlinked_key(inode + 1), b"")
        volume._writing.store.commit(raw)
    assert "what was written last is lost" in caplog.text
    assert stores.writer() is None
    with Volume(stores.config()) as volume:
        assert names(volume) == {b"a", b"b"}

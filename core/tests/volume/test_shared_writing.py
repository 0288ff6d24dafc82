"""Several that write to one volume: who may, who is shut out, and what each has of the others."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import cast

import attrs
import pytest

from kvfs.backing import scratch
from kvfs.capability import Durability, KVCapability
from kvfs.checking import check
from kvfs.errors import AlreadyExists, Closed, Unavailable, Unsupported
from kvfs.files import Caller, Changes, Refused, WritableFiles
from kvfs.files.records import ENTRY, ROOT_INODE, VALIDITY, inode_key, unlinked_key, volume_key
from kvfs.kv import Batch, ReadView
from kvfs.kv.driver import Buffer, KVDriver
from kvfs.kv.memory import CAPABILITY
from kvfs.layers.passing import KVLayer, ViewLayer
from kvfs.tarballs import holders
from kvfs.testing.volumes import Stores
from kvfs.testing.written import inconsistencies
from kvfs.volume import Choice, Volume, VolumeConfig, writing
from kvfs.volume import volume as volumes
from kvfs.volume.sharing import SharedWriting

WRITER, JOINED, NEXT = volume_key("writer"), volume_key("writers/"), volume_key("next")
SERVED = attrs.evolve(
    CAPABILITY, durability=Durability.POWER, is_network=True, multi_process_write=True
)
LARGE = b"contents " * 50_000


class Scratch(Stores):
    """The stores of a volume without a backing store, in an engine that a server keeps."""

    def config(self, tables: object = None, **volume: object) -> VolumeConfig:
        made = super().config({"volume": {"shared": True, **volume}})
        return attrs.evolve(made, backing=Choice(scratch.DRIVER, scratch.ScratchSettings()))

    @contextmanager
    def written(self, mount: str, **settings: object) -> Iterator[Volume]:
        """A volume that is written to, by one of several."""
        with Volume(self.config(**settings)) as volume:
            volume.begin_writing(mount)
            yield volume

    @property
    def state(self) -> KVDriver:
        """What is in the engine."""
        return self.kv["state"]

    def records(self, prefix: bytes) -> dict[bytes, bytes]:
        """The records that begin so."""
        return {k: bytes(v) for k, v in self.state.scan(b"", None) if k.startswith(prefix)}

    def put(self, key: bytes, value: bytes) -> None:
        """Store a record, past everything."""
        self.state.commit(Batch().put(key, value), Durability.MEMORY)


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Scratch:
    monkeypatch.setattr(volumes, "WRITER_PATIENCE_S", 0.0)
    return Scratch(capability=SERVED)


def claim_of(holder: str, mount: str = "another") -> bytes:
    """A record of who writes."""
    return json.dumps({"holder": holder, "mount": mount}).encode()


def sharing(volume: Volume) -> SharedWriting:
    """By what a volume is written to."""
    assert isinstance(volume._writing, SharedWriting)
    return volume._writing


def files_of(volume: Volume) -> WritableFiles:
    return cast(WritableFiles, volume.files(wait=True))


def make(volume: Volume, name: bytes, data: bytes = b"") -> int:
    """A file in the root; its inode number."""
    with closing(files_of(volume)) as files:
        inode = int.from_bytes(files.mknod(ROOT_INODE, name, 0o100644, 0, Caller())[:8], "little")
        if data:
            files.write(inode, 0, data)
        return inode


def names(volume: Volume) -> set[bytes]:
    with closing(files_of(volume)) as files:
        return {entry.name for entry in files.entries(ROOT_INODE)}


@contextmanager
def refused(number: int) -> Iterator[None]:
    with pytest.raises(Refused) as caught:
        yield
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]


# -- who may ---------------------------------------------------------------------------------------


def test_several_write_and_see_each_other_at_once(stores: Scratch) -> None:
    with stores.written("one") as one, stores.written("two") as two:
        make(one, b"a")
        make(two, b"b")
        assert names(one) == names(two) == {b"a", b"b"}
        assert len(stores.records(JOINED)) == 2
        assert names(two) == {b"a", b"b"}
    assert stores.records(WRITER) == {}
    assert inconsistencies(one.state) == []


def test_the_first_that_leaves_takes_nothing_from_the_others(stores: Scratch) -> None:
    with stores.written("one") as one:
        with stores.written("two") as two:
            make(two, b"b")
        make(one, b"a")
        assert len(stores.records(JOINED)) == 1
        assert "shared" in json.loads(stores.records(WRITER)[WRITER])


def test_all_share_or_nobody_does(stores: Scratch) -> None:
    def refuses(*begin: Callable[[], object]) -> None:
        pattern = f"process {os.getpid()} is writing to the volume: unmount it there first"
        for each in begin:
            with pytest.raises(AlreadyExists, match=pattern):
                each()

    with stores.written("one") as one:
        with Volume(stores.config(shared=False)) as alone:
            refuses(alone.check_writer, lambda: alone.begin_writing("two"))
        with Volume(stores.config()) as other:
            other.check_writer()
            refuses(
                lambda: other.check_writer(alone=True),
                lambda: other.claim_writing("fsck"),
                lambda: check(other, print),
            )
        make(one, b"a")
    with stores.written("alone", shared=False) as alone, Volume(stores.config()) as other:
        refuses(other.check_writer, lambda: other.begin_writing("two"))
        make(alone, b"b")
    with stores.written("one") as one:
        assert names(one) == {b"a", b"b"}


def test_one_mount_has_one_process(stores: Scratch) -> None:
    with stores.written("one") as one:
        with pytest.raises(AlreadyExists), stores.written("one"):
            pass
        make(one, b"a")


@pytest.mark.parametrize("first", ["alone", "shares"])
def test_one_that_wants_it_alone_and_one_that_joins_at_the_same_moment(
    stores: Scratch, first: str
) -> None:
    """Both have seen that nobody is in the way; one of them is."""
    with Volume(stores.config()) as volume, Volume(stores.config(shared=False)) as alone:
        slow, quick = (volume, alone) if first == "alone" else (alone, volume)

        class Slow(KVLayer):
            def commit(self, batch: Batch, durability: Durability) -> None:
                if WRITER in batch.puts and quick._writing is None:
                    quick.begin_writing("quick")
                self.inner.commit(batch, durability)

        slow.state.driver = Slow(slow.state.driver)
        with pytest.raises(AlreadyExists):
            slow.begin_writing("slow")
        make(quick, b"a")


def test_the_dead_are_in_nobodys_way(stores: Scratch, dead: str) -> None:
    with stores.written("one"):
        for name in (b"x", b"y"):
            stores.put(JOINED + name, claim_of(dead))
        with stores.written("two") as two:
            sharing(two).remove_dead()
            assert len(stores.records(JOINED)) == 2
    stores.put(WRITER, b'{"shared": "x"}')
    stores.put(JOINED + b"x", claim_of(dead))
    with stores.written("alone", shared=False) as alone:
        assert [*stores.records(WRITER)] == [WRITER]
        make(alone, b"a")
    stores.put(WRITER, claim_of(dead))
    with stores.written("one") as one:
        assert names(one) == {b"a"}


@pytest.mark.parametrize(
    ("capability", "pattern"),
    [
        (CAPABILITY, "needs an engine that a server keeps"),
        (attrs.evolve(SERVED, thread_safe=False), "several threads"),
    ],
)
def test_an_engine_that_will_not_do(capability: KVCapability, pattern: str) -> None:
    with pytest.raises(Unsupported, match=pattern), Scratch(capability=capability).written("one"):
        pass


def test_tarballs_are_not_written_to_by_several() -> None:
    config = Stores(capability=SERVED).config({"volume": {"shared": True, "writable": True}})
    with pytest.raises(Unsupported, match="exclude each other"):
        Volume(config)


def test_two_that_open_a_new_volume_at_the_same_moment(stores: Scratch) -> None:
    """What one has done already is not undone by the other, which makes the same root."""

    class First(KVLayer):
        def commit(self, batch: Batch, durability: Durability) -> None:
            if inode_key(ROOT_INODE) in batch.puts and stores.state.get(WRITER) is None:
                stores.around_kv = lambda driver, store: driver
                with stores.written("one") as one, closing(files_of(one)) as files:
                    files.mkdir(ROOT_INODE, b"a", 0o755, Caller())
            self.inner.commit(batch, durability)

    stores.around_kv = lambda driver, store: First(driver)
    with Volume(stores.config()) as other:
        assert inconsistencies(other.state) == []
        with closing(other.files(wait=True)) as files:
            assert files.stat(ROOT_INODE).nlink == 3


# -- who is shut out -------------------------------------------------------------------------------


def shut_out(stores: Scratch, volume: Volume) -> bytes:
    """Have a volume be taken for dead; the name that it had."""
    claim = sharing(volume).claim
    stores.state.commit(Batch().delete(claim.key), Durability.MEMORY)
    return claim.name


def test_who_was_taken_for_dead_joins_again(
    stores: Scratch, caplog: pytest.LogCaptureFixture
) -> None:
    with stores.written("one") as one, stores.written("two") as two:
        inode = make(one, b"a")
        before = shut_out(stores, one)
        with closing(files_of(one)) as files:
            files.write(inode, 0, b"data")
            assert b"".join(files.read(inode, 0, 10)) == b"data"
        assert "took it for dead" in caplog.text
        assert sharing(one).claim.name not in (before, sharing(two).claim.name)
        assert len(stores.records(JOINED)) == 2
    assert stores.records(WRITER) == {}


def test_who_was_taken_for_dead_does_nothing_while_another_writes_alone(
    stores: Scratch, caplog: pytest.LogCaptureFixture
) -> None:
    with stores.written("one") as one:
        make(one, b"a")
        shut_out(stores, one)
        with stores.written("alone", shared=False) as alone:
            for _ in range(2):
                with pytest.raises(Unavailable, match="writes to the volume alone"):
                    make(one, b"b")
            make(alone, b"c")
        make(one, b"d")
        assert names(one) == {b"a", b"c", b"d"}
    assert caplog.text.count("took it for dead") == 3


def test_a_successor_of_the_same_mount_goes_on_in_its_place(stores: Scratch, dead: str) -> None:
    with stores.written("one") as one:
        inode = make(one, b"a", LARGE)
        with closing(files_of(one)) as files:
            files.unlink(ROOT_INODE, b"a")
        claim = sharing(one).claim
        stores.put(claim.key, claim_of(dead, "one"))
        with stores.written("one") as successor, closing(files_of(successor)) as files:
            assert sharing(successor).claim.name == claim.name
            assert b"".join(files.read(inode, 0, len(LARGE))) == LARGE
            other = make(successor, b"b")
            files.unlink(ROOT_INODE, b"b")  # it may be in use: nobody knows how long
            assert stores.state.get(unlinked_key(other)) == claim.name
            files.forget(inode, 1)
            assert stores.state.get(unlinked_key(inode)) is None
        stores.put(claim.key, claim.record)


def test_after_the_end_nothing_is_taken(stores: Scratch) -> None:
    with stores.written("one") as volume:
        make(volume, b"a")
        kept = sharing(volume)
    with pytest.raises(Closed):
        kept.store.put(b"key", b"value")
    kept.close()
    assert stores.records(WRITER) == {}


# -- what has no name any more ---------------------------------------------------------------------


def test_an_unlinked_file_belongs_to_who_removed_its_name(stores: Scratch) -> None:
    with stores.written("one") as one, stores.written("two") as two:
        inode = make(one, b"a", LARGE)
        with closing(files_of(one)) as ours, closing(files_of(two)) as theirs:
            theirs.lookup(ROOT_INODE, b"a")
            ours.unlink(ROOT_INODE, b"a")
            assert stores.state.get(unlinked_key(inode)) == sharing(one).claim.name
            theirs.forget(inode, 1)
            two._reclaim(sharing(two))
            with stores.written("three"):
                pass
            assert b"".join(ours.read(inode, 0, len(LARGE))) == LARGE
            ours.forget(inode, 1)
        assert not [key for key in stores.records(b"") if inode.to_bytes(8, "big") in key]


def test_what_another_removed_is_stale(stores: Scratch) -> None:
    with stores.written("one") as one, stores.written("two") as two:
        inode = make(one, b"a", LARGE)
        with closing(files_of(two)) as theirs:
            theirs.unlink(ROOT_INODE, b"a")
        with closing(files_of(one)) as files:
            calls: list[Callable[[], object]] = [
                lambda: files.read(inode, 0, 10),
                lambda: files.getattr(inode),
                lambda: files.write(inode, 0, b"x"),
                lambda: files.setattr(inode, Changes(mode=0o600)),
                lambda: files.link(inode, ROOT_INODE, b"b"),
            ]
            for call in calls:
                with refused(errno.ESTALE):
                    call()
            files.forget(inode, 1)
    assert not [key for key in stores.records(b"") if inode.to_bytes(8, "big") in key]


@pytest.mark.parametrize("who", ["who begins", "who tidies up", "who writes alone"])
def test_what_a_dead_writer_had_in_use_is_removed(stores: Scratch, dead: str, who: str) -> None:
    with stores.written("one") as one, stores.written("two") as two:
        inode = make(one, b"a", LARGE)
        with closing(files_of(one)) as files:
            files.unlink(ROOT_INODE, b"a")
        claim = sharing(one).claim
        stores.put(claim.key, claim_of(dead))
        if who == "who tidies up":
            sharing(two).remove_dead()
            two._reclaim(sharing(two))
        else:
            two.close()
            stores.put(unlinked_key(inode), claim.name)
            with stores.written("three", shared=who == "who begins") as three:
                if three.is_shared:
                    sharing(three).remove_dead()
                    three._reclaim(sharing(three))
        assert not [key for key in stores.records(b"") if inode.to_bytes(8, "big") in key]
        with closing(files_of(one)) as files, refused(errno.ESTALE):
            files.read(inode, 0, 1)


# -- what is acknowledged, and believed ------------------------------------------------------------


@pytest.mark.parametrize("durability", Durability)
def test_each_change_is_in_the_engine_at_what_the_volume_promises(
    stores: Scratch, durability: Durability
) -> None:
    asked: list[Durability] = []

    class Levels(KVLayer):
        def commit(self, batch: Batch, level: Durability) -> None:
            if inode_key(ROOT_INODE) in batch.puts:
                asked.append(level)
            self.inner.commit(batch, level)

    stores.around_kv = lambda driver, store: Levels(driver)
    with stores.written("one", durability=durability.name.lower()) as volume:
        asked.clear()
        inode = make(volume, b"a")
        assert stores.state.get(inode_key(inode)) is not None
        with closing(files_of(volume)) as files:
            files.sync(inode)
    assert asked == [durability]


@pytest.mark.parametrize("shared", [True, False])
def test_the_kernel_believes_nothing_that_others_may_change(stores: Scratch, shared: bool) -> None:
    with stores.written("one", shared=shared) as volume, closing(files_of(volume)) as files:
        inode = make(volume, b"a")
        listed = b"".join(files.readdir(ROOT_INODE, 2, 4096, True))
        made = files.mkdir(ROOT_INODE, b"b", 0o755, Caller())
        entries = [
            files.lookup(ROOT_INODE, b"a"),
            listed,
            made,
            files.link(inode, ROOT_INODE, b"c"),
        ]
        valid_s = 0 if shared else 1
        for entry in entries:
            assert entry is not None
            assert ENTRY.unpack_from(entry)[2:] == (valid_s, valid_s, 0, 0)
        changed = files.setattr(inode, Changes(mode=0o600))
        for attributes in (files.getattr(inode), files.getattr(ROOT_INODE), changed):
            assert VALIDITY.unpack_from(attributes) == (valid_s, 0, 0)


def test_what_is_appended_goes_to_the_end_that_there_is(stores: Scratch) -> None:
    with stores.written("one") as one, stores.written("two") as two:
        inode = make(one, b"a", b"one")
        with closing(files_of(two)) as files:
            files.write(inode, None, b"two")
        with closing(files_of(one)) as files:
            files.write(inode, None, LARGE)
            assert b"".join(files.read(inode, 0, 1 << 20)) == b"onetwo" + LARGE


class Present(ViewLayer):
    """A view that shows what there is at each read, as some engines have them."""

    def __init__(self, driver: Live) -> None:
        super().__init__(cast(ReadView, driver.inner))
        self._driver = driver

    def get_many(self, keys: object) -> list[Buffer | None]:
        self._driver.between()
        return [self._driver.inner.get(key) for key in cast("list[bytes]", keys)]

    def refresh(self) -> None:
        pass

    def close(self) -> None:
        pass


class Live(KVLayer):
    """An engine without snapshots."""

    def __init__(self, inner: KVDriver) -> None:
        super().__init__(inner)
        self.capability = attrs.evolve(inner.capability, snapshot=False)
        self.between: Callable[[], None] = lambda: None
        """Called between the reads of an inode and of its contents."""

    def snapshot(self) -> ReadView:
        return Present(self)


def test_who_reads_what_another_removes_is_not_given_zeros(stores: Scratch) -> None:
    lives: list[Live] = []

    def around(driver: KVDriver, store: str) -> KVDriver:
        lives.append(Live(driver))
        return lives[-1]

    with stores.written("one") as one:
        inode = make(one, b"a", LARGE)
        stores.around_kv = around
        with stores.written("two") as two, closing(files_of(two)) as files:

            def cut_off() -> None:
                lives[0].between = lambda: None
                with closing(files_of(one)) as ours:
                    ours.setattr(inode, Changes(size=0))

            def remove() -> None:
                lives[0].between = lambda: None
                with closing(files_of(one)) as ours:
                    ours.unlink(ROOT_INODE, b"a")
                    ours.forget(inode, 1)

            lives[0].between = cut_off
            assert b"".join(files.read(inode, 0, len(LARGE))) == b""
            files.write(inode, 0, LARGE)
            lives[0].between = remove
            with refused(errno.ESTALE):
                files.read(inode, 0, len(LARGE))


# -- inode numbers ---------------------------------------------------------------------------------


def test_no_number_is_given_out_twice(stores: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_NUMBERS_AT_ONCE", 64)
    with stores.written("one") as one, stores.written("two") as two:
        numbers = [sharing(each).new_inode(0) for _ in range(200) for each in (one, two)]
    assert len({*numbers}) == 400


def test_two_that_claim_numbers_at_the_same_moment(stores: Scratch) -> None:
    taken: list[int] = []
    with stores.written("two") as two, Volume(stores.config()) as one:

        class First(KVLayer):
            def commit(self, batch: Batch, durability: Durability) -> None:
                if NEXT in batch.puts and not taken:
                    taken.append(sharing(two).new_inode(0))
                self.inner.commit(batch, durability)

        one.state.driver = First(one.state.driver)
        one.begin_writing("one")
        assert sharing(one).new_inode(0) >> 16 != taken[0] >> 16


def test_holders_are_named(stores: Scratch) -> None:
    with stores.written("one"):
        [record] = stores.records(JOINED).values()
        assert json.loads(record) == {"holder": holders.myself(), "mount": "one"}

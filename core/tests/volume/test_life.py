"""The life of a tarball: who waits for what, and what is left when something goes wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import BinaryIO

import attrs
import pytest

from kvfs.errors import Closed, KVFSError, NotFound, Stale, Unavailable
from kvfs.files.records import dirent_key, inode_of
from kvfs.tarballs import holders, service
from kvfs.tarballs.catalogue import State
from kvfs.tarballs.report import IngestReport
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

FILES = {b"%03d" % number: b"%d" % number * 500 for number in range(200)}
DATA = archive(FILES)
HALF = len(DATA) // 2


@pytest.fixture
def stores() -> WatchedStores:
    stores = WatchedStores()
    stores.backing.write("t.tar", DATA)
    return stores


@pytest.fixture
def run() -> Iterator[Callable[..., Future[object]]]:
    """Runs a function in a thread of its own."""
    with ThreadPoolExecutor(64) as pool:
        yield pool.submit


Run = Callable[..., Future[object]]


def read(volume: Volume, path: bytes) -> bytes:
    files = volume.files(wait=True)
    return b"".join(files.read(files.open_path(path).inode, 0, 1 << 20))


def waiting(volume: Volume, monkeypatch: pytest.MonkeyPatch, count: int = 1) -> Event:
    """Set when so many calls of this volume have begun to wait for a tarball."""
    event, wait, seen = Event(), volume.tarballs.wait, [0]

    def spy(tarball: int, progress: int) -> None:
        seen[0] += 1
        if seen[0] >= count:
            event.set()
        wait(tarball, progress)

    monkeypatch.setattr(volume.tarballs, "wait", spy)
    return event


# -- who waits for what --------------------------------------------------------------------------


def test_one_ingest_however_many_ask(
    stores: WatchedStores, open_volume: OpenVolume, run: Run
) -> None:
    volume = open_volume()
    assert stores.watched.readers == 0
    together = Barrier(16)

    def ask(number: int) -> bytes:
        together.wait(PATIENCE_S)
        return read(volume, b"t/%03d" % (number * 7))

    answers = [run(ask, number) for number in range(16)]
    for number, answer in enumerate(answers):
        assert answer.result(PATIENCE_S) == FILES[b"%03d" % (number * 7)]
    assert stores.watched.readers == 1


def test_early_members_do_not_wait_for_the_last(
    stores: WatchedStores, open_volume: OpenVolume, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.watched.arm(HALF)
    volume = open_volume()
    assert run(read, volume, b"t/000").result(PATIENCE_S) == FILES[b"000"]
    assert run(read, volume, b"t/050").result(PATIENCE_S) == FILES[b"050"]
    assert stores.watched.reached.wait(PATIENCE_S)
    # Attributes are not for keeping yet, and what has not come yet is not said to be missing.
    files = volume.files(wait=False)
    parent = inode_of(number_of(volume, "t.tar"), 1)
    assert bytes(files.lookup(parent, b"000") or b"")[16:40] == bytes(24)
    with pytest.raises(KVFSError, match="has to be fetched first"):
        files.lookup(parent, b"199")
    begun = waiting(volume, monkeypatch, 3)
    listing = run(lambda: [entry.name for entry in volume.files(wait=True).entries(parent)])
    late = run(read, volume, b"t/199")
    absent = run(read, volume, b"t/nothing")
    assert begun.wait(PATIENCE_S)
    assert not any(future.done() for future in (listing, late, absent))
    stores.watched.let_go()
    assert sorted(listing.result(PATIENCE_S)) == sorted(FILES)  # type: ignore[call-overload]
    assert late.result(PATIENCE_S) == FILES[b"199"]
    with pytest.raises(NotFound):
        absent.result(PATIENCE_S)
    assert stores.watched.readers == 1
    assert bytes(volume.files(wait=False).lookup(parent, b"000") or b"")[16:40] != bytes(24)


def test_two_volumes_over_one_store(
    stores: WatchedStores, open_volume: OpenVolume, run: Run
) -> None:
    """As two processes: one ingests, the other is served as the records come."""
    stores.watched.arm(HALF)
    one, other = open_volume(), open_volume()
    assert run(read, one, b"t/000").result(PATIENCE_S) == FILES[b"000"]
    assert run(read, other, b"t/050").result(PATIENCE_S) == FILES[b"050"]
    late = run(read, other, b"t/199")
    stores.watched.let_go()
    assert late.result(PATIENCE_S) == FILES[b"199"]
    assert read(one, b"t/198") == FILES[b"198"]
    assert stores.watched.readers == 1


def test_many_tarballs_at_once(stores: WatchedStores, open_volume: OpenVolume, run: Run) -> None:
    for number in range(20):
        stores.backing.write(f"{number}.tar", archive({b"f": b"%d" % number}))
    volume = open_volume(tables={"ingest": {"workers": 3}})
    answers = [run(read, volume, b"%d/f" % number) for number in range(20)]
    assert [answer.result(PATIENCE_S) for answer in answers] == [b"%d" % n for n in range(20)]
    assert stores.watched.readers == 20


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_store_that_fails_in_the_middle(
    stores: WatchedStores, open_volume: OpenVolume, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.watched.arm(HALF)
    volume = open_volume()
    begun = waiting(volume, monkeypatch, 4)
    answers = [run(read, volume, b"t/19%d" % number) for number in range(4)]
    assert begun.wait(PATIENCE_S)
    assert stores.watched.reached.wait(PATIENCE_S)
    stores.watched.let_go(Unavailable("the network is gone"))
    for answer in answers:
        with pytest.raises(Unavailable, match="the network is gone"):
            answer.result(PATIENCE_S)
    assert states(volume) == {"t.tar": State.ABSENT}
    assert sealed_records(stores) == 0
    assert [*violations(volume)] == []
    # Who asks again soon is told the same, and the store is not asked.
    stores.watched.arm(None)
    with pytest.raises(Unavailable, match="the network is gone"):
        read(volume, b"t/000")
    assert stores.watched.readers == 1
    monkeypatch.setattr(service, "RETRY_AFTER_S", -1.0)
    assert read(volume, b"t/000") == FILES[b"000"]
    assert stores.watched.readers == 2


def test_an_object_that_changes_before_it_is_read(
    stores: WatchedStores, open_volume: OpenVolume
) -> None:
    volume = open_volume()
    stores.backing.write("t.tar", archive({b"new": b"other"}))
    assert contents(volume, b"t") == {b"new": b"other"}


def test_an_object_that_changes_while_it_is_read(
    stores: WatchedStores, open_volume: OpenVolume, run: Run
) -> None:
    """It is read anew, and those who wait for it get the later version."""
    stores.watched.arm(HALF)
    volume = open_volume()
    answer = run(volume.tarballs.fetch, number_of(volume, "t.tar"))
    assert stores.watched.reached.wait(PATIENCE_S)
    stores.backing.write("t.tar", archive({b"new": b"other"}))
    stores.watched.let_go()
    report = answer.result(PATIENCE_S)
    assert isinstance(report, IngestReport)
    assert report.files == 1
    assert contents(volume, b"t") == {b"new": b"other"}
    assert stores.watched.readers == 2
    assert volume.refresh().replaced == 0


def test_an_object_that_changes_each_time_it_is_read(
    stores: WatchedStores, open_volume: OpenVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = open_volume()
    opened = stores.watched.open_reader

    def open_reader(name: str, start: int = 0) -> BinaryIO:
        stream = opened(name, start)
        stores.backing.write(name, archive({b"%d" % stores.watched.readers: b""}))
        return stream

    monkeypatch.setattr(stores.watched, "open_reader", open_reader)
    with pytest.raises(Unavailable, match="changed while it was read"):
        read(volume, b"t/000")
    assert stores.watched.readers == service.CHANGES_MAX + 1
    assert sealed_records(stores) == 0


def test_an_object_that_vanishes(stores: WatchedStores, open_volume: OpenVolume) -> None:
    volume = open_volume()
    stores.backing.delete("t.tar")
    with pytest.raises(Unavailable, match="is gone from the store"):
        read(volume, b"t/000")
    assert volume.refresh().removed == 1
    assert contents(volume) == {}


def test_close_stops_an_ingest(
    stores: WatchedStores, open_volume: OpenVolume, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.watched.arm(HALF)
    volume = stores.volume()
    begun = waiting(volume, monkeypatch, 2)
    answers = [run(read, volume, b"t/199"), run(contents, volume, b"t")]
    assert begun.wait(PATIENCE_S)
    assert stores.watched.reached.wait(PATIENCE_S)
    cancelled = volume.tarballs._cancel
    closing = run(volume.close)
    assert cancelled.wait(PATIENCE_S)
    stores.watched.let_go()
    closing.result(PATIENCE_S)
    for answer in answers:
        with pytest.raises(Closed):
            answer.result(PATIENCE_S)
    assert sealed_records(stores) == 0
    stores.watched.arm(None)
    again = open_volume(refresh=False)
    assert states(again) == {"t.tar": State.ABSENT}
    assert read(again, b"t/199") == FILES[b"199"]


def test_close_is_final_and_may_be_repeated(stores: WatchedStores) -> None:
    volume = stores.volume()
    files = volume.files(wait=True)
    volume.close()
    volume.close()
    assert volume.is_closed
    with pytest.raises(Closed):
        volume.tarballs.start(1)
    del files


def test_a_hook_that_fails_harms_nobody(
    stores: WatchedStores, open_volume: OpenVolume, caplog: pytest.LogCaptureFixture
) -> None:
    from kvfs.hooks import hookimpl

    class Clumsy:
        @hookimpl
        def kvfs_on_ingest(self, volume: Volume, report: object) -> None:
            raise RuntimeError("oops")

    volume = open_volume()
    volume.hooks.register(Clumsy())
    assert read(volume, b"t/000") == FILES[b"000"]
    volume.close()
    assert "a hook failed" in caplog.text


def test_object_that_is_another_one_by_now_is_read_anew(
    stores: WatchedStores, open_volume: OpenVolume, run: Run
) -> None:
    """A store that keeps no old versions says so in the middle of a read."""
    stores.watched.arm(HALF)
    volume = open_volume()
    answer = run(contents, volume, b"t")
    assert stores.watched.reached.wait(PATIENCE_S)
    stores.watched.gate_at = None
    stores.watched.let_go(Stale("t.tar was replaced"))
    assert answer.result(PATIENCE_S) == FILES
    assert stores.watched.readers == 2


# -- whose ingest it is --------------------------------------------------------------------------


def left_ingesting(stores: WatchedStores, volume: Volume, holder: str) -> int:
    """Make it look as if that holder had left an ingest half done."""
    number = number_of(volume, "t.tar")
    record = volume.tarballs.catalogue.get(number)
    assert record is not None
    claimed = attrs.evolve(record, state=State.INGESTING, holder=holder)
    volume.tarballs.catalogue.change(number, record, claimed)
    for slot in range(16, 40):
        volume.sealed.put(dirent_key(inode_of(number, 1), slot), b"what somebody left")
    return number


def holder_of(pid: int) -> str:
    start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{holders.boot_id()}/{pid}/{start}"


def test_holders() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        holder = holder_of(process.pid)
        assert holders.pid_of(holder) == process.pid
        assert holders.is_alive(holder)
        assert not holders.is_alive(holder + "0")  # another process of the same id
        assert not holders.is_alive("another-boot" + holder[holder.index("/") :])
        # An undertaking of another process lives as long as that.
        assert holders.is_alive(holder + "/7")
        process.kill()
    assert not holders.is_alive(holder)
    assert not holders.is_alive("")
    assert not holders.is_alive("nonsense/nonsense/nonsense")
    assert holders.is_alive(holders.myself())
    with holders.undertaking() as one, holders.undertaking() as other:
        assert one != other
        assert holders.is_alive(one)
    assert not holders.is_alive(one)


def test_what_a_dead_process_left_is_taken_over(
    stores: WatchedStores, open_volume: OpenVolume
) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        holder = holder_of(process.pid)
        process.kill()
    volume = open_volume()
    left_ingesting(stores, volume, holder)
    assert contents(volume, b"t") == FILES


def test_what_a_dead_process_left_is_rolled_back_by_the_next_refresh(
    stores: WatchedStores, open_volume: OpenVolume
) -> None:
    volume = open_volume()
    for holder in ("another-boot/1/2", f"{holders.myself()}/0"):
        left_ingesting(stores, volume, holder)
        volume.refresh()
        assert states(volume) == {"t.tar": State.ABSENT}
        assert sealed_records(stores) == 0


def test_records_of_one_that_was_taken_for_dead_do_not_stay(
    stores: WatchedStores, open_volume: OpenVolume
) -> None:
    """It wrote on after it had been rolled back; the next ingest begins with nothing."""
    volume = open_volume()
    number = left_ingesting(stores, volume, "another-boot/1/2")
    record = volume.tarballs.catalogue.get(number)
    assert record is not None
    volume.tarballs.catalogue.change(number, record, record.forgotten())
    assert sealed_records(stores) == 24
    assert contents(volume, b"t") == FILES


def test_a_live_process_is_waited_for_until_it_dies(
    stores: WatchedStores, open_volume: OpenVolume, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = open_volume()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        left_ingesting(stores, volume, holder_of(process.pid))
        assert volume.refresh().deferred == 0
        assert states(volume) == {"t.tar": State.INGESTING}
        begun = waiting(volume, monkeypatch, 2)
        answer = run(read, volume, b"t/000")
        assert begun.wait(PATIENCE_S)
        assert not answer.done()
        assert stores.watched.readers == 0
        process.kill()
    assert answer.result(PATIENCE_S) == FILES[b"000"]


def test_of_many_who_find_a_dead_ones_work_one_goes_on(
    stores: WatchedStores, open_volume: OpenVolume, run: Run
) -> None:
    volumes = [open_volume() for _ in range(4)]
    left_ingesting(stores, volumes[0], "another-boot/1/2")
    answers = [run(contents, volume, b"t") for volume in volumes for _ in range(2)]
    for answer in answers:
        assert answer.result(PATIENCE_S) == FILES
    assert stores.watched.readers == 1


# -- power ---------------------------------------------------------------------------------------


def test_after_a_power_cut_the_sealed_store_is_not_believed(
    stores: WatchedStores, open_volume: OpenVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stores.volume()
    assert contents(before, b"t") == FILES
    assert [*stores.kv] == ["state", "sealed-1"]
    monkeypatch.setattr(holders, "boot_id", lambda: "the next boot")
    after = open_volume()
    assert [*stores.kv] == ["state", "sealed-2"]
    assert states(after) == {"t.tar": State.ABSENT}
    assert contents(after, b"t") == FILES
    assert stores.watched.readers == 2
    # That has been dealt with: who opens it next in this boot finds it as it is.
    assert states(open_volume()) == {"t.tar": State.SEALED}


def test_after_a_clean_stop_the_sealed_store_is_kept(
    stores: WatchedStores, open_volume: OpenVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stores.volume() as before:
        assert contents(before, b"t") == FILES
    monkeypatch.setattr(holders, "boot_id", lambda: "the next boot")
    after = open_volume()
    assert states(after) == {"t.tar": State.SEALED}
    assert contents(after, b"t") == FILES
    assert stores.watched.readers == 1


def test_a_killed_process_of_this_boot_is_no_power_cut(
    stores: WatchedStores, open_volume: OpenVolume
) -> None:
    volume = open_volume()
    assert contents(volume, b"t") == FILES
    volume.state.put(b"Vsession/of-a-killed-one", f"{holders.boot_id()}/4194305/1".encode())
    again = open_volume()
    assert states(again) == {"t.tar": State.SEALED}
    assert volume.sessions.others_alive() == again.sessions.others_alive() != []


def test_the_record_of_a_session_that_did_not_come_to_be_is_taken_away(
    stores: WatchedStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.volume().close()
    opened = stores._open_kv

    def fails(settings: object, *, store: str, durability: object) -> object:
        if store.startswith("sealed"):
            raise Unavailable("no such disk")
        return opened(settings, store=store, durability=durability)  # type: ignore[arg-type]

    monkeypatch.setattr(stores, "_open_kv", fails)
    with pytest.raises(Unavailable):
        stores.volume()
    assert [*stores.kv["state"].scan(b"Vsession", b"Vsessiox")] == []


def test_volumes_made_at_once_are_one_volume(stores: WatchedStores, run: Run) -> None:
    together = Barrier(8)

    def make() -> Volume:
        together.wait(PATIENCE_S)
        return stores.volume()

    volumes = [run(make) for _ in range(8)]
    made: list[Volume] = [volume.result(PATIENCE_S) for volume in volumes]  # type: ignore[misc]
    assert len({volume.superblock.uuid for volume in made}) == 1
    for volume in made:
        assert contents(volume, b"t") == FILES
    assert [*violations(made[0])] == []
    assert stores.watched.readers == 1
    for volume in made:
        volume.close()

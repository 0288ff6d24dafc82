"""Writing inside tarballs: power cuts, other processes, several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import attrs
import pytest

from kvfs.errors import AlreadyExists, Unavailable
from kvfs.files import Caller, NotResident
from kvfs.files.files import VIEW_CALLS_MAX
from kvfs.tarballs import holders, service
from kvfs.tarballs.catalogue import CHANGED_UNDER, State
from kvfs.volume import Volume
from kvfs.volume import volume as volumes

from .support import PATIENCE_S, archive, number_of
from .written_support import (
    CHANGED,
    DATA,
    DURABLE,
    FILES,
    Written,
    change,
    flush,
    record_of,
    tree,
    tree_of,
    writable,
)

HALF = len(DATA) // 2
OTHER = archive({b"other": b"another"})

Run = Callable[..., Future[object]]


@pytest.fixture
def stores() -> Written:
    return Written()


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a function in a thread of its own."""
    with ThreadPoolExecutor(16) as pool:
        yield pool.submit


# -- power -----------------------------------------------------------------------------------------


@pytest.fixture
def cut(stores: Written, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Cuts the power while a volume is open whose tarball was written to."""
    monkeypatch.setattr(service, "RETRY_AFTER_S", -1.0)

    def cut() -> None:
        with stores.writing() as volume:
            change(volume)
        stores.volume()  # never closed
        monkeypatch.setattr(holders, "boot_id", lambda: "the next boot")
        stores.watched.readers = 0

    return cut


@pytest.mark.parametrize("writes", [False, True])
def test_after_a_power_cut_it_is_fetched_anew_below_the_changes(
    stores: Written, cut: Callable[[], None], writes: bool
) -> None:
    cut()
    with stores.writing() if writes else stores.volume() as volume:
        assert [*stores.kv] == ["state", "sealed-2"]
        assert record_of(volume) == (State.ABSENT, True)
        with closing(volume.files(wait=True)) as files:
            top = files.open_path(b"t")
            assert tree(volume) == CHANGED
            assert files.open_path(b"t") == files.stat(top.inode) == top
        assert record_of(volume) == (State.SEALED, True)
        assert stores.watched.readers == 1
        if writes:
            with writable(volume) as files:
                files.unlink(files.open_path(b"t").inode, b"made")
            assert tree(volume) == {k: v for k, v in CHANGED.items() if k != b"made"}


def test_nothing_of_it_is_shown_before_it_is_whole_again(
    stores: Written, cut: Callable[[], None], run: Run
) -> None:
    """What arrives may be what was changed or removed."""
    with stores.volume() as volume, closing(volume.files(wait=True)) as files:
        top, changed = files.open_path(b"t").inode, files.open_path(b"t/003").inode
    cut()
    stores.watched.arm(HALF)
    with stores.volume() as reader, stores.writing() as writer:
        fetched = run(reader.tarballs.fetch, number_of(reader, "t.tar"))
        assert stores.watched.reached.wait(PATIENCE_S)
        for volume in (reader, writer):
            with closing(volume.files(wait=False)) as files:
                assert files.open_path(b"t").inode == top
                for look in (
                    lambda: files.lookup(top, b"003"),
                    lambda: files.lookup(top, b"004"),
                    lambda: files.lookup(top, b"made"),
                    lambda: files.read(changed, 0, 3),
                    lambda: files.getattr(changed),
                    lambda: files.readdir(top, 0, 4096, True),
                    lambda: files.path_of(changed),
                ):
                    with pytest.raises(NotResident):
                        look()
        waits = run(tree, reader)
        stores.watched.let_go()
        assert waits.result(PATIENCE_S) == CHANGED
        fetched.result(PATIENCE_S)
        assert tree(writer) == CHANGED


@pytest.mark.parametrize("becomes", [OTHER, None])
def test_an_object_that_changed_before_it_is_fetched_anew(
    stores: Written, cut: Callable[[], None], becomes: bytes | None
) -> None:
    """That is said, and nothing is lost: with the old object all is as it was."""
    cut()
    if becomes is None:
        stores.backing.delete("t.tar")
    else:
        stores.backing.write("t.tar", becomes)
    with stores.writing() as volume:
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                tree(volume)
            assert (CHANGED_UNDER if becomes else "t.tar is gone") in str(caught.value)
            with pytest.raises(Unavailable):
                change(volume)
            assert volume.refresh().deferred == 1
            assert record_of(volume) == (State.ABSENT, True)
        stores.backing.write("t.tar", DATA)
        assert volume.refresh().deferred == 0
        assert tree(volume) == CHANGED


def test_an_object_that_changes_while_it_is_fetched_anew(
    stores: Written, cut: Callable[[], None], run: Run
) -> None:
    cut()
    stores.watched.arm(HALF)
    with stores.writing() as volume:
        waits = run(tree, volume)
        assert stores.watched.reached.wait(PATIENCE_S)
        stores.backing.write("t.tar", OTHER)
        stores.watched.let_go()
        with pytest.raises(Unavailable, match=CHANGED_UNDER):
            waits.result(PATIENCE_S)
        stores.watched.arm(None)
        stores.backing.write("t.tar", DATA)
        assert tree(volume) == CHANGED


# -- threads and processes -------------------------------------------------------------------------


def test_threads_that_write_first_at_once(stores: Written, run: Run) -> None:
    """It is fetched once, all of them write, and none writes before what was read ahead is gone."""
    together = Barrier(8)
    settled: list[int] = []
    table = {"volume": {"writable": True}}

    def write(volume: Volume, number: int) -> None:
        with writable(volume) as files:
            top = files.open_path(b"t").inode
            together.wait(PATIENCE_S)
            files.mkdir(top, b"d%d" % number, 0o755, Caller())
            assert settled
            files.write(files.open_path(b"t/%03d" % number).inode, 0, b"NEW")

    with stores.volume(table) as volume:
        volume.begin_writing("mount", before_first=lambda: settled.append(1))
        for future in [run(write, volume, number) for number in range(8)]:
            future.result(PATIENCE_S)
        assert stores.watched.readers == 1
        with closing(volume.files(wait=True)) as files:
            top = files.stat(files.open_path(b"t").inode)
            assert top.nlink == 2 + 8
            made = {files.open_path(b"t/d%d" % number).inode for number in range(8)}
            assert len(made) == 8
            for number in range(8):
                inode = files.open_path(b"t/%03d" % number).inode
                assert b"".join(files.read(inode, 0, 3)) == b"NEW"


def test_a_second_process_does_not_write(stores: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "WRITER_PATIENCE_S", 0.0)
    with stores.writing() as first, stores.volume({"volume": {"writable": True}}) as second:
        change(first)
        with pytest.raises(AlreadyExists, match=f"process {os.getpid()} is writing"):
            second.begin_writing("another")
        change_again(first)
        flush(first)
        assert tree(second) == tree(first)


def change_again(volume: Volume) -> None:
    with writable(volume) as files:
        files.unlink(files.open_path(b"t").inode, b"005")


@pytest.mark.parametrize("snapshot", [True, False])
def test_a_reader_beside_the_writer(stores: Written, snapshot: bool) -> None:
    """Sees what was committed: of the tarball as it was, or of all that was changed."""
    stores.capability = attrs.evolve(DURABLE, snapshot=snapshot)
    with (
        stores.writing() as writer,
        stores.volume() as reader,
        closing(reader.files(wait=True)) as files,
    ):
        assert tree_of(files) == FILES
        change(writer)  # is queued
        assert tree(writer) == CHANGED
        assert tree_of(files) == FILES
        flush(writer)
        assert tree(reader) == CHANGED
        # Who has looked before may see what was then for some calls more, and nothing between.
        inode = files.open_path(b"t/003").inode
        seen = [b"".join(files.read(inode, 0, 1 << 20)) for _ in range(VIEW_CALLS_MAX + 1)]
        assert {*seen} <= {FILES[b"003"], CHANGED[b"003"]}
        assert seen == sorted(seen, key=lambda data: data == CHANGED[b"003"])
        assert tree_of(files) == CHANGED
        # From then on each commit is seen at once.
        change_again(writer)
        assert tree_of(files) == CHANGED
        flush(writer)
        assert tree_of(files) == tree(writer) != CHANGED

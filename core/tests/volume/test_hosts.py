"""Several machines at one volume, over an engine that a server keeps: leases and fences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import attrs
import pytest

from kvfs.errors import Conflict, Stale, Unsupported
from kvfs.kv import KVStore
from kvfs.kv.memory import CAPABILITY
from kvfs.kv.memory import MemoryDriver as MemoryKV
from kvfs.tarballs import fence, holders
from kvfs.tarballs.catalogue import State
from kvfs.tarballs.life import Life
from kvfs.testing.volumes import TINY, Stores
from kvfs.volume import Volume, demands
from kvfs.volume.sessions import Sessions

from .support import PATIENCE_S, WatchedStores, archive, contents, number_of, states

OpenVolume = Callable[..., Volume]
Run = Callable[..., Future[object]]

FILES = {b"%03d" % number: b"%d" % number * 500 for number in range(200)}
DATA = archive(FILES)
LATER = {b"later-%d" % number: b"%d" % number for number in range(20)}
LEASE_S = 30.0


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state() -> KVStore:
    return KVStore(MemoryKV(), name="memory")


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a function in a thread of its own."""
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


# -- leases ----------------------------------------------------------------------------------------

ELSEWHERE = "another-boot/12/345"
KEY = b"Vsession/of-another-machine"


def test_another_machine_is_dead_after_a_lease_of_silence(state: KVStore, clock: Clock) -> None:
    sessions = Sessions(state, lease_s=LEASE_S, clock=clock)
    holder = f"{ELSEWHERE}/7"
    assert not sessions.is_alive(holder)  # it has not entered, or has left
    for renewal in range(5):
        state.put(KEY, f"{ELSEWHERE}#{renewal}".encode())
        assert sessions.is_alive(holder)
        clock.now_s += LEASE_S
        assert sessions.is_alive(holder)
    clock.now_s += 0.001
    assert not sessions.is_alive(holder)
    state.put(KEY, f"{ELSEWHERE}#9".encode())  # it was slow, not dead
    assert sessions.is_alive(holder)


def test_silence_is_counted_from_when_this_process_looks(state: KVStore, clock: Clock) -> None:
    """No two clocks are compared."""
    state.put(KEY, f"{ELSEWHERE}#1".encode())
    clock.now_s += 10 * LEASE_S
    sessions = Sessions(state, lease_s=LEASE_S, clock=clock)
    assert sessions.is_alive(ELSEWHERE)
    clock.now_s += LEASE_S + 1
    assert not sessions.is_alive(ELSEWHERE)


def test_of_this_machine_it_is_known_at_once(state: KVStore, clock: Clock) -> None:
    sessions = Sessions(state, lease_s=LEASE_S, clock=clock)
    assert sessions.is_alive(holders.myself())
    assert not sessions.is_alive(f"{holders.boot_id()}/4194305/1")


def test_leases_are_renewed_and_the_dead_are_taken_away(state: KVStore) -> None:
    state.put(KEY, f"{ELSEWHERE}#1".encode())
    sessions = Sessions(state, lease_s=0.03)
    watch = state.watch(b"Vsession/", None)
    sessions.enter()
    seen: dict[bytes, int] = {}
    while KEY not in seen or max(seen.values()) < 5:
        for key in watch.wait(PATIENCE_S):
            seen[key] = seen.get(key, 0) + 1
    assert state.get(KEY) is None
    sessions.leave(flushed=True)
    assert [*state.scan_prefix(b"Vsession/")] == []


def test_a_server_does_not_lose_power_with_the_machines(state: KVStore) -> None:
    state.put(KEY, f"{ELSEWHERE}#1".encode())
    assert Sessions(state).lost_power()
    assert not Sessions(state, lease_s=LEASE_S).lost_power()


# -- fences ----------------------------------------------------------------------------------------


def test_fence_is_only_raised(state: KVStore) -> None:
    for term in (1, 1, 3):
        fence.raise_fence(state, 7, term)
    for term in (1, 2):
        with pytest.raises(Conflict, match="taken over"):
            fence.raise_fence(state, 7, term)
    fence.raise_fence(state, 8, 1)
    assert (fence.standing(state, 7), fence.standing(state, 8), fence.standing(state, 9)) == (
        3,
        1,
        0,
    )


@pytest.mark.parametrize("where", [0, len(DATA) // 2, len(DATA) - 1024])
def test_who_was_slow_and_not_dead_writes_nothing_more(
    run: Run, open_volume: OpenVolume, where: int
) -> None:
    """It is taken over in the middle of its ingest, and goes on when the other one is done."""
    stores = WatchedStores()
    stores.backing.write("t.tar", DATA)
    slow, quick = open_volume(stores), open_volume(stores)
    stores.watched.arm(where)
    first = run(contents, slow, b"t")
    assert stores.watched.reached.wait(PATIENCE_S)
    stores.watched.gate_at = None
    stores.backing.write("t.tar", archive(LATER))
    quick.tarballs.life.is_alive = lambda holder: False
    quick.refresh()
    assert run(contents, quick, b"t").result(PATIENCE_S) == LATER
    written = dict(quick.sealed.scan(b"", None))
    stores.watched.let_go()
    with pytest.raises(Stale):
        first.result(PATIENCE_S)
    assert contents(slow, b"t") == LATER
    assert dict(quick.sealed.scan(b"", None)) == written
    assert states(slow) == {"t.tar": State.SEALED}
    record = slow.tarballs.catalogue.get(number_of(slow, "t.tar"))
    assert record is not None
    assert (record.seals, record.holder, record.term) == (1, "", 0)


def test_who_was_slow_in_taking_away_takes_nothing_of_what_came_after(
    open_volume: OpenVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = WatchedStores()
    stores.backing.write("t.tar", DATA)
    slow, quick = open_volume(stores), open_volume(stores)
    assert contents(slow, b"t") == FILES
    quick.tarballs.life.is_alive = lambda holder: False
    clear = Life.clear

    def stalled(life: Life, tarball: int, term: int) -> None:
        if life is slow.tarballs.life:
            # Rolled back, and fetched anew, by another machine.
            assert contents(quick, b"t") == FILES
        clear(life, tarball, term)

    monkeypatch.setattr(Life, "clear", stalled)
    assert not slow.tarballs.evict(number_of(slow, "t.tar"))
    assert contents(quick, b"t") == FILES
    assert states(slow) == {"t.tar": State.SEALED}
    assert stores.watched.readers == 2


# -- small engines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        {"batch_ops_max": demands.BATCH_OPS - 1},
        {"batch_bytes_max": demands.BATCH_BYTES - 1},
        {"value_bytes_max": demands.VALUE_BYTES - 1},
        {"key_bytes_max": demands.KEY_BYTES - 1},
    ],
    ids=lambda limits: next(iter(limits)),
)
def test_engine_that_takes_too_little_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="too small for a volume"):
        Stores(capability=attrs.evolve(CAPABILITY, **limits)).volume()


def test_smallest_engine_takes_everything(open_volume: OpenVolume) -> None:
    """Long paths, many directories, large values: never a batch more than the engine takes."""
    capability = attrs.evolve(
        TINY,
        batch_ops_max=demands.BATCH_OPS,
        batch_bytes_max=demands.BATCH_BYTES,
        value_bytes_max=demands.VALUE_BYTES,
        key_bytes_max=demands.KEY_BYTES,
        inline_bytes_best=1 << 20,
        extent_bytes_best=1 << 20,
        commit_bytes_best=1 << 30,
    )
    stores = Stores(capability=capability)
    files = {b"f%d" % size: bytes([size % 251]) * size for size in (0, 60_000, 70_000, 900_000)}
    names = [
        *(f"{number}/{'d/' * 30}t.tar" for number in range(20)),
        *("\u00e9" * 100 + f"/{'x' * 200}-{number}.tar" for number in range(100)),
    ]
    for name in names:
        stores.backing.write(name, archive({}))
    stores.backing.write("large.tar", archive(files))
    volume = open_volume(stores)
    assert len(states(volume)) == len(names) + 1
    assert contents(volume, b"large") == files
    for name in names:
        stores.backing.delete(name)
    assert volume.refresh().removed == len(names)
    assert {*states(volume)} == {"large.tar"}
    again = open_volume(stores)
    assert again.superblock.inline_bytes < demands.VALUE_BYTES

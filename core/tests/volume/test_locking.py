"""Locks among the mounts of a volume: taken by one, kept while it lives, and never in two hands."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import attrs
import pytest

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Unavailable, Unsupported, errno_of
from kvfs.files import LAST_BYTE, Lock, Space
from kvfs.files.records import locks_key, volume_key
from kvfs.kv import Batch, KVStore
from kvfs.kv.driver import KVDriver
from kvfs.kv.memory import CAPABILITY
from kvfs.kv.memory import MemoryDriver as MemoryKV
from kvfs.layers.passing import KVLayer
from kvfs.tarballs import holders
from kvfs.testing.mounts import wait_until
from kvfs.testing.volumes import Stores
from kvfs.volume import Locking, demands, name_mount
from kvfs.volume.locking import TooManyLocks
from kvfs.volume.sessions import Sessions

INODE = 18
LEASE_S = 30.0
FAR = "another-boot/12/345"
FAR_SESSION = volume_key("session/far")
NETWORK = attrs.evolve(CAPABILITY, is_network=True)


class Clock:
    """Time that goes on when it is told to."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@attrs.define
class Losing(KVLayer):
    """Loses the answers to commits, when told to."""

    inner: KVDriver
    capability: KVCapability = CAPABILITY
    loses: bool = False

    def commit(self, batch: Batch, durability: Durability) -> None:
        self.inner.commit(batch, durability)
        if self.loses:
            raise Unavailable("the answer was lost")


@pytest.fixture
def losing() -> Losing:
    return Losing(MemoryKV())


@pytest.fixture
def state(losing: Losing) -> KVStore:
    return KVStore(losing, name="memory")


@pytest.fixture
def clock() -> Clock:
    return Clock()


Mount = Callable[..., Locking]


@pytest.fixture
def mount(state: KVStore, clock: Clock) -> Mount:
    """Makes the locks of a mount; those of one ``name`` are of one mount."""

    def make(name: str | None = None, *, alone: bool = True) -> Locking:
        sessions = Sessions(state, lease_s=LEASE_S, clock=clock)
        locking = Locking(
            state,
            sessions,
            mount=name or name_mount(),
            durability=Durability.MEMORY,
            alone=alone,
        )
        locking.resume()
        return locking

    return make


@pytest.fixture
def far(state: KVStore) -> Locking:
    """The locks of a mount of another machine, of whose lease the test sees to itself."""
    mount = f"{FAR}#its-mount"
    return Locking(state, Sessions(state), mount=mount, durability=Durability.MEMORY)


def lock(
    locking: Locking,
    number: int = 1,
    start: int = 0,
    last: int = LAST_BYTE,
    *,
    exclusive: bool = True,
    handle: int = 0,
) -> Lock:
    owner = locking.owner(number)
    return Lock(
        space=Space.POSIX, owner=owner, start=start, last=last, exclusive=exclusive, handle=handle
    )


def take(locking: Locking, *args: int, exclusive: bool = True, handle: int = 0) -> bool:
    wanted = lock(locking, *args, exclusive=exclusive, handle=handle)
    return locking.acquire(INODE, wanted) is not None


def test_what_one_mount_has_no_other_gets(state: KVStore, mount: Mount) -> None:
    one, other = mount(), mount()
    assert take(one)
    assert not take(other)
    found = other.test(INODE, lock(other))
    assert found is not None
    assert one.is_here(found)
    assert not other.is_here(found)
    one.release(INODE, Space.POSIX, 1, 10, 19)
    assert take(other, 1, 12, 13)
    assert not take(other, 1, 9, 10)
    for locking in (one, other):
        locking.release(INODE, Space.POSIX, 1)
    assert state.get(locks_key(INODE)) is None


def test_the_first_that_can_be_had(mount: Mount) -> None:
    one, other = mount(), mount()
    assert take(one, 1, 0, 9)
    wanted = [lock(other, number, *it) for number, it in enumerate([(0, 0), (10, 10), (11, 11)])]
    assert other.acquire(INODE, *wanted) == 1
    assert other.acquire(INODE, wanted[0]) is None


def test_one_at_a_time_of_many(mount: Mount) -> None:
    inside, most = [], []

    def work(number: int) -> None:
        locking = mount()
        for _ in range(25):
            while not take(locking, number):
                time.sleep(0)
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)
            locking.release(INODE, Space.POSIX, number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(most) == 100
    assert max(most) == 1


def test_the_locks_of_a_dead_process_of_this_machine_go_at_once(mount: Mount) -> None:
    dead = f"{holders.boot_id()}/{1 << 22}/1#its-mount"
    assert take(mount(dead))
    assert take(mount())


def test_the_locks_of_another_machine_go_with_its_lease(
    state: KVStore, mount: Mount, far: Locking, clock: Clock
) -> None:
    here = mount()
    for renewal in range(3):
        state.put(FAR_SESSION, f"{FAR}#{renewal}".encode())
        assert take(far, 1, renewal, renewal) or renewal
        assert not take(here)
        clock.now_s += LEASE_S
        assert not take(here)
    clock.now_s += 0.001
    assert take(here)
    # It was slow, not dead; and it does not believe that it still has them.
    state.put(FAR_SESSION, f"{FAR}#3".encode())
    assert not take(far)
    far.release(INODE, Space.POSIX, 1)
    assert not take(far)


def test_what_the_dead_left_of_other_files_is_swept(
    state: KVStore, mount: Mount, far: Locking
) -> None:
    assert take(far)  # it has no session: it is dead
    mount()
    assert state.get(locks_key(INODE)) is None


def test_who_was_silent_is_heard_of_before_it_takes_a_lock(state: KVStore, clock: Clock) -> None:
    """Else whoever thinks it dead could take the new lock away again."""
    worker = Sessions(state, lease_s=LEASE_S, clock=clock)
    far = Locking(state, worker, mount=f"{FAR}#its-mount", durability=Durability.MEMORY)
    judge = Sessions(state, lease_s=LEASE_S, clock=clock)
    assert judge.is_alive(FAR)  # the worker vouches for the process that made the mount
    clock.now_s += LEASE_S + 1
    assert not judge.is_alive(FAR)
    assert take(far)
    assert judge.is_alive(FAR)
    worker.leave(flushed=False)
    assert not judge.is_alive(FAR)
    assert list(state.scan_prefix(volume_key("session/"))) == []


def test_a_server_that_was_away_makes_nobody_dead(
    state: KVStore, losing: Losing, clock: Clock
) -> None:
    """While it could not be asked who renewed a lease, nobody could renew any."""
    judge = Sessions(state, lease_s=0.03, clock=clock)
    state.put(FAR_SESSION, f"{FAR}#1".encode())
    judge.enter()
    try:
        assert judge.is_alive(FAR)
        losing.loses = True
        wait_until(lambda: not judge._seen, "a renewal has failed")
        clock.now_s += 60
        losing.loses = False
        assert judge.is_alive(FAR)
        clock.now_s += 60
        assert not judge.is_alive(FAR)
    finally:
        losing.loses = False
        judge.withdraw()


def test_a_successor_keeps_the_locks(mount: Mount) -> None:
    name = name_mount()
    assert take(mount(name), 1, 0, 9)
    successor, other = mount(name), mount()
    assert successor.may_hold(INODE)
    assert not other.may_hold(INODE)
    assert not successor.may_hold(INODE + 1)
    assert not take(other)
    assert not take(successor, 2, 9, 9)
    successor.release(INODE, Space.POSIX, 1)
    assert not successor.may_hold(INODE)
    assert take(other)


def test_a_mount_that_lost_its_locks_says_so_and_none_that_never_had_any(
    state: KVStore, losing: Losing, mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    one = mount()
    losing.loses = True
    with pytest.raises(Unavailable):
        take(one)
    losing.loses = False
    state.delete(locks_key(INODE))
    one.release(INODE, Space.POSIX, 1)
    assert caplog.messages == []
    assert take(one)
    state.delete(locks_key(INODE))
    one.release(INODE, Space.POSIX, 1)
    assert len(caplog.messages) == 1
    assert "were lost" in caplog.text
    one.release(INODE, Space.POSIX, 1)
    assert len(caplog.messages) == 1


def test_a_worker_among_several_knows_of_no_lock_for_sure(mount: Mount) -> None:
    assert mount(alone=False).may_hold(INODE)


def test_the_end_of_a_mount_and_of_an_open_file(state: KVStore, mount: Mount) -> None:
    one, other = mount(), mount()
    assert take(one, 1, 0, 9, handle=5)
    assert take(one, 2, 10, 19, handle=6)
    assert take(other, 1, 20, 29, handle=5)
    one.release_handle(INODE, 5)
    assert take(other, 1, 0, 9)
    assert not take(other, 1, 10, 10)
    one.release_all()
    assert take(other, 1, 10, 10)
    other.release_all()
    assert state.get(locks_key(INODE)) is None


def test_an_answer_that_was_lost(losing: Losing, mount: Mount) -> None:
    """Whatever became of it, the same can be asked again."""
    one, other = mount(), mount()
    losing.loses = True
    with pytest.raises(Unavailable):
        take(one)
    losing.loses = False
    assert one.may_hold(INODE)
    assert not take(other)
    assert take(one)


def take_all(locking: Locking) -> None:
    """One byte in two, as far as it goes."""
    for start in count(step=2):
        assert take(locking, 1, start, start)


def test_too_many_locks(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demands, "VALUE_BYTES", 1 << 10)
    one = mount()
    with pytest.raises(TooManyLocks, match="no more") as refused:
        take_all(one)
    assert errno_of(refused.value) == errno.ENOLCK
    one.release(INODE, Space.POSIX, 1)
    assert take(one)


def test_a_volume_says_whose_locks_are(mount: Mount) -> None:
    with Stores().volume() as volume:
        assert volume.locking(name_mount()) is None
    cluster = {"volume": {"locks": "cluster"}}
    with pytest.raises(Unsupported, match='locks = "cluster" needs an engine'):
        Stores().volume(cluster)
    stores = Stores(capability=NETWORK)
    with stores.volume(cluster) as one, stores.volume(cluster) as other:
        first, second = one.locking(name_mount()), other.locking(name_mount())
        assert first is not None
        assert second is not None
        assert take(first)
        assert not take(second)

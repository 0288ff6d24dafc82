"""Requests for locks: in which order they count, who waits, and what an engine that fails does."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Iterator

import attrs
import pytest

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Unavailable
from kvfs.files import LAST_BYTE, Lock, Space
from kvfs.files.records import locks_key
from kvfs.kv import Batch, KVStore
from kvfs.kv.driver import KVDriver
from kvfs.kv.memory import CAPABILITY, MemoryDriver
from kvfs.layers.passing import KVLayer
from kvfs.testing.mounts import wait_until
from kvfs.volume import Locking, name_mount
from kvfs.volume.sessions import Sessions
from kvfs_frontend_fuse.protocol.operations import Handler
from kvfs_frontend_fuse.protocol.wire import (
    FLUSH_IN,
    IN_HEADER,
    LK_IN,
    LK_OUT,
    OPCODES,
    OUT_HEADER,
    RELEASE_IN,
    Opcode,
)
from kvfs_frontend_fuse.serving.complaints import Complaints
from kvfs_frontend_fuse.serving.device import Device
from kvfs_frontend_fuse.serving.locks import LockRequests

INODE = 18
OWNER, HANDLE = 7, 70
PATIENCE_S = 30.0

pytestmark = pytest.mark.timeout(60)


@attrs.define
class Engine(KVLayer):
    """Refuses commits, or carries them out and says that it did not, when told to."""

    inner: KVDriver
    capability: KVCapability = CAPABILITY
    fails: bool = False
    loses: bool = False

    def commit(self, batch: Batch, durability: Durability) -> None:
        if self.fails:
            raise Unavailable("the engine is away")
        self.inner.commit(batch, durability)
        if self.loses:
            raise Unavailable("the answer was lost")


class Kernel:
    """Asks, and takes the answers."""

    def __init__(self) -> None:
        self.engine = Engine(MemoryDriver())
        self.state = KVStore(self.engine, name="memory")
        self.here, self.there = self._locking(), self._locking()
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(PATIENCE_S)
        complaints = Complaints()
        self._device = Device(other.detach(), complaints)
        self.requests = LockRequests(self._device, complaints, self.here)
        self._table: list[Handler] = [self._never] * OPCODES
        self.requests.begin(self._table)
        self._unique = 0

    @staticmethod
    def _never(inode: int, request: bytes | bytearray, size: int) -> None:
        raise AssertionError(request)

    def _locking(self) -> Locking:
        return Locking(
            self.state, Sessions(self.state), mount=name_mount(), durability=Durability.MEMORY
        )

    def ask(self, opcode: Opcode, body: bytes) -> int:
        """Ask; returns the number of the request."""
        self._unique += 2
        size = IN_HEADER.size + len(body)
        raw = IN_HEADER.pack(size, opcode, self._unique, INODE, 0, 0, 0, 0, 0) + body
        reply = self._table[opcode](INODE, raw, size)
        if reply is not None:
            self._device.reply(opcode, self._unique, reply)
        return self._unique

    def lock(
        self,
        kind: int = fcntl.F_WRLCK,
        opcode: Opcode = Opcode.SETLK,
        *,
        owner: int = OWNER,
        start: int = 0,
        last: int = LAST_BYTE,
    ) -> int:
        """Ask for a lock, or to give it up."""
        return self.ask(opcode, LK_IN.pack(HANDLE, owner, start, last, kind, 1, 0, 0))

    def close(self) -> int:
        """A process closes a descriptor."""
        return self.ask(Opcode.FLUSH, FLUSH_IN.pack(HANDLE, 0, 0, OWNER))

    def release(self) -> int:
        """The last descriptor was closed."""
        return self.ask(Opcode.RELEASE, RELEASE_IN.pack(HANDLE, 0, 0, 0))

    def answer(self) -> tuple[int, int]:
        """The next answer: to which request, and the errno."""
        length, error, unique = OUT_HEADER.unpack_from(self._socket.recv(4096))
        assert length >= OUT_HEADER.size
        return unique, -error

    def body(self) -> bytes:
        """The body of the next answer."""
        return self._socket.recv(4096)[OUT_HEADER.size :]

    def end(self) -> None:
        """The mount ends."""
        self._device.close()
        self.requests.close()
        self._socket.close()

    def is_free(self) -> bool:
        """Could another mount lock it all?"""
        return self.there.test(INODE, self.theirs()) is None

    def theirs(self) -> Lock:
        """A lock of another mount."""
        return Lock(space=Space.POSIX, owner=self.there.owner(1), exclusive=True)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.end()


def test_what_concerns_a_file_is_done_in_the_order_of_the_requests(kernel: Kernel) -> None:
    asked = []
    for number in range(20):
        asked.append(kernel.lock(owner=number))
        asked.append(kernel.release() if number % 2 else kernel.lock(fcntl.F_UNLCK, owner=number))
    assert [kernel.answer() for _ in asked] == [(unique, 0) for unique in asked]
    assert kernel.state.get(locks_key(INODE)) is None


def test_a_file_without_locks_is_closed_without_asking_the_engine(kernel: Kernel) -> None:
    kernel.engine.fails = True
    asked = [kernel.close(), kernel.release()]
    assert [kernel.answer() for _ in asked] == [(unique, 0) for unique in asked]


def test_whose_lock_is_in_the_way(kernel: Kernel) -> None:
    kernel.lock(start=5, last=9)
    kernel.answer()
    kernel.lock(fcntl.F_RDLCK, Opcode.GETLK, owner=OWNER + 1)
    assert LK_OUT.unpack(kernel.body()) == (5, 9, fcntl.F_WRLCK, 1)
    kernel.lock(fcntl.F_RDLCK, Opcode.GETLK)
    assert LK_OUT.unpack(kernel.body())[2] == fcntl.F_UNLCK


@pytest.mark.parametrize(("start", "last"), [(1, 0), (1 << 63, (1 << 64) - 1)])
def test_a_lock_of_no_byte(kernel: Kernel, start: int, last: int) -> None:
    unique = kernel.lock(start=start, last=last)
    assert kernel.answer() == (unique, errno.EINVAL)


def test_who_waits_is_told_when_it_has_the_lock(kernel: Kernel) -> None:
    assert kernel.there.acquire(INODE, kernel.theirs()) is not None
    waiting = [kernel.lock(opcode=Opcode.SETLKW, owner=number) for number in (1, 2)]
    refused = kernel.lock(owner=3)
    assert kernel.answer() == (refused, errno.EAGAIN)
    kernel.there.release(INODE, Space.POSIX, 1)
    assert kernel.answer() == (waiting[0], 0)
    unlocked = kernel.lock(fcntl.F_UNLCK, owner=1)
    assert [kernel.answer(), kernel.answer()] == [(unlocked, 0), (waiting[1], 0)]


def test_who_is_interrupted_has_nothing(kernel: Kernel) -> None:
    assert kernel.there.acquire(INODE, kernel.theirs()) is not None
    waiting = kernel.lock(opcode=Opcode.SETLKW)
    assert kernel.requests.interrupt(waiting)
    assert kernel.answer() == (waiting, errno.EINTR)
    assert not kernel.requests.interrupt(waiting)
    kernel.there.release(INODE, Space.POSIX, 1)
    assert kernel.is_free()


def test_who_is_interrupted_too_late_has_the_lock(kernel: Kernel) -> None:
    """The engine has taken it and its answer was lost: it must not be there and nobody know."""
    kernel.engine.loses = True
    waiting = kernel.lock(opcode=Opcode.SETLKW)
    wait_until(lambda: not kernel.is_free(), "the engine has taken it")
    kernel.engine.loses = False
    kernel.requests.interrupt(waiting)
    assert kernel.answer() == (waiting, 0)
    assert not kernel.is_free()


def test_what_cannot_be_given_up_is_given_up_later(kernel: Kernel) -> None:
    kernel.lock()
    kernel.answer()
    kernel.engine.fails = True
    closed = kernel.close()
    assert kernel.answer() == (closed, errno.EIO)
    kernel.engine.fails = False
    wait_until(kernel.is_free, "it is given up")
    # And not what was taken after it.
    locked = kernel.lock()
    assert kernel.answer() == (locked, 0)
    unlocked = kernel.lock(fcntl.F_UNLCK, start=1)
    assert kernel.answer() == (unlocked, 0)
    assert not kernel.is_free()


def test_who_waits_goes_on_waiting_while_the_engine_is_away(kernel: Kernel) -> None:
    kernel.engine.fails = True
    waiting = kernel.lock(opcode=Opcode.SETLKW)
    refused = kernel.lock(owner=OWNER + 1)
    assert kernel.answer() == (refused, errno.EIO)
    kernel.engine.fails = False
    assert kernel.answer() == (waiting, 0)


def test_a_damaged_record_locks_nothing(kernel: Kernel) -> None:
    kernel.state.put(locks_key(INODE), b"damaged")
    asked = [kernel.lock(opcode=opcode) for opcode in (Opcode.SETLKW, Opcode.SETLK)]
    assert [kernel.answer() for _ in asked] == [(unique, errno.EIO) for unique in asked]


def test_the_structs_are_as_large_as_the_kernel_sends_them() -> None:
    assert (LK_IN.size, LK_OUT.size) == (48, struct.calcsize("=QQII"))

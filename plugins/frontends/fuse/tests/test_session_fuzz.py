"""Whatever comes out of the device, the session answers it at most once, well-formed, and goes on.

The device is the other end of a socket that keeps message boundaries, as /dev/fuse does.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvfs_frontend_fuse import FuseSettings
from kvfs_frontend_fuse.protocol.wire import NO_REPLY, REQUEST_MIN, Opcode
from kvfs_frontend_fuse.serving.session import Session

from .toy import Gate, ToyVolume, small

TREE = small()
GATE = Gate(None)
GATE.open.set()  # nothing has to wait here
LAST = 1 << 60
"""``unique`` of the request that ends a conversation."""


def request(
    opcode: int, unique: int, inode: int = 1, body: bytes = b"", length: int | None = None
) -> bytes:
    size = 40 + len(body) if length is None else length
    return struct.pack("=IIQQIIIHH", size, opcode, unique, inode, 0, 0, 0, 0, 0) + body


def converse(requests: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
    """Feed requests to a session; every reply as (unique, error, body)."""
    own, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    device.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    session = Session(device.detach(), ToyVolume(TREE, gate=GATE), FuseSettings(waiters=1))
    replies = []
    with own:
        for sent in requests:
            own.send(sent)
        own.shutdown(socket.SHUT_WR)
        session.run()
        session.close()
        while raw := own.recv(1 << 21):
            length, error, unique = struct.unpack_from("=IiQ", raw)
            assert length == len(raw)
            assert -4096 < error <= 0
            assert error == 0 or length == 16
            replies.append((unique, -error, raw[16:]))
    return replies


opcodes = st.one_of(
    st.sampled_from([int(opcode) for opcode in Opcode]),
    st.integers(0, 70),
    st.integers(0, (1 << 32) - 1),
)
inodes = st.one_of(st.integers(0, len(TREE.nodes) + 2), st.integers(0, (1 << 64) - 1))
numbers = st.one_of(
    st.sampled_from([0, 1, 4096, (1 << 31) - 1, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]),
    st.integers(0, 1 << 20),
)
read_bodies = st.builds(
    lambda offset, size: struct.pack("=QQIIQII", 0, offset, size & 0xFFFF_FFFF, 0, 0, 0, 0),
    numbers,
    numbers,
)
name_bodies = st.sampled_from([b"big\0", b"sub\0", b"nothing\0", b"\0", b"a\0b\0", b"x" * 300])
bodies = st.one_of(st.binary(max_size=96), read_bodies, name_bodies)


@given(st.lists(st.tuples(opcodes, inodes, bodies), max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_well_framed_request_gets_its_one_reply(
    asked: list[tuple[int, int, bytes]],
) -> None:
    sent = [
        request(opcode, 2 * number + 2, inode, body)
        for number, (opcode, inode, body) in enumerate(asked)
    ]
    replies = converse([*sent, request(Opcode.STATFS, LAST)])
    expected = [
        2 * number + 2 for number, (opcode, _, _) in enumerate(asked) if opcode not in NO_REPLY
    ]
    assert [unique for unique, _, _ in replies] == [*expected, LAST]


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=12))
@settings(max_examples=200, deadline=None)
def test_random_bytes_never_end_the_session(sent: list[bytes]) -> None:
    replies = converse([*sent, request(Opcode.STATFS, LAST)])
    assert len(replies) <= len(sent) + 1
    unique, error, body = replies[-1]
    assert (unique, error, len(body)) == (LAST, 0, 80)


@given(opcodes, inodes, bodies, st.integers(0, 139), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_one_wrong_byte_is_survived(
    opcode: int, inode: int, body: bytes, at: int, value: int
) -> None:
    mutated = bytearray(request(opcode, 2, inode, body))
    mutated[at % len(mutated)] = value
    replies = converse([bytes(mutated), request(Opcode.STATFS, LAST)])
    assert len(replies) <= 2
    assert replies[-1][:2] == (LAST, 0)


@pytest.mark.parametrize("opcode", [op for op in Opcode if op not in NO_REPLY])
def test_a_request_cut_short_is_invalid(opcode: Opcode) -> None:
    if REQUEST_MIN[opcode] == 40:
        # Nothing to cut: a wrong length stands for it.
        (reply,) = converse([request(opcode, 2, length=39)])
    else:
        (reply,) = converse([request(opcode, 2, body=bytes(REQUEST_MIN[opcode] - 41))])
    assert reply == (2, errno.EINVAL, b"")


@pytest.mark.parametrize("opcode", [54, 4096, 436207616, (1 << 32) - 1])
def test_an_unknown_request_is_not_implemented(opcode: int) -> None:
    assert converse([request(opcode, 2)]) == [(2, errno.ENOSYS, b"")]


@pytest.mark.parametrize("name", [b"x", b"a\0b\0", b"\0\0"])
def test_a_name_without_its_nul_or_with_two_is_invalid(name: bytes) -> None:
    assert converse([request(Opcode.LOOKUP, 2, body=name.ljust(2, b"y"))]) == [
        (2, errno.EINVAL, b"")
    ]


def test_a_listing_longer_than_an_iovec_is_one_reply() -> None:
    body = struct.pack("=QQIIQII", 0, 0, 1 << 17, 0, 0, 0, 0)
    many = small()
    directory = many.directory(many.root, b"many")
    for number in range(3000):
        many.file(directory, b"%d" % number)
    own, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    device.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    session = Session(device.detach(), ToyVolume(many), FuseSettings())
    with own:
        own.send(request(Opcode.READDIR, 2, directory.number, body))
        own.shutdown(socket.SHUT_WR)
        session.run()
        reply = own.recv(1 << 20)
        session.close()
    assert struct.unpack_from("=IiQ", reply) == (len(reply), 0, 2)
    assert len(reply) > 3000 * 32


def test_interrupts_of_what_nobody_waits_for_are_silent() -> None:
    sent = [request(Opcode.INTERRUPT, 3, 0, struct.pack("=Q", unique)) for unique in (0, 2, LAST)]
    assert converse(sent) == []


def test_init_is_answered_amid_garbage() -> None:
    own, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    session = Session(device.detach(), ToyVolume(TREE), FuseSettings())
    with own:
        own.send(b"short")
        own.send(request(Opcode.LOOKUP, 2, body=b"early\0"))
        own.send(request(Opcode.FORGET, 4, body=bytes(8)))
        own.send(request(Opcode.INIT, 6, 0, struct.pack("=IIII", 7, 32, 0, 1)))
        agreed = session.negotiate()
        assert agreed is not None
        assert agreed.minor == 32
        assert struct.unpack("=IiQ", own.recv(4096)) == (16, -errno.EIO, 2)
        assert struct.unpack_from("=IiQ", own.recv(4096)) == (80, 0, 6)
        session.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(session._device.descriptor)

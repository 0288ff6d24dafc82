"""INIT as kernels old and new send it."""

from __future__ import annotations

import errno
import struct

import pytest

from kvfs.errors import Unsupported
from kvfs_frontend_fuse import FuseSettings, ReadDirPlus
from kvfs_frontend_fuse.protocol.negotiate import MAX_WRITE, Negotiated, answer_init
from kvfs_frontend_fuse.protocol.wire import LAYOUTS, InitFlag

ALL = (1 << 43) - 1


def init(
    *,
    major: int = 7,
    minor: int = 45,
    offered: int = ALL,
    extended: bool = True,
    settings: FuseSettings | None = None,
    read_only: bool = True,
    shared: bool = False,
    locks: bool = False,
) -> tuple[Negotiated | None, dict[str, int] | int]:
    body = struct.pack("=IIII", major, minor, 131072, offered & 0xFFFF_FFFF)
    if extended:
        body += struct.pack("=I44x", offered >> 32)
    request = bytes(40) + body
    answers: list[list[bytes] | int] = []
    try:
        agreed = answer_init(
            request,
            len(request),
            settings or FuseSettings(),
            read_only=read_only,
            shared=shared,
            locks=locks,
            reply=answers.append,
        )
    finally:
        (answer,) = answers
    if isinstance(answer, int):
        return agreed, answer
    layout = LAYOUTS["fuse_init_out"]
    values = layout.struct.unpack(b"".join(answer))
    return agreed, dict(zip(layout.fields, values, strict=True))


def test_linux_6_18() -> None:
    agreed, answer = init()
    assert agreed is not None
    assert isinstance(answer, dict)
    assert (answer["major"], answer["minor"]) == (7, 45)
    assert answer["max_write"] == MAX_WRITE
    assert answer["max_pages"] * struct.calcsize("P") > 0
    assert answer["flags"] == int(agreed.flags) & 0xFFFF_FFFF
    wanted = InitFlag.NO_OPEN_SUPPORT | InitFlag.NO_OPENDIR_SUPPORT | InitFlag.CACHE_SYMLINKS
    assert agreed.flags & wanted == wanted
    assert not agreed.flags & (InitFlag.WRITEBACK_CACHE | InitFlag.POSIX_LOCKS)
    assert answer["congestion_threshold"] <= answer["max_background"] == agreed.max_background


def test_what_writing_needs_is_asked_for_where_something_is_written() -> None:
    needed = InitFlag.DONT_MASK | InitFlag.HANDLE_KILLPRIV_V2 | InitFlag.SETXATTR_EXT
    for posix_acl in (True, False):
        settings = FuseSettings(posix_acl=posix_acl)
        agreed, _ = init(settings=settings, read_only=False)
        assert agreed is not None
        assert agreed.flags & needed == needed
        assert bool(agreed.flags & InitFlag.POSIX_ACL) is posix_acl
        assert not agreed.flags & InitFlag.WRITEBACK_CACHE
        agreed, _ = init(settings=settings)
        assert agreed is not None
        assert not agreed.flags & (needed | InitFlag.POSIX_ACL)


def test_the_kernel_asks_for_locks_where_they_are_not_its_own() -> None:
    both = InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS
    for locks in (True, False):
        agreed, _ = init(locks=locks)
        assert agreed is not None
        assert agreed.flags & both == (both if locks else 0)


def test_where_others_write_the_kernel_asks_each_time() -> None:
    for settings in (FuseSettings(), FuseSettings(readdirplus=ReadDirPlus.AUTO)):
        agreed, _ = init(settings=settings, read_only=False, shared=True)
        assert agreed is not None
        assert agreed.flags & InitFlag.AUTO_INVAL_DATA
        assert agreed.flags & InitFlag.DONT_MASK
        assert not agreed.flags & (InitFlag.EXPLICIT_INVAL_DATA | InitFlag.DO_READDIRPLUS)
        agreed, _ = init(settings=settings, read_only=False)
        assert agreed is not None
        assert not agreed.flags & InitFlag.AUTO_INVAL_DATA


def test_writing_needs_linux_5_12() -> None:
    agreed, _ = init(minor=33, read_only=False)
    assert agreed is not None
    with pytest.raises(Unsupported, match=r"Linux 5\.12"):
        init(minor=32, read_only=False)


def test_linux_5_10_sends_no_second_flags() -> None:
    agreed, answer = init(minor=32, offered=0x0FFF_FFFF, extended=False)
    assert agreed is not None
    assert isinstance(answer, dict)
    assert answer["minor"] == agreed.minor == 32
    assert not agreed.flags & InitFlag.INIT_EXT


def test_nothing_is_taken_that_was_not_offered() -> None:
    agreed, answer = init(offered=int(InitFlag.ASYNC_READ))
    assert agreed is not None
    assert agreed.flags == InitFlag.ASYNC_READ
    assert isinstance(answer, dict)
    assert answer["max_pages"] == 0


def test_a_newer_minor_is_answered_with_ours() -> None:
    agreed, _ = init(minor=99)
    assert agreed is not None
    assert agreed.minor == 45


def test_a_newer_major_is_asked_to_come_down() -> None:
    agreed, answer = init(major=8, minor=0)
    assert agreed is None
    assert isinstance(answer, dict)
    assert answer["major"] == 7


@pytest.mark.parametrize(("major", "minor"), [(6, 99), (7, 30)])
def test_a_kernel_too_old_is_told_so(major: int, minor: int) -> None:
    with pytest.raises(Unsupported, match=f"{major}.{minor}"):
        init(major=major, minor=minor)
    request = bytes(40) + struct.pack("=IIII", major, minor, 0, 0)
    answers: list[list[bytes] | int] = []
    with pytest.raises(Unsupported):
        answer_init(request, len(request), FuseSettings(), read_only=True, reply=answers.append)
    assert answers == [errno.EPROTO]


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        (ReadDirPlus.NEVER, InitFlag(0)),
        (ReadDirPlus.ALWAYS, InitFlag.DO_READDIRPLUS),
        (ReadDirPlus.AUTO, InitFlag.DO_READDIRPLUS | InitFlag.READDIRPLUS_AUTO),
    ],
)
def test_readdirplus_follows_the_setting(mode: ReadDirPlus, flags: InitFlag) -> None:
    agreed, _ = init(settings=FuseSettings(readdirplus=mode))
    assert agreed is not None
    both = InitFlag.DO_READDIRPLUS | InitFlag.READDIRPLUS_AUTO
    assert agreed.flags & both == flags

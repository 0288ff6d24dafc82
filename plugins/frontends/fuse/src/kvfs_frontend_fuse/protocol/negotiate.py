"""INIT: what kernel and server agree on before the first request."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import attrs

from kvfs.errors import Unsupported
from kvfs_frontend_fuse._settings import FuseSettings, ReadDirPlus
from kvfs_frontend_fuse.protocol.wire import (
    IN_HEADER,
    INIT_IN,
    INIT_IN_SHORT,
    INIT_OUT,
    MAJOR,
    MINOR,
    MINOR_MIN,
    InitFlag,
)

MAX_WRITE = 1 << 20
"""The largest WRITE, and so the size of a request buffer; also bounds READ, through max_pages."""
REQUEST_BYTES = MAX_WRITE + 4096
"""What the kernel demands of a read of the device: the largest body and a header."""
_PAGES = MAX_WRITE // os.sysconf("SC_PAGE_SIZE")

_WANTED = (
    InitFlag.ASYNC_READ  # several reads of one file under way at once
    | InitFlag.BIG_WRITES
    | InitFlag.PARALLEL_DIROPS  # look-ups in one directory do not queue in the kernel
    | InitFlag.ASYNC_DIO
    | InitFlag.NO_OPEN_SUPPORT  # OPEN and OPENDIR are answered ENOSYS, once
    | InitFlag.NO_OPENDIR_SUPPORT
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.EXPLICIT_INVAL_DATA  # pages stay until they are invalidated: sealed data
    | InitFlag.MAX_PAGES
    | InitFlag.INIT_EXT
    | InitFlag.HAS_RESEND  # what a killed worker left unanswered is asked again
)
"""What a read-only tree of sealed contents profits from.

Left out on purpose: POSIX_ACL (an ACL look-up per inode, for ACLs that tarballs do not carry in
the kernel's form), EXPORT_SUPPORT (look-ups of ``.`` and ``..`` by inode), SPLICE (Python gains
nothing), the lock flags (locks stay local, unless the volume says otherwise).
"""
_WANTED_TO_LOCK = InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS
"""What locks need that hold among all mounts."""
_WANTED_TO_WRITE = (
    InitFlag.DONT_MASK  # a default ACL takes the place of the umask
    | InitFlag.HANDLE_KILLPRIV_V2  # who changes a file loses its setuid here, without a request
    | InitFlag.SETXATTR_EXT
)
"""What writing needs besides.

WRITEBACK_CACHE is left out: times and sizes would be the kernel's until it likes to tell, and a
crash of this process would lose them; the queue of changes gathers small writes as well.
"""
_SHARED = InitFlag.AUTO_INVAL_DATA | InitFlag.DIRECT_IO_ALLOW_MMAP
_NOT_SHARED = InitFlag.EXPLICIT_INVAL_DATA | InitFlag.NO_OPEN_SUPPORT | InitFlag.NO_OPENDIR_SUPPORT
"""What comes and goes where other machines write, too: every open asks, and so does every read,
whether its pages are still right.  Listings carry no attributes: nobody would believe them.  Files
that are appended to are opened for direct I/O, and may be mapped all the same."""
MINOR_TO_WRITE = 33
"""The oldest kernel that all of those are in (Linux 5.12)."""


@attrs.frozen(kw_only=True)
class Negotiated:
    """The outcome of INIT."""

    minor: int
    flags: InitFlag
    max_readahead: int
    max_background: int


def _wanted(settings: FuseSettings, read_only: bool, shared: bool, locks: bool) -> InitFlag:
    wanted = _WANTED
    if locks:
        wanted |= _WANTED_TO_LOCK
    if not read_only:
        wanted |= _WANTED_TO_WRITE
        if settings.posix_acl:
            wanted |= InitFlag.POSIX_ACL
    if shared:
        return (wanted & ~_NOT_SHARED) | _SHARED
    match settings.readdirplus:
        case ReadDirPlus.NEVER:
            return wanted
        case ReadDirPlus.ALWAYS:
            return wanted | InitFlag.DO_READDIRPLUS
        case ReadDirPlus.AUTO:
            return wanted | InitFlag.DO_READDIRPLUS | InitFlag.READDIRPLUS_AUTO


def answer_init(
    request: bytes | bytearray,
    size: int,
    settings: FuseSettings,
    *,
    read_only: bool,
    shared: bool = False,
    locks: bool = False,
    reply: Callable[[list[bytes] | int], None],
) -> Negotiated | None:
    """Answer one INIT; ``None``: the kernel is to ask again, in our major version.

    :param request: the request, header included, of ``size`` bytes (at least an INIT of 7.6).
    :param read_only: is nothing to be written?
    :param shared: do others write, too?
    :param locks: is the kernel to ask for locks?
    :param reply: sends the body of a reply, or an errno.
    :raises Unsupported: the kernel is too old; it was told so.
    """
    body = IN_HEADER.size
    major, minor, max_readahead, low = INIT_IN_SHORT.unpack_from(request, body)
    if major > MAJOR:
        reply([INIT_OUT.pack(MAJOR, MINOR, *(0,) * 11, b"")])
        return None
    least = MINOR_MIN if read_only else MINOR_TO_WRITE
    if major < MAJOR or minor < least:
        reply(errno.EPROTO)
        since = "5.10" if read_only else "5.12"
        raise Unsupported(
            f"the kernel speaks FUSE {major}.{minor}; {MAJOR}.{least} is needed (Linux {since} on)"
        )
    offered = low
    if low & InitFlag.INIT_EXT and size >= body + INIT_IN.size:
        offered |= INIT_IN.unpack_from(request, body)[4] << 32
    flags = InitFlag(offered) & _wanted(settings, read_only, shared, locks)
    agreed = Negotiated(
        minor=min(minor, MINOR),
        flags=flags,
        max_readahead=min(max_readahead, settings.max_readahead),
        max_background=settings.max_background,
    )
    reply(
        [
            INIT_OUT.pack(
                MAJOR,
                agreed.minor,
                agreed.max_readahead,
                int(flags) & 0xFFFF_FFFF,
                agreed.max_background,
                max(agreed.max_background * 3 // 4, 1),
                MAX_WRITE,
                1,
                _PAGES if flags & InitFlag.MAX_PAGES else 0,
                0,
                int(flags) >> 32,
                0,
                0,
                b"",
            )
        ]
    )
    return agreed

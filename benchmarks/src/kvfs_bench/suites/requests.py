"""What one request costs the process that answers it: engine, file system model, binding, loop.

Nothing is mounted.  Each part is called as the part above it calls it, over files in the order of
their directories; the loop is fed from a socket that keeps message boundaries, as the device does,
and its replies go to /dev/null, so that the kernel's own share is left out.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs

from kvfs.errors import NotFound
from kvfs.files.records import FIRST_SLOT, LAST_SLOT, dirent_key, inode_key
from kvfs.kv import ReadView
from kvfs.volume import Volume, from_tables
from kvfs_bench.inputs.datasets import dataset, forget, scaled, tree
from kvfs_bench.results import SuiteResult
from kvfs_bench.suites.context import Context

_FILES = 20_000
_LISTING_BYTES = 32 << 10
_READ_BYTES = 128 << 10
_QUEUE = 128
"""Requests that a socket holds with the largest buffer that every user may have."""
_IN = struct.Struct("=IIQQIIIHH")
_READ = struct.Struct("=QQIIQII")
_LOOKUP, _GETATTR, _READ_OPCODE, _READDIRPLUS = 1, 3, 15, 44

Call = Callable[[], object]


@attrs.frozen
class _Tree:
    """Everything that is asked for."""

    directories: list[int]
    names: list[tuple[int, bytes]]
    inodes: list[int]


def run(context: Context) -> SuiteResult:
    """Time every part, in turns."""
    try:
        from kvfs_frontend_fuse.protocol.operations import Operations
    except ImportError as error:
        raise NotFound("this is about kvfs-frontend-fuse: install it") from error
    made = dataset(tree(scaled(_FILES, context.scale)), context.scratch)
    result = SuiteResult(
        suite="requests",
        title="What a request costs",
        scale=context.scale,
        rounds=context.rounds,
        datasets={"tree": made.describe()},
        notes=[
            "each row includes what stands below it: files calls the engine, the handler files, "
            "the loop the handler; the loop's includes a read and a write system call",
            "requests in the order of directories; a READ answers with a whole file, a READDIRPLUS "
            "with 32 KiB of entries (the engine: with all of a directory)",
            "the kernel's share (copies, wake-ups) is not in it: kvfs bench mount has that",
        ],
    )
    config = from_tables(
        {
            "kv": {"driver": "lmdb", "path": str(context.scratch.directory("requests"))},
            "backing": {"driver": "posix", "path": str(made.archive.parent)},
        },
        where="the benchmark",
    )
    with Volume(config) as volume:
        volume.refresh()
        for tarball, _ in volume.tarballs.catalogue:
            volume.tarballs.fetch(tarball)
        files = volume.files(wait=False)
        found = _find(volume)
        result.check("counts: files", len(found.inodes), made.describe()["files"])
        handlers = Operations(files, xattrs=True).table
        with volume.sealed.snapshot() as view:
            for number in range(context.rounds):
                context.say(f"requests: round {number + 1} of {context.rounds}")
                for work, parts in _calls(found, view, files, handlers).items():
                    for part, calls in parts.items():
                        measured = result.measure(
                            work, part, state="again", quantity=len(calls), unit="calls"
                        )
                        measured.wall_s.append(_time(calls))
                for work, requests in _requests(found).items():
                    measured = result.measure(
                        work, "loop", state="again", quantity=len(requests), unit="calls"
                    )
                    measured.wall_s.append(_time_loop(volume, requests))
    forget(made)
    return result


def _find(volume: Volume) -> _Tree:
    files = volume.files(wait=True)
    directories, names, inodes = [], [], []
    pending = [entry.attributes.inode for entry in files.entries(1)]
    while pending:
        directory = pending.pop()
        directories.append(directory)
        for entry in files.entries(directory):
            if entry.attributes.is_directory:
                pending.append(entry.attributes.inode)
            else:
                names.append((directory, entry.name))
                inodes.append(entry.attributes.inode)
    return _Tree(directories, names, inodes)


def _calls(
    found: _Tree, view: ReadView, files: Any, handlers: Sequence[Any]
) -> dict[str, dict[str, list[Call]]]:
    def get(key: bytes) -> object:
        view.refresh()
        return view.get(key)

    def scan(directory: int) -> object:
        view.refresh()
        low, high = dirent_key(directory, FIRST_SLOT), dirent_key(directory, LAST_SLOT)
        return [record for _, record in view.scan(low, high)]

    def handled(requests: list[bytes]) -> list[Call]:
        calls: list[Call] = []
        for request in requests:
            _, opcode, _, inode, *_ = _IN.unpack_from(request)
            calls.append(partial(handlers[opcode], inode, request, len(request)))
        return calls

    requests = _requests(found)
    gets: list[Call] = [partial(get, inode_key(inode)) for inode in found.inodes]
    return {
        "LOOKUP": {
            "files": [partial(files.lookup, *name) for name in found.names],
            "handler": handled(requests["LOOKUP"]),
        },
        "GETATTR": {
            "engine": gets,
            "files": [partial(files.getattr, inode) for inode in found.inodes],
            "handler": handled(requests["GETATTR"]),
        },
        "READ": {
            "engine": gets,
            "files": [partial(files.read, inode, 0, _READ_BYTES) for inode in found.inodes],
            "handler": handled(requests["READ"]),
        },
        "READDIRPLUS": {
            "engine": [partial(scan, inode) for inode in found.directories],
            "files": [
                partial(files.readdir, inode, 0, _LISTING_BYTES, True)
                for inode in found.directories
            ],
            "handler": handled(requests["READDIRPLUS"]),
        },
    }


def _requests(found: _Tree) -> dict[str, list[bytes]]:
    read = _READ.pack(0, 0, _READ_BYTES, 0, 0, 0, 0)
    listing = _READ.pack(0, 0, _LISTING_BYTES, 0, 0, 0, 0)
    return {
        "LOOKUP": [_request(_LOOKUP, parent, name + b"\0") for parent, name in found.names],
        "GETATTR": [_request(_GETATTR, inode, bytes(16)) for inode in found.inodes],
        "READ": [_request(_READ_OPCODE, inode, read) for inode in found.inodes],
        "READDIRPLUS": [_request(_READDIRPLUS, inode, listing) for inode in found.directories],
    }


def _request(opcode: int, inode: int, body: bytes) -> bytes:
    return _IN.pack(_IN.size + len(body), opcode, 1, inode, 0, 0, 0, 0, 0) + body


def _time(calls: list[Call]) -> float:
    start = time.perf_counter()
    for call in calls:
        call()
    return time.perf_counter() - start


def _time_loop(volume: Volume, requests: list[bytes]) -> float:
    """Seconds that a session takes for the requests, which it finds waiting, a few at a time."""
    from kvfs_frontend_fuse import FuseSettings
    from kvfs_frontend_fuse.serving.session import Session

    spent = 0.0
    answered = os.open(os.devnull, os.O_WRONLY)
    writev = os.writev
    try:
        os.writev = lambda descriptor, buffers: writev(answered, buffers)
        for start in range(0, len(requests), _QUEUE):
            own, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            session = Session(device.detach(), volume, FuseSettings(waiters=1))
            with own:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                for request in requests[start : start + _QUEUE]:
                    own.send(request)
                own.shutdown(socket.SHUT_WR)
                began = time.perf_counter()
                session.run()
                spent += time.perf_counter() - began
            session.close()
    finally:
        os.writev = writev
        os.close(answered)
    return spent

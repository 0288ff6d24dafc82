"""Tarballs made block by block, and GNU tar as the oracle of what a tarball means."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Collection
from pathlib import Path

from kvfs.files import Files
from kvfs.tar.pax import format_record
from kvfs.testing.invariants import violations
from kvfs.testing.trees import assert_same_tree, tree_of, tree_of_volume
from kvfs.testing.volumes import Stores
from kvfs.volume import Volume

END = bytes(1024)
TAR_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ["PATH"]}
IMPLIED = ("uid", "gid", "mode", "mtime_ns")
"""What a tarball does not say of a directory that it implies: GNU tar takes it from its umask and
the clock."""


def padded(data: bytes) -> bytes:
    """Data in whole blocks."""
    return data + bytes(-len(data) % 512)


def header(
    name: bytes,
    *,
    flag: bytes = b"0",
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 1_000_000_000,
    linkname: bytes = b"",
    major: int = 0,
    minor: int = 0,
    size_field: bytes | None = None,
) -> bytes:
    """One ustar header; ``size_field`` is put in as it stands."""
    block = bytearray(512)

    def put(at: int, data: bytes) -> None:
        block[at : at + len(data)] = data

    put(0, name[:100])
    put(100, b"%07o\0%07o\0%07o\0" % (mode, uid, gid))
    put(124, b"%011o\0" % size if size_field is None else size_field)
    put(136, b"%011o\0" % mtime)
    put(156, flag)
    put(157, linkname[:100])
    put(257, b"ustar\x0000")
    put(329, b"%07o\0%07o\0" % (major, minor))
    put(148, b" " * 8)
    put(148, b"%06o\0 " % sum(block))
    return bytes(block)


def file(
    name: bytes, data: bytes = b"contents", *, mode: int = 0o644, mtime: int = 1_000_000_000
) -> bytes:
    """A regular file."""
    return header(name, size=len(data), mode=mode, mtime=mtime) + padded(data)


def directory(name: bytes, *, mode: int = 0o755, mtime: int = 1_000_000_000) -> bytes:
    """A directory."""
    return header(name, flag=b"5", mode=mode, mtime=mtime)


def symlink(name: bytes, target: bytes, *, mtime: int = 1_000_000_000) -> bytes:
    """A symbolic link."""
    return header(name, flag=b"2", linkname=target, mtime=mtime)


def hardlink(name: bytes, target: bytes) -> bytes:
    """A hard link to an earlier member."""
    return header(name, flag=b"1", linkname=target)


def fifo(name: bytes, *, mtime: int = 1_000_000_000) -> bytes:
    """A named pipe."""
    return header(name, flag=b"6", mtime=mtime)


def device(name: bytes, major: int, minor: int, *, block: bool = False) -> bytes:
    """A device."""
    return header(name, flag=b"4" if block else b"3", major=major, minor=minor)


def extended(records: dict[bytes, bytes], member: bytes) -> bytes:
    """A member with a pax extended header in front of it."""
    body = b"".join(format_record(*record) for record in records.items())
    return header(b"PaxHeaders/x", flag=b"x", size=len(body)) + padded(body) + member


def tarball(*members: bytes) -> bytes:
    """An archive with its end mark."""
    return b"".join(members) + END


def gnu_tar(*arguments: str | bytes | Path, cwd: Path, check: bool = True) -> str:
    """Run GNU tar; what it said on standard error."""
    done = subprocess.run(
        ["tar", *arguments], cwd=cwd, capture_output=True, check=False, env=TAR_ENVIRONMENT
    )
    assert not check or done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stderr.decode("utf-8", "replace")


def unpack(archive: Path, into: Path, *options: str, check: bool = True) -> str:
    """Unpack with GNU tar as faithfully as it can; what it complained of."""
    into.mkdir()
    return gnu_tar(
        "--numeric-owner", "-xpf", archive, "-C", into, *options, cwd=archive.parent, check=check
    )


def fetch_all(volume: Volume) -> None:
    """Have every tarball of a volume in its store."""
    for number, _ in [*volume.tarballs.catalogue]:
        volume.tarballs.fetch(number)


def root_of(volume: Volume, path: bytes) -> tuple[Files, int]:
    """The file system, and the inode of a path that is made there if need be."""
    fetch_all(volume)
    files = volume.files(wait=True)
    return files, files.open_path(path).inode


def assert_as_unpacked(
    volume: Volume, path: bytes, unpacked: Path, *, ignoring: Collection[str] = ()
) -> int:
    """What a volume shows below ``path`` is what lies in a directory; the number of files."""
    files, inode = root_of(volume, path)
    assert [*violations(volume)] == []
    return assert_same_tree(tree_of(unpacked), tree_of_volume(files, inode), ignoring=ignoring)


def served(volume: Volume, path: bytes) -> dict[bytes, object]:
    """All of a tree that is made of few small files: contents by path, targets, ``None``."""
    files, inode = root_of(volume, path)
    found: dict[bytes, object] = {}
    for node in tree_of_volume(files, inode):
        value: object = None
        if stat.S_ISREG(node.mode):
            value = b"".join(node.contents())
        elif stat.S_ISLNK(node.mode):
            value = (b"->", node.target)
        found[b"/".join(node.path)] = value
    del found[b""]
    return found


def ingested(stores: Stores, volume: Volume, data: bytes, name: str = "a.tar") -> Volume:
    """The volume, after a tarball was put in its store and fetched."""
    stores.backing.write(name, data)
    volume.refresh()
    fetch_all(volume)
    return volume


def is_root() -> bool:
    """May this process give files away and make devices?"""
    return os.geteuid() == 0

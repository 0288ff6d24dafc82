"""What a writable tree is made of, without the contents of files, as lines of JSON; and back.

A line for each inode, by number: attributes, extended attributes, the target of a symbolic link,
and every name, with the directory that it is in.  The first line says what this is, the last one
how many there were, with a digest of all lines before it.  A file that is made from its line is a
hole of its size.  What is unlinked and still in use is left out.
"""

from __future__ import annotations

import json
import stat
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from hashlib import blake2b
from itertools import islice
from typing import Any

import attrs

from kvfs.checking import problems
from kvfs.checking.reading import LAYOUTS, Space, Tree, read_node
from kvfs.errors import AlreadyExists, Corrupt, Unsupported
from kvfs.files import Contents, NameHash
from kvfs.files.change import Change
from kvfs.files.nodes import Node
from kvfs.files.records import (
    FIRST_SLOT,
    INODE_KEY,
    LINK_KEY,
    ROOT_INODE,
    Attributes,
    DirentRecord,
    InodeFlag,
    decode_device,
    encode_device,
    is_own,
    link_key,
    volume_key,
    xattr_key,
)
from kvfs.kv import Readable, prefix_end
from kvfs.metrics import Progress
from kvfs.volume import Volume
from kvfs.volume.writing import Writing

NAME = "kvfs metadata"
VERSION = 1
_WINDOW = 512
_NEXT = volume_key("next")
_TYPES = {
    "file": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "character device": stat.S_IFCHR,
    "block device": stat.S_IFBLK,
}
_NAMES = {mode: name for name, mode in _TYPES.items()}
_FIELDS = ("uid", "gid", "size", "mtime_ns", "atime_ns", "ctime_ns")

Fields = dict[str, Any]


@attrs.define
class Summary:
    """What was written, or read; the last line."""

    inodes: int = 0
    names: int = 0


def _line(fields: Fields) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _check_kind(volume: Volume) -> None:
    if not volume.is_scratch:
        raise Unsupported(
            f"{volume.name} is of tarballs, whose metadata are in their objects: kvfs tar "
            "writes one as it is now, with its changes; kvfs kv copy and kv dump take all along"
        )


# -- out -------------------------------------------------------------------------------------------


def dump(
    volume: Volume, write: Callable[[bytes], object], *, progress: Progress | None = None
) -> Summary:
    """Write the metadata of the tree, of one instant where the engine has snapshots.

    :param write: is given a line at a time.
    :raises Corrupt: the tree contradicts itself: mend it first.
    :raises Unsupported: the volume is of tarballs.
    """
    _check_kind(volume)
    progress = progress or Progress()
    progress.begin("metadata")
    digest, summary = blake2b(digest_size=16), Summary()

    def put(fields: Fields) -> None:
        line = _line(fields)
        digest.update(line)
        write(line)

    put({"format": NAME, "version": VERSION, "volume": volume.name})
    with volume.state.snapshot() as view:
        for fields in _inodes(_tree(volume, view, progress)):
            put(fields)
            summary.inodes += 1
            summary.names += len(fields["names"])
    write(_line({"end": attrs.asdict(summary), "digest": digest.hexdigest()}))
    return summary


def _tree(volume: Volume, reader: Readable, progress: Progress) -> Tree:
    superblock, settings = volume.superblock, volume.config.volume
    return Tree(
        reader=reader,
        names=NameHash(superblock.hash_seed, superblock.hash_bits),
        extent_bytes=superblock.extent_bytes,
        size_max=_contents(volume).size_max,
        owner=(settings.uid, settings.gid),
        saw=progress.saw,
    )


def _contents(volume: Volume) -> Contents:
    superblock = volume.superblock
    return Contents(inline_bytes=superblock.inline_bytes, extent_bytes=superblock.extent_bytes)


def _inodes(tree: Tree) -> Iterator[Fields]:
    with ExitStack() as stack:
        inodes, links, unlinked, xattrs = (
            stack.enter_context(Space(tree, letter)) for letter in (b"I", b"H", b"U", b"A")
        )
        records = inodes.each()
        while window := [
            (inode, read_node(record.value)) for inode, record in islice(records, _WINDOW)
        ]:
            places = [(node.parent, node.slot) for _, node in window if node is not None]
            firsts = iter(tree.dirents(places))
            for inode, node in window:
                if node is None:
                    raise _contradicts(inode, "its record cannot be read")
                names = [] if inode == ROOT_INODE else [(node.parent, next(firsts))]
                if inode == ROOT_INODE:
                    next(firsts)
                for key, *_ in links.of(inode):
                    _, _, parent, slot = LINK_KEY.unpack(key)
                    names += [(parent, dirent) for dirent in tree.dirents([(parent, slot)])]
                values = [(key[INODE_KEY.size :], bytes(raw)) for key, raw, _ in xattrs.of(inode)]
                if any(True for _ in unlinked.of(inode)):
                    continue
                fields = _fields(inode, node)
                fields["names"] = [[parent, _name(inode, dirent)] for parent, dirent in names]
                if values:
                    fields["xattrs"] = {
                        _text(name): b64encode(value).decode() for name, value in values
                    }
                yield fields


def _fields(inode: int, node: Node) -> Fields:
    attributes = node.attributes
    kind = stat.S_IFMT(attributes.mode)
    fields: Fields = {
        "inode": inode,
        "type": _NAMES[kind],
        "mode": f"{stat.S_IMODE(attributes.mode):04o}",
    }
    fields |= {name: getattr(attributes, name) for name in _FIELDS}
    if node.is_directory:
        fields["nlink"] = attributes.nlink
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        fields["major"], fields["minor"] = decode_device(attributes.rdev)
    if kind == stat.S_IFLNK:
        fields["target"] = _text(node.content)
    return fields


def _name(inode: int, dirent: DirentRecord | None) -> str:
    if dirent is None or dirent.inode != inode:
        raise _contradicts(inode, "it has not the names that it speaks of")
    return _text(dirent.name)


def _contradicts(inode: int, why: str) -> Corrupt:
    return Corrupt(f"inode {inode}: {why}: run kvfs fsck, or unmount first if it is written to")


# -- in --------------------------------------------------------------------------------------------


def load(volume: Volume, lines: Iterable[bytes], *, progress: Progress | None = None) -> Summary:
    """Make the tree that :func:`dump` wrote, in a volume that is empty; all of it or nothing.

    Inode numbers are kept.

    :raises AlreadyExists: there is something in the volume, or somebody writes to it.
    :raises Corrupt: the lines were cut off or changed, or are no such lines.
    :raises Unsupported: the volume is of tarballs, or the lines are of another version.
    """
    _check_kind(volume)
    dirents = (b"D" + bytes(8), prefix_end(b"D"))
    if any(True for _ in volume.state.scan(*dirents, limit=1)):
        raise AlreadyExists(f"{volume.name} is not empty: metadata are loaded into a new volume")
    progress = progress or Progress()
    progress.begin("metadata")
    writing = volume.claim_writing("load")
    with closing(writing):
        try:
            summary = _Load(volume, writing, progress).run(lines)
            writing.sync()
            if any(True for _ in problems(volume, writing.store.driver)):
                raise Corrupt("the lines contradict each other: not all directories are in them")
        except BaseException:
            for letter in LAYOUTS:
                writing.store.clear_range(
                    letter, prefix_end(letter) or b"", durability=writing.durability
                )
            raise
    return summary


class _Load:
    def __init__(self, volume: Volume, writing: Writing, progress: Progress) -> None:
        self._volume = volume
        self._writing = writing
        self._progress = progress
        superblock = volume.superblock
        self._hash = NameHash(superblock.hash_seed, superblock.hash_bits)
        self._digest = blake2b(digest_size=16)
        self._summary = Summary()

    def run(self, lines: Iterable[bytes]) -> Summary:
        rest = enumerate(lines, 1)
        self._check_header(*next(rest, (1, b"")))
        highest = ROOT_INODE
        for number, line in rest:
            fields = _parse(number, line)
            if "end" in fields:
                self._check_end(fields)
                break
            self._digest.update(line)
            try:
                highest = max(highest, self._make(fields))
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                raise Corrupt(f"line {number} describes no inode: {error!r}") from error
            self._progress.saw(len(line))
        else:
            raise Corrupt("the lines were cut off: the last one is missing")
        following = max(highest + 1, int(self._volume.state.get(_NEXT) or 0))
        self._volume.state.put(_NEXT, str(following).encode())  # past the queue, as it is claimed
        return self._summary

    def _check_header(self, number: int, line: bytes) -> None:
        self._digest.update(line)
        header = _parse(number, line)
        if header.get("format") != NAME:
            raise Corrupt("these are no lines of kvfs dump (kvfs kv load reads what kv dump wrote)")
        if header.get("version") != VERSION:
            raise Unsupported(
                f"the lines have version {header.get('version')}, this kvfs reads {VERSION}"
            )

    def _check_end(self, fields: Fields) -> None:
        counted = {"end": attrs.asdict(self._summary), "digest": self._digest.hexdigest()}
        if fields != counted:
            raise Corrupt("the lines were changed: their digest is another than the last one says")

    def _make(self, fields: Fields) -> int:
        node = _node(fields)
        inode = node.inode
        change = Change(self._writing.store.driver, self._hash, time.time_ns())
        for parent, text in fields["names"]:
            name = _bytes(text)
            slot, taken = change.find(parent, name)
            if taken is not None or slot < FIRST_SLOT:
                raise ValueError(f"{text!r} is in {parent} twice")
            change.put_name(parent, slot, name, node)
            if node.parent:
                change.put(link_key(inode, parent, slot), b"")
            else:
                node.parent, node.slot = parent, slot
        if inode == ROOT_INODE:
            node.parent = ROOT_INODE
        for name, value in fields.get("xattrs", {}).items():
            node.flags |= InodeFlag.XATTRS
            change.put(xattr_key(inode, _bytes(name)), b64decode(value, validate=True))
        change.store(node)
        self._writing.store.commit(change.finish(), self._writing.durability)
        self._summary.inodes += 1
        self._summary.names += len(fields["names"])
        return inode


def _parse(number: int, line: bytes) -> Fields:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise Corrupt(f"line {number} is no JSON: the lines were cut off or changed") from error
    if not isinstance(fields, dict):
        raise Corrupt(f"line {number} is no JSON object")
    return fields


def _node(fields: Fields) -> Node:
    kind = _TYPES[fields["type"]]
    attributes = Attributes(
        inode=fields["inode"],
        mode=kind | int(fields["mode"], 8),
        nlink=fields["nlink"] if kind == stat.S_IFDIR else len(fields["names"]),
        **{name: int(fields[name]) for name in _FIELDS},
    )
    if not is_own(attributes.inode):
        raise ValueError(f"{attributes.inode} is no number of an inode")
    node = Node(attributes=attributes, parent=0, slot=0)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        attributes.rdev = encode_device(fields["major"], fields["minor"])
    if kind == stat.S_IFLNK:
        node.content = _bytes(fields["target"])
    if kind == stat.S_IFREG and attributes.size:
        node.flags |= InodeFlag.EXTENTS
    return node


__all__ = ["NAME", "VERSION", "Summary", "dump", "load"]

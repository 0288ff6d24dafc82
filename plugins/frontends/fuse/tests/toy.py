"""A file system in memory, with the interface of :class:`kvfs.files.Files`, to mount in tests.

It takes the place of the volume, not of the binding: every test of a mount goes through the kernel.
Replies are rendered here from the C structs once more, so that the test does not share the layouts
of what it tests.
"""

from __future__ import annotations

import hashlib
import random
import stat
import struct
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs

from kvfs.errors import Corrupt, NotFound
from kvfs.files import NotResident, StatFS
from kvfs.kv import Buffer
from kvfs.volume import Observer

FOREVER_S = 1 << 40
ROOT = 1
GATED_TARBALL = 7
Content = bytes | memoryview


@attrs.define(kw_only=True)
class Node:
    """One inode."""

    number: int
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 1_700_000_000_123_456_789
    rdev: int = 0
    nlink: int = 1
    content: Content = b""
    children: dict[bytes, Node] = attrs.field(factory=dict)
    order: list[bytes] = attrs.field(factory=list)
    parent: Node | None = None
    xattrs: dict[bytes, bytes] = attrs.field(factory=dict)
    gated: bool = False
    broken: str = ""
    entries: list[bytes] = attrs.field(factory=list)

    @property
    def size(self) -> int:
        """``st_size``."""
        return len(self.content)

    def attr(self) -> bytes:
        """``struct fuse_attr``."""
        seconds, nanoseconds = divmod(self.mtime_ns, 10**9)
        return struct.pack(
            "=QQQqqqIIIIIIIIII",
            *(self.number, self.size, -(-self.size // 512), seconds, seconds, seconds),
            *(nanoseconds, nanoseconds, nanoseconds, self.mode, self.nlink),
            *(self.uid, self.gid, self.rdev, 4096, 0),
        )

    def entry(self) -> bytes:
        """``struct fuse_entry_out``."""
        return struct.pack("=QQQQII", self.number, 0, FOREVER_S, FOREVER_S, 0, 0) + self.attr()


class Tree:
    """All inodes, by number."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.root = self._new(None, mode=stat.S_IFDIR | 0o755)

    def _new(self, parent: Node | None, *, mode: int, content: Content = b"") -> Node:
        number = len(self.nodes) + ROOT
        node = Node(number=number, mode=mode, parent=parent, content=content)
        node.nlink = 2 if stat.S_ISDIR(mode) else 1
        self.nodes[number] = node
        return node

    def add(self, parent: Node, name: bytes, mode: int, content: Content = b"") -> Node:
        """A new inode under a name."""
        node = self._new(parent, mode=mode, content=content)
        self.link(parent, name, node)
        if stat.S_ISDIR(mode):
            parent.nlink += 1
        return node

    def directory(self, parent: Node, name: bytes) -> Node:
        """A new directory."""
        return self.add(parent, name, stat.S_IFDIR | 0o755)

    def file(self, parent: Node, name: bytes, content: Content = b"") -> Node:
        """A new regular file."""
        return self.add(parent, name, stat.S_IFREG | 0o644, content)

    def link(self, parent: Node, name: bytes, node: Node) -> None:
        """One more name of an inode."""
        parent.children[name] = node
        parent.order.append(name)


class Gate:
    """Opens when somebody opens and closes a FIFO for writing; until then contents are missing."""

    def __init__(self, fifo: str | None) -> None:
        self.open = threading.Event()
        if fifo is not None:
            threading.Thread(target=self._watch, args=(fifo,), daemon=True).start()

    def _watch(self, fifo: str) -> None:
        Path(fifo).read_bytes()
        self.open.set()

    def wait(self) -> None:
        """Block until it opens; says so on standard output."""
        print("waiting", flush=True)
        self.open.wait()


class ToyFiles:
    """The binding's view of a :class:`Tree`."""

    def __init__(self, tree: Tree, gate: Gate, *, wait: bool, calls: Counter[str]) -> None:
        self._tree = tree
        self._gate = gate
        self._wait = wait
        self._calls = calls

    def _node(self, inode: int, call: str, *, gated: bool = True) -> Node:
        self._calls[call] += 1
        node = self._tree.nodes.get(inode)
        if node is None:
            raise NotFound(f"no inode {inode}")
        if node.gated and gated and not self._gate.open.is_set():
            if not self._wait:
                print("missing", flush=True)
                raise NotResident(GATED_TARBALL)
            self._gate.wait()
        return node

    def lookup(self, parent: int, name: bytes) -> bytes | None:
        child = self._node(parent, "lookup").children.get(name)
        return None if child is None else child.entry()

    def negative_timeout_s(self, parent: int) -> int:
        return FOREVER_S

    def getattr(self, inode: int) -> bytes:
        node = self._node(inode, "getattr", gated=False)
        return struct.pack("=QII", FOREVER_S, 0, 0) + node.attr()

    def _entries(self, node: Node) -> list[bytes]:
        if not node.entries:
            listed = [(b".", node), (b"..", node.parent or node)]
            listed += [(name, node.children[name]) for name in node.order]
            for cookie, (name, child) in enumerate(listed, start=1):
                padding = bytes(-len(name) % 8)
                kind = child.mode >> 12
                head = struct.pack("=QQII", child.number, cookie, len(name), kind)
                node.entries.append(child.entry() + head + name + padding)
        return node.entries

    def readdir(self, inode: int, cookie: int, size: int, plus: bool) -> list[Buffer]:
        node = self._node(inode, "readdirplus" if plus else "readdir")
        found: list[Buffer] = []
        entries = self._entries(node)
        for index in range(cookie, len(entries)):
            entry = memoryview(entries[index])[0 if plus else 128 :]
            size -= len(entry)
            if size < 0:
                break
            found.append(entry)
        return found

    def read(self, inode: int, offset: int, size: int) -> list[Buffer]:
        node = self._node(inode, "read")
        if node.broken == "corrupt":
            raise Corrupt("this node is corrupt on purpose")
        if node.broken == "bug":
            raise ZeroDivisionError("this node raises on purpose")
        return [memoryview(node.content)[offset : offset + size]]

    def readlink(self, inode: int) -> Content:
        return self._node(inode, "readlink").content

    def getxattr(self, inode: int, name: bytes) -> bytes | None:
        return self._node(inode, "getxattr", gated=False).xattrs.get(name)

    def listxattr(self, inode: int) -> list[bytes]:
        return list(self._node(inode, "listxattr", gated=False).xattrs)

    def statfs(self) -> StatFS:
        self._calls["statfs"] += 1
        return StatFS(
            bsize=65536,
            frsize=4096,
            blocks=1000,
            bfree=400,
            bavail=300,
            files=len(self._tree.nodes),
            ffree=17,
            namelen=255,
        )

    def close(self) -> None:
        self._calls["close"] += 1


class ToyVolume:
    """A volume that is a :class:`Tree`; counts the calls made on it."""

    def __init__(self, tree: Tree, *, read_only: bool = True, gate: Gate | None = None) -> None:
        self.name = "toy"
        self.read_only = read_only
        self.is_shared = False
        self.calls: Counter[str] = Counter()
        self._tree = tree
        self._gate = gate or Gate(None)

    def files(self, *, wait: bool) -> ToyFiles:
        return ToyFiles(self._tree, self._gate, wait=wait, calls=self.calls)

    def begin_writing(self, mount: str, *, before_first: Callable[[], object]) -> None:
        raise AssertionError("nothing of it can be written to")

    def following(self) -> None:
        return None

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        return lambda: None


def pattern(size: int, seed: int) -> bytes:
    """``size`` bytes that differ at every offset of interest."""
    return random.Random(seed).randbytes(size)


ODD_NAMES = (
    b"with space",
    b"tab\there",
    b"line\nbreak",
    b"back\\slash",
    "grüße-日本".encode(),
    b"\xff\xfe not utf-8 \x80",
    b"-rf",
    b"x" * 255,
    b"\xf0" * 255,
)
BIG_BYTES = (24 << 20) + 4097


def small() -> Tree:
    """One of everything."""
    tree = Tree()
    root = tree.root
    tree.file(root, b"empty")
    for size in (1, 511, 4095, 4096, 4097, 131072, 300_001):
        tree.file(root, b"bytes-%d" % size, pattern(size, size))
    tree.file(root, b"big", pattern(BIG_BYTES, 99))
    sub = tree.directory(root, b"sub")
    tree.file(tree.directory(sub, b"deeper"), b"leaf", b"leaf\n")
    tree.add(root, b"link", stat.S_IFLNK | 0o777, b"sub/deeper/leaf")
    tree.add(root, b"long-link", stat.S_IFLNK | 0o777, b"t" * 4095)
    tree.add(root, b"fifo", stat.S_IFIFO | 0o620)
    tree.add(root, b"socket", stat.S_IFSOCK | 0o600)
    tree.add(root, b"null", stat.S_IFCHR | 0o666).rdev = (1 << 8) | 3
    tree.add(root, b"disk", stat.S_IFBLK | 0o660).rdev = (8 << 8) | 17
    setuid = tree.file(root, b"setuid", b"#!/bin/sh\n")
    setuid.mode, setuid.uid, setuid.gid = stat.S_IFREG | 0o6755, 12345, 4_000_000_000
    old = tree.file(root, b"before-1970")
    old.mtime_ns = -1_500_000_000
    tree.file(root, b"far-future").mtime_ns = (1 << 33) * 10**9 + 1
    twice = tree.file(root, b"one-name", b"shared\n")
    twice.nlink = 2
    tree.link(sub, b"another-name", twice)
    secret = tree.file(root, b"secret", b"secret\n")
    secret.mode = stat.S_IFREG | 0o600
    tagged = tree.file(root, b"tagged")
    tagged.xattrs = {b"user.colour": b"blue", b"user.empty": b"", b"user.raw": bytes(range(256))}
    odd = tree.directory(root, b"odd")
    for name in ODD_NAMES:
        tree.file(odd, name, hashlib.sha256(name).digest())
    gated = tree.directory(root, b"gated")
    gated.gated = True
    tree.file(gated, b"file", b"arrived\n")
    tree.file(root, b"gated-file", b"arrived as well\n").gated = True
    tree.file(root, b"corrupt", b"never seen").broken = "corrupt"
    tree.file(root, b"bug", b"never seen").broken = "bug"
    return tree


def listing(entries: int) -> Tree:
    """One directory ``many`` with that many files."""
    tree = Tree()
    many = tree.directory(tree.root, b"many")
    for number in range(entries):
        tree.file(many, b"entry-%07d" % number, b"%d" % number)
    return tree


def forest(files: int, *, per_directory: int = 185) -> Tree:
    """Files of 1-64 KiB, small ones more often, over directories."""
    tree = Tree()
    source = random.Random(5)
    block = memoryview(pattern(128 << 10, 6))
    directory = tree.root
    for number in range(files):
        if number % per_directory == 0:
            directory = tree.directory(tree.root, b"d%04d" % (number // per_directory))
        size = min(max(int(source.lognormvariate(9.2, 0.9)), 1024), 65536)
        start = source.randrange(len(block) - size)
        tree.file(directory, b"f%06d" % number, block[start : start + size])
    return tree


def tree_of(spec: str) -> Tree:
    """``small``, ``listing:N`` or ``forest:N``."""
    kind, _, count = spec.partition(":")
    if kind == "listing":
        return listing(int(count))
    if kind == "forest":
        return forest(int(count))
    assert kind == "small", spec
    return small()

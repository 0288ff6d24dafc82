"""Two trees compared: a directory with a directory, or with what a volume serves.

:func:`tree_of` goes through a directory, :func:`tree_of_volume` through a volume without a mount.
Both give :class:`Node` after :class:`Node` in one order, so :func:`differences` is a merge: memory
holds the names of the directories on the way down and one node of either side, never a tree.

    assert_same_tree(tree_of(unpacked), tree_of(mounted))

Paths may be longer than the kernel takes in one call: every name is looked up in its own directory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from itertools import islice, zip_longest

import attrs

from kvfs.files import Attributes, Files
from kvfs.files.records import ROOT_INODE, decode_device

CHUNK = 1 << 20
DIFFERENCES_SHOWN = 20

Path = tuple[bytes, ...]


@attrs.frozen(kw_only=True)
class Node:
    """One file of a tree, with everything that a program can see of it."""

    path: Path
    """The names below the root of the tree; empty for the root."""
    mode: int
    """Type and permission bits, as in ``st_mode``."""
    uid: int
    gid: int
    size: int | None
    """Bytes; ``None`` for a directory, whose size is the file system's own business."""
    mtime_ns: int
    nlink: int
    rdev: tuple[int, int]
    """Major and minor number of a device, (0, 0) of anything else."""
    target: bytes | None
    """Of a symbolic link."""
    xattrs: dict[bytes, bytes]
    same_as: Path | None
    """The first path of the tree that is a hard link to the same file, if that came before."""
    contents: Callable[[], Iterator[bytes]] = attrs.field(eq=False, repr=False)
    """The bytes of a regular file in pieces of :data:`CHUNK`; until the next node is asked for."""

    def __str__(self) -> str:
        """The path, printable."""
        return os.fsdecode(b"/".join(self.path)) or "(the root)"


_COMPARED = tuple(
    field.name for field in attrs.fields(Node) if field.name not in ("path", "contents")
)


# -- a directory ---------------------------------------------------------------------------------


def tree_of(root: str | bytes | os.PathLike[str]) -> Iterator[Node]:
    """The nodes of a directory, itself first, each directory before what is in it, names sorted.

    Symbolic links are not followed, below ``root``.  As many descriptors are open at a time as the
    tree is deep.  Extended attributes are those that the caller may read: ``user.*`` for a user.

    :raises OSError: something cannot be read, or the tree changes meanwhile.
    """
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        seen: dict[tuple[int, int], Path] = {}
        yield _node_of_path((), here, b".", seen)
        yield from _below((), here, seen)
    finally:
        os.close(here)


def _below(path: Path, here: int, seen: dict[tuple[int, int], Path]) -> Iterator[Node]:
    for name in sorted(map(os.fsencode, os.listdir(here))):
        node = _node_of_path((*path, name), here, name, seen)
        yield node
        if stat.S_ISDIR(node.mode):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            there = os.open(name, flags, dir_fd=here)
            try:
                yield from _below(node.path, there, seen)
            finally:
                os.close(there)


def _node_of_path(path: Path, here: int, name: bytes, seen: dict[tuple[int, int], Path]) -> Node:
    found = os.stat(name, dir_fd=here, follow_symlinks=False)
    is_device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    is_directory = stat.S_ISDIR(found.st_mode)
    same_as = None
    if found.st_nlink > 1 and not is_directory:
        same_as = seen.setdefault((found.st_dev, found.st_ino), path)
    # The functions for attributes take no descriptor of a directory beside a name.
    place = b"/proc/self/fd/%d/%s" % (here, name)
    names = [*map(os.fsencode, os.listxattr(place, follow_symlinks=False))]

    def contents() -> Iterator[bytes]:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        with open(fd, "rb", buffering=0) as file:
            yield from _whole_chunks(lambda offset, size: os.pread(file.fileno(), size, offset))

    return Node(
        path=path,
        mode=found.st_mode,
        uid=found.st_uid,
        gid=found.st_gid,
        size=None if is_directory else found.st_size,
        mtime_ns=found.st_mtime_ns,
        nlink=found.st_nlink,
        rdev=(os.major(found.st_rdev), os.minor(found.st_rdev)) if is_device else (0, 0),
        target=os.readlink(name, dir_fd=here) if stat.S_ISLNK(found.st_mode) else None,
        xattrs={each: os.getxattr(place, each, follow_symlinks=False) for each in names},
        same_as=None if same_as == path else same_as,
        contents=contents,
    )


def _whole_chunks(read: Callable[[int, int], bytes]) -> Iterator[bytes]:
    """A file in pieces of :data:`CHUNK`, the last one shorter, whatever each read returns."""
    offset = 0
    pieces: list[bytes] = []
    missing = CHUNK
    while piece := read(offset, missing):
        offset += len(piece)
        missing -= len(piece)
        pieces.append(piece)
        if not missing:
            yield b"".join(pieces)
            pieces, missing = [], CHUNK
    if pieces:
        yield b"".join(pieces)


# -- a volume ------------------------------------------------------------------------------------


def tree_of_volume(files: Files, inode: int = ROOT_INODE) -> Iterator[Node]:
    """The nodes of a directory of a volume, in the order of :func:`tree_of`.

    Each name is looked up, as a kernel does, after the listing that it comes from.

    :param files: one that waits (``Volume.files(wait=True)``), or all of whose tarballs are there.
    :raises KVFSError: what ``files`` raises.
    :raises AssertionError: listing, lookup and inode disagree about a file.
    """
    seen: dict[int, Path] = {}
    yield _node_of_inode((), files, files.stat(inode), seen)
    yield from _below_inode((), files, inode, seen)


def _below_inode(path: Path, files: Files, inode: int, seen: dict[int, Path]) -> Iterator[Node]:
    listed = {entry.name: entry.attributes for entry in files.entries(inode)}
    for name in sorted(listed):
        attributes = files.find(inode, name)
        if attributes is None or not attributes == listed[name] == files.stat(attributes.inode):
            raise AssertionError(
                f"{(*path, name)!r} is listed as {listed[name]}, found as {attributes}"
            )
        node = _node_of_inode((*path, name), files, attributes, seen)
        yield node
        if attributes.is_directory:
            yield from _below_inode(node.path, files, attributes.inode, seen)


def _node_of_inode(path: Path, files: Files, attributes: Attributes, seen: dict[int, Path]) -> Node:
    inode, mode = attributes.inode, attributes.mode
    same_as = None
    if attributes.nlink > 1 and not attributes.is_directory:
        same_as = seen.setdefault(inode, path)
    xattrs = {}
    for name in files.listxattr(inode):
        value = files.getxattr(inode, name)
        if value is None:
            raise AssertionError(f"{path!r}: the attribute {name!r} is listed, but not there")
        xattrs[name] = bytes(value)

    def contents() -> Iterator[bytes]:
        return _whole_chunks(lambda offset, size: b"".join(files.read(inode, offset, size)))

    return Node(
        path=path,
        mode=mode,
        uid=attributes.uid,
        gid=attributes.gid,
        size=None if attributes.is_directory else attributes.size,
        mtime_ns=attributes.mtime_ns,
        nlink=attributes.nlink,
        rdev=decode_device(attributes.rdev),
        target=bytes(files.readlink(inode)) if stat.S_ISLNK(mode) else None,
        xattrs=xattrs,
        same_as=None if same_as == path else same_as,
        contents=contents,
    )


# -- the comparison ------------------------------------------------------------------------------


def differences(
    left: Iterator[Node], right: Iterator[Node], *, ignoring: Collection[str] = ()
) -> Iterator[str]:
    """A line for each thing that differs; none if the trees are the same.

    :param ignoring: fields of :class:`Node` that are not compared, or ``contents``; ``root`` for
        all of the root but its being a directory; ``directory.FIELD`` for a field of directories.
    """
    fields = [name for name in _COMPARED if name not in ignoring]
    of_directories = [name for name in fields if f"directory.{name}" not in ignoring]
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.path < other.path):
            yield f"{one}: only in the first tree"
            one = next(left, None)
        elif one is None or other.path < one.path:
            yield f"{other}: only in the second tree"
            other = next(right, None)
        else:
            if one.path or "root" not in ignoring:
                both = stat.S_ISDIR(one.mode) and stat.S_ISDIR(other.mode)
                yield from _fields_differ(one, other, of_directories if both else fields)
            if "contents" not in ignoring:
                yield from _contents_differ(one, other)
            one, other = next(left, None), next(right, None)


def _fields_differ(one: Node, other: Node, fields: list[str]) -> Iterator[str]:
    for name in fields:
        mine, yours = getattr(one, name), getattr(other, name)
        if mine != yours:
            form = oct if name == "mode" else repr
            yield f"{one}: {name}: {form(mine)} in the first tree, {form(yours)} in the second"


def _contents_differ(one: Node, other: Node) -> Iterator[str]:
    if not (stat.S_ISREG(one.mode) and stat.S_ISREG(other.mode)):
        return
    for number, (mine, yours) in enumerate(
        zip_longest(one.contents(), other.contents(), fillvalue=b"")
    ):
        if mine != yours:
            length = min(len(mine), len(yours))
            at = next((at for at in range(length) if mine[at] != yours[at]), length)
            yield f"{one}: contents differ from byte {number * CHUNK + at:,} on"
            return


def assert_same_tree(
    left: Iterator[Node], right: Iterator[Node], *, ignoring: Collection[str] = ()
) -> int:
    """Fail with the first differences, if there are any; the number of nodes compared.

    :param ignoring: as for :func:`differences`.
    """
    count = 0

    def counted() -> Iterator[Node]:
        nonlocal count
        for node in left:
            count += 1
            yield node

    found = [*islice(differences(counted(), right, ignoring=ignoring), DIFFERENCES_SHOWN + 1)]
    if found:
        more = ["..."] if len(found) > DIFFERENCES_SHOWN else []
        raise AssertionError("\n".join(["the trees differ:", *found[:DIFFERENCES_SHOWN], *more]))
    return count


__all__ = ["Node", "assert_same_tree", "differences", "tree_of", "tree_of_volume"]

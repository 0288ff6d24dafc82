"""The contents of a file of a writable tree: in its inode record while small, else in extents.

An extent holds its bytes up to the last one that was written; what lies behind, up to the next one,
is a hole, as is an extent that is not there.  Nothing is stored behind the end of the file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from kvfs.files.change import FEW, Change, Refused
from kvfs.files.nodes import Node
from kvfs.files.overlay import Overlay, scan_extents
from kvfs.files.records import InodeFlag, extent_key
from kvfs.kv import Buffer, Readable

BLOCK_BYTES = 512
_EXTENTS_MAX = 1 << 32


def blocks_of(size: int) -> int:
    """How many units of 512 bytes so many bytes take, as in ``st_blocks``."""
    return -(-size // BLOCK_BYTES)


class Contents:
    """Changes the contents of files.

    :param inline_bytes: what is kept in the inode record at most.
    :param extent_bytes: what one extent holds at most.
    """

    def __init__(self, *, inline_bytes: int, extent_bytes: int) -> None:
        self._inline_bytes = inline_bytes
        self._extent_bytes = extent_bytes
        self.size_max = min(_EXTENTS_MAX * extent_bytes, (1 << 63) - 1)
        """The largest file, in bytes."""

    def write(self, change: Change, node: Node, offset: int, data: Buffer) -> None:
        """Put ``data`` at ``offset``; the file grows if need be.

        :raises Refused: it would be too large.
        """
        stop = offset + len(data)
        self._check(stop)
        attributes = node.attributes
        if not node.has_extents:
            if max(stop, attributes.size) <= self._inline_bytes:
                before = node.content[:offset].ljust(offset, b"\0")
                node.content = b"".join((before, data, node.content[stop:]))
                attributes.size = len(node.content)
                attributes.blocks = blocks_of(attributes.size)
                return
            self._spill(change, node)
        size = attributes.size
        attributes.size = max(size, stop)
        with memoryview(data) as view:
            for number, low, high in self._pieces(offset, stop):
                start = number * self._extent_bytes + low - offset
                piece = view[start : start + high - low]
                self._put_piece(change, node, number, low, piece, size)

    def truncate(self, change: Change, node: Node, size: int) -> None:
        """Cut the file off, or let it grow by a hole.

        :raises Refused: it would be too large.
        """
        self._check(size)
        attributes = node.attributes
        if not node.has_extents:
            if size <= self._inline_bytes:
                node.content = node.content[:size].ljust(size, b"\0")
                attributes.blocks = blocks_of(size)
            else:
                self._spill(change, node)
        elif size == 0:
            self._remove(change, node, 0)
            node.flags &= ~InodeFlag.EXTENTS
            attributes.blocks = 0
        elif size < attributes.size:
            number, rest = divmod(size, self._extent_bytes)
            if rest:
                self._trim(change, node, number, rest)
                number += 1
            attributes.blocks -= self._stored(change, node, number)
            self._remove(change, node, number)
        attributes.size = size

    def zero(self, change: Change, node: Node, offset: int, length: int) -> int:
        """Let a range of the file read as zeros; extents that lie within it are given back.

        :returns: up to where that is done: what lies over something below has to name each extent,
            and one change names few.
        """
        attributes = node.attributes
        end = offset + length
        stop = min(end, attributes.size)
        if stop <= offset:
            return end
        if not node.has_extents:
            content = node.content
            node.content = b"".join((content[:offset], bytes(stop - offset), content[stop:]))
            return end
        if change.is_laid_over and (reached := self._reach(change, node, offset, stop)) < stop:
            end = stop = reached
        first, low = divmod(offset, self._extent_bytes)
        last, high = divmod(stop, self._extent_bytes)
        if high and stop == attributes.size:
            last, high = last + 1, 0  # nothing lies behind
        if low:
            self._clear(change, node, first, low, self._extent_bytes if first < last else high)
            first += 1
        if high and first <= last:
            self._clear(change, node, last, 0, high)
        if first < last:
            attributes.blocks -= self._stored(change, node, first, last)
            self._remove(change, node, first, last)
        return end

    def _reach(self, change: Change, node: Node, offset: int, stop: int) -> int:
        """How far a change gets that names each extent of a range."""
        first, last = offset // self._extent_bytes, -(-stop // self._extent_bytes)
        for count, (number, _) in enumerate(change.extents(node, first, last)):
            if count == FEW:
                return number * self._extent_bytes
        return stop

    def remove(self, change: Change, node: Node) -> None:
        """Give all of it back."""
        if node.has_extents:
            self._remove(change, node, 0)

    def seek(self, view: Readable | Overlay, node: Node, offset: int, whence: int) -> int:
        """Where the next data (``SEEK_DATA``) or hole (``SEEK_HOLE``) begins, from ``offset`` on.

        :raises Refused: there is none, or ``offset`` lies behind the end.
        """
        size = node.attributes.size
        if not 0 <= offset < size:
            raise Refused(errno.ENXIO, f"offset {offset} of a file of {size} bytes")
        for start, stop in self._data(view, node, offset):
            if whence == os.SEEK_DATA:
                return max(start, offset)
            if start > offset:
                return offset
            offset = max(stop, offset)
        if whence == os.SEEK_DATA:
            raise Refused(errno.ENXIO, f"no data behind {offset}")
        return min(offset, size)

    def _data(self, view: Readable | Overlay, node: Node, offset: int) -> Iterator[tuple[int, int]]:
        """The ranges that hold data, from the one at or behind ``offset`` on."""
        if not node.has_extents:
            yield 0, node.attributes.size
            return
        first = offset // self._extent_bytes
        for number, extent in scan_extents(view, node.inode, node.cut, first):
            base = number * self._extent_bytes
            if base + len(extent) > offset:
                yield base, base + len(extent)

    # -- extents -----------------------------------------------------------------------------------

    def _check(self, size: int) -> None:
        if size > self.size_max:
            raise Refused(errno.EFBIG, f"a file of {size} bytes (the largest: {self.size_max})")

    def _pieces(self, offset: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(number, low, high): the extents that a range touches, and which part of each."""
        extent_bytes = self._extent_bytes
        for number in range(offset // extent_bytes, -(-stop // extent_bytes)):
            base = number * extent_bytes
            yield number, max(offset - base, 0), min(stop - base, extent_bytes)

    def _spill(self, change: Change, node: Node) -> None:
        """Move contents out of the inode record."""
        content, node.content = node.content, b""
        node.flags |= InodeFlag.EXTENTS
        node.attributes.blocks = 0
        if content.strip(b"\0"):
            with memoryview(content) as view:
                for number, low, high in self._pieces(0, len(content)):
                    base = number * self._extent_bytes
                    self._put_piece(change, node, number, low, view[base : base + high], 0)

    def _put_piece(
        self, change: Change, node: Node, number: int, low: int, piece: Buffer, size: int
    ) -> None:
        """Write into an extent of a file that had ``size`` bytes before."""
        key = extent_key(node.inode, number)
        old: Buffer = b""
        if number * self._extent_bytes < size:
            old = change.extent(node, number)
        high = low + len(piece)
        before = blocks_of(len(old))
        if low == 0 and high >= len(old):
            fresh = bytes(piece)
        else:
            fresh = b"".join((bytes(old[:low]).ljust(low, b"\0"), piece, old[high:]))
        change.put(key, fresh)
        node.attributes.blocks += blocks_of(len(fresh)) - before

    def _clear(self, change: Change, node: Node, number: int, low: int, high: int) -> None:
        """Let a part of an extent read as zeros: what is a hole already stays one."""
        old = change.extent(node, number)
        if high >= len(old):
            self._trim(change, node, number, low)
        else:
            self._put_piece(change, node, number, low, bytes(high - low), node.attributes.size)

    def _trim(self, change: Change, node: Node, number: int, length: int) -> None:
        """Cut an extent off."""
        key = extent_key(node.inode, number)
        old = change.extent(node, number)
        if len(old) > length:
            node.attributes.blocks -= blocks_of(len(old)) - blocks_of(length)
            if length:
                change.put(key, bytes(old[:length]))
            else:
                change.delete(key)

    def _last(self, node: Node) -> int:
        return -(-node.attributes.size // self._extent_bytes)

    def _stored(self, change: Change, node: Node, first: int, stop: int | None = None) -> int:
        """The blocks that the extents from ``first`` up to ``stop`` take."""
        stop = self._last(node) if stop is None else stop
        if stop - first <= FEW:
            return sum(blocks_of(len(change.extent(node, number))) for number in range(first, stop))
        return sum(blocks_of(len(extent)) for _, extent in change.extents(node, first, stop))

    def _remove(self, change: Change, node: Node, first: int, stop: int | None = None) -> None:
        """Remove the extents from ``first`` up to ``stop``."""
        if stop is None:
            stop = self._last(node)
            change.cut(node, first)
        elif change.is_laid_over:
            for number, _ in change.extents(node, first, stop):
                change.delete(extent_key(node.inode, number))
            return
        if stop - first <= FEW:
            for number in range(first, stop):
                change.discard(extent_key(node.inode, number))
            return
        high = extent_key(node.inode, stop) if stop < _EXTENTS_MAX else _end(node.inode)
        change.batch.delete_range(extent_key(node.inode, first), high)


def _end(inode: int) -> bytes:
    """The first key behind all extents of an inode."""
    return extent_key(inode + 1, 0)


__all__ = ["Contents"]

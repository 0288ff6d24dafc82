"""Layers that do the same thing around every call: time it, delay it, repeat it, make it fail.

Such a layer is one :class:`Around`; :class:`KVAround` and :class:`BackingAround` lead every call
of a driver through it.  Operations have the names of the methods, and besides:

=================  ==============================================================================
``scan.next``      the next record of a scan (``scan`` begins it); of a driver or of a view
``list.next``      the next object of a listing (``list`` begins it)
``refresh``        of a view
``stream.read``    one read from an open reader
``stream.write``   one write to an open writer
``finish``         the end of a writer, at which the object appears
=================  ==============================================================================

``close`` is not led through it: a thing can always be let go of.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from kvfs.backing.driver import BackingDriver, ObjectInfo
from kvfs.capability import Durability
from kvfs.kv.driver import Batch, Buffer, KVDriver, KVStats, ReadView, Watch
from kvfs.layers.passing import BackingLayer, KVLayer, ViewLayer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")
Measure = Callable[[T], int]


def nothing(_: object = None) -> int:
    """The measure of what carries no payload."""
    return 0


def value_bytes(value: Buffer | None) -> int:
    """The payload of a point read."""
    return 0 if value is None else len(value)


def values_bytes(values: Sequence[Buffer | None]) -> int:
    """The payload of many point reads."""
    return sum(len(value) for value in values if value is not None)


def record_bytes(record: tuple[Buffer, Buffer]) -> int:
    """The payload of one record of a scan."""
    return len(record[0]) + len(record[1])


def count_bytes(count: int | None) -> int:
    """The payload of ``readinto`` or ``write``, which answer with a count."""
    return count or 0


class Around(ABC):
    """What a layer does around the calls of a driver."""

    @abstractmethod
    def call(
        self,
        operation: str,
        function: Callable[[], T],
        *,
        sent: Callable[[], int] = nothing,
        received: Measure[T] = nothing,
    ) -> T:
        """Do ``function``, and whatever the layer does around it.

        :param sent: how many bytes the call carries to the engine; asked only if it matters.
        :param received: how many bytes its result carries back.
        """

    def items(
        self,
        operation: str,
        begin: Callable[[], Iterator[T]],
        *,
        received: Measure[T] = nothing,
        resume: Callable[[T, int], Iterator[T]] | None = None,
    ) -> Iterator[T]:
        """Go through an iterator; its beginning and every step are calls.

        :param resume: the rest of the same iterator, given the last item and how many there were;
            ``None`` where it would not be the same one.
        """
        return self._steps(operation, self.call(operation, begin), received)

    def _steps(self, operation: str, iterator: Iterator[T], received: Measure[T]) -> Iterator[T]:
        def size(item: T | None) -> int:
            return 0 if item is None else received(item)

        step = partial(next, iterator, None)
        while (item := self.call(f"{operation}.next", step, received=size)) is not None:
            yield item

    def leaves_behind(self, writing: object, error: BaseException) -> bool:
        """Is an unfinished writer left as it is, as after a crash, instead of being undone?"""
        return False


class ViewAround(ViewLayer):
    """A view whose calls go through an :class:`Around`."""

    def __init__(self, inner: ReadView, around: Around) -> None:
        super().__init__(inner)
        self._around = around

    def get(self, key: bytes) -> Buffer | None:
        return self._around.call("get", partial(self.inner.get, key), received=value_bytes)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[Buffer | None]:
        call = partial(self.inner.get_many, keys)
        return self._around.call("get_many", call, received=values_bytes)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Buffer, Buffer]]:
        def resume(last: tuple[Buffer, Buffer], seen: int) -> Iterator[tuple[Buffer, Buffer]]:
            key = bytes(last[0])
            bounds = (start, key) if reverse else (key + b"\0", stop)
            rest = None if limit is None else limit - seen
            return self.inner.scan(*bounds, reverse=reverse, limit=rest)

        begin = partial(self.inner.scan, start, stop, reverse=reverse, limit=limit)
        return self._around.items("scan", begin, received=record_bytes, resume=resume)

    def refresh(self) -> None:
        self._around.call("refresh", self.inner.refresh)


class KVAround(KVLayer):
    """An engine whose calls go through an :class:`Around`."""

    def __init__(self, inner: KVDriver, around: Around) -> None:
        super().__init__(inner)
        self.around = around

    def get(self, key: bytes) -> bytes | None:
        return self.around.call("get", partial(self.inner.get, key), received=value_bytes)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        call = partial(self.inner.get_many, keys)
        return self.around.call("get_many", call, received=values_bytes)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        begin = partial(self.inner.scan, start, stop, reverse=reverse, limit=limit)
        return self.around.items("scan", begin, received=record_bytes)

    def commit(self, batch: Batch, durability: Durability) -> None:
        call = partial(self.inner.commit, batch, durability)
        self.around.call("commit", call, sent=lambda: batch.total_bytes)

    def snapshot(self) -> ReadView:
        return ViewAround(self.around.call("snapshot", self.inner.snapshot), self.around)

    def watch(self, start: bytes, stop: bytes | None) -> Watch:
        return self.around.call("watch", partial(self.inner.watch, start, stop))

    def stats(self) -> KVStats:
        return self.around.call("stats", self.inner.stats)

    def compact(self) -> None:
        self.around.call("compact", self.inner.compact)


class _Reader(io.RawIOBase):
    """A reader whose reads go through an :class:`Around`."""

    def __init__(self, inner: BinaryIO, around: Around) -> None:
        super().__init__()
        self._inner = inner
        self._around = around

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        call = cast(Callable[[], int | None], partial(self._readinto, buffer))
        return self._around.call("stream.read", call, received=count_bytes)

    def _readinto(self, buffer: WriteableBuffer) -> int | None:
        return cast(io.RawIOBase, self._inner).readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


class _Writer(io.RawIOBase):
    """A writer whose writes go through an :class:`Around`."""

    def __init__(self, inner: BinaryIO, around: Around) -> None:
        super().__init__()
        self._inner = inner
        self._around = around

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int | None:
        size = memoryview(data).nbytes
        call = partial(self._inner.write, data)
        return self._around.call("stream.write", call, sent=lambda: size)


class _Writing(AbstractContextManager[BinaryIO]):
    """The ``with`` statement around a writer: its end goes through an :class:`Around`."""

    def __init__(self, inner: AbstractContextManager[BinaryIO], around: Around) -> None:
        self._inner = inner
        self._around = around
        self._ended = False

    def __enter__(self) -> BinaryIO:
        stream = self._around.call("open_writer", self._inner.__enter__)
        return cast(BinaryIO, _Writer(stream, self._around))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if value is not None:
            self._abort(value)
            return
        try:
            self._around.call("finish", self._finish)
        except BaseException as error:
            if not self._ended:
                self._abort(error)
            raise

    def _abort(self, error: BaseException) -> None:
        if not self._around.leaves_behind(self._inner, error):
            self._inner.__exit__(type(error), error, error.__traceback__)

    def _finish(self) -> None:
        self._ended = True
        self._inner.__exit__(None, None, None)


class BackingAround(BackingLayer):
    """A store of objects whose calls go through an :class:`Around`."""

    def __init__(self, inner: BackingDriver, around: Around) -> None:
        super().__init__(inner)
        self.around = around

    def stat(self, name: str) -> ObjectInfo:
        return self.around.call("stat", partial(self.inner.stat, name))

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        def resume(last: ObjectInfo, seen: int) -> Iterator[ObjectInfo]:
            return self.inner.list(prefix, after=last.name)

        begin = partial(self.inner.list, prefix, after=after)
        return self.around.items("list", begin, resume=resume)

    def read(self, name: str, start: int, stop: int) -> bytes:
        return self.around.call("read", partial(self.inner.read, name, start, stop), received=len)

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        call = partial(self.inner.open_reader, name, start)
        return cast(BinaryIO, _Reader(self.around.call("open_reader", call), self.around))

    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> AbstractContextManager[BinaryIO]:
        inner = self.inner.open_writer(name, if_absent=if_absent, if_match=if_match)
        return _Writing(inner, self.around)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        self.around.call("delete", partial(self.inner.delete, name, if_match=if_match))

    def free_space(self) -> int | None:
        return self.around.call("free_space", self.inner.free_space)

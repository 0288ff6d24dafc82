"""Files that appear whole, or not at all."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from logging import getLogger
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from uuid import uuid4

from kvfs.errors import NotFound
from kvfs_backing_fsspec._errors import translating
from kvfs_backing_fsspec._listing import OWN_DIRECTORY
from kvfs_backing_fsspec._protocols import Publishing
from kvfs_backing_fsspec._system import System

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = getLogger(__name__)


class Writer(io.RawIOBase):
    """A file of fsspec, its errors translated.  Closing it leaves that open."""

    def __init__(self, file: Any, what: str) -> None:
        super().__init__()
        self._file = file
        self._what = what

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Append all of ``data``."""
        with memoryview(data).cast("B") as view, translating(f"writing {self._what}"):
            self._file.write(bytes(view))
            return len(view)


@contextmanager
def writing(system: System, name: str) -> Iterator[BinaryIO]:
    """As ``BackingDriver.open_writer``, without conditions."""
    assert system.protocol.publishing is not None
    with (
        _WAYS[system.protocol.publishing](system, name) as file,
        Writer(file, repr(name)) as writer,
    ):
        yield cast(BinaryIO, writer)


@contextmanager
def _renamed(system: System, name: str) -> Iterator[Any]:
    what, path = repr(name), system.path(name)
    beside = system.path(f"{OWN_DIRECTORY}/{uuid4().hex}")
    with ExitStack() as stack:
        with translating(f"writing {what}"):
            each = stack.enter_context(system.lent()).system
            _make_directories(each, [system.path(OWN_DIRECTORY)])
            file = each.open(beside, "wb")
        try:
            if system.protocol.exclusive:
                file.set_pipelined()
            yield file
            system.check()
            with translating(f"writing {what}"):
                file.close()
                _make_directories(each, _above(system, name))
                _move(each, beside, path)
        except BaseException:
            _remove(each, file, beside)
            raise


def _remove(system: Any, file: Any, path: str) -> None:
    try:
        file.close()
        system.rm_file(path)
    except Exception as error:
        log.warning("%s is left behind: %s", path, error)


@contextmanager
def _whole(system: System, name: str) -> Iterator[Any]:
    path = system.path(name)
    buffer = io.BytesIO()
    yield buffer

    def put(each: Any) -> None:
        _make_directories(each, _above(system, name))
        each.pipe_file(path, buffer.getvalue())

    system.call(f"writing {name!r}", put)


_WAYS = {
    Publishing.RENAME: _renamed,
    Publishing.WHOLE: _whole,
}


def _move(system: Any, old: str, new: str) -> None:
    """Over what is there, in one step.  fsspec's own would move a file *into* a directory."""
    if system.isdir(new):
        raise IsADirectoryError(new)
    system.mv(old, new)


def _above(system: System, name: str) -> list[str]:
    """The paths of the directories above a name, the topmost first."""
    above = name.split("/")[:-1]
    return [system.path("/".join(above[: depth + 1])) for depth in range(len(above))]


def _make_directories(system: Any, paths: list[str]) -> None:
    """Others may be making the same at the same time."""
    if not paths or system.isdir(paths[-1]):
        return
    for path in paths:
        try:
            system.mkdir(path, create_parents=False)
        except Exception:
            if system.isdir(path):
                continue
            if system.exists(path):
                raise FileExistsError(path) from None
            raise


def delete(system: System, name: str) -> None:
    """Remove a file; no error if there is none."""
    path = system.path(name)

    def remove(each: Any) -> None:
        if each.info(path)["type"] == "file":
            each.rm_file(path)

    try:
        system.call(f"deleting {name!r}", remove)
    except NotFound:
        pass

"""The file system for callers that can wait: a miss blocks until what is needed has arrived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from kvfs.files import Files, NotResident, WritableFiles
from kvfs.files.change import Change
from kvfs.files.files import View
from kvfs.files.records import NUMBER_BITS, tarball_of
from kvfs.kv import Buffer
from kvfs.tarballs.service import Tarballs

P = ParamSpec("P")
R = TypeVar("R")


class WaitingFiles(Files):
    """As :class:`~kvfs.files.Files`, but blocks where that raises ``NotResident``.

    Waits only for what was asked: a member that has arrived is served while the rest of its tarball
    is still on the way.
    """

    _residency: Tarballs

    def _wait(self, inode: int, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        tarball = tarball_of(inode)
        while True:
            seen = self._residency.progress(tarball)
            try:
                return call(*args, **kwargs)
            except NotResident as miss:
                self._residency.wait(miss.tarball, seen)

    def lookup(self, parent: int, name: bytes) -> Buffer | None:
        return self._wait(parent, super().lookup, parent, name)

    def getattr(self, inode: int) -> Buffer:
        return self._wait(inode, super().getattr, inode)

    def readdir(self, inode: int, cookie: int, size: int, plus: bool) -> list[Buffer]:
        return self._wait(inode, super().readdir, inode, cookie, size, plus)

    def read(self, inode: int, offset: int, size: int) -> list[Buffer]:
        return self._wait(inode, super().read, inode, offset, size)

    def getxattr(self, inode: int, name: bytes) -> Buffer | None:
        return self._wait(inode, super().getxattr, inode, name)

    def listxattr(self, inode: int) -> list[bytes]:
        return self._wait(inode, super().listxattr, inode)

    def path_of(self, inode: int) -> bytes:
        return self._wait(inode, super().path_of, inode)

    def _inode(self, inode: int) -> tuple[Buffer, View]:
        return self._wait(inode, super()._inode, inode)


class WaitingWritableFiles(WaitingFiles, WritableFiles):
    """As :class:`~kvfs.files.WritableFiles`, but blocks until what is written to has arrived."""

    def _do(
        self,
        tree: int,
        operation: Callable[Concatenate[Change, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        do = super()._do
        return self._wait(tree << NUMBER_BITS, lambda: do(tree, operation, *args, **kwargs))

    def _open_tree(self, tree: int) -> None:
        self._wait(tree << NUMBER_BITS, self._open_sealed, tree)

    def _open_sealed(self, tree: int) -> None:
        if self._residency.seal(tree) is None:
            raise self._absent(tree)
        self.before_effect()
        self._context.open_tree(tree)

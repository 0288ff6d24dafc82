"""A tarball of the volume, written as an archive: as it was fetched, with what lies over it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kvfs.errors import Corrupt, Invalid, Stale
from kvfs.files.overlay import Overlay
from kvfs.files.records import NUMBER_BITS, inode_key, is_own, is_root, tarball_of
from kvfs.kv import KVStore
from kvfs.tarballs.catalogue import Tarball
from kvfs.tarballs.export import Export, ExportReport
from kvfs.tarballs.service import Tarballs

ATTEMPTS = 10
Write = Callable[[bytes | memoryview], object]


class _Gone(Exception):
    """A tarball that was fetched is not there any more.  Never leaves this module."""


@attrs.frozen
class Exporting:
    """Has a tarball fetched and writes it, of one instant if the engine has snapshots."""

    tarballs: Tarballs
    state: KVStore
    sealed: KVStore
    extent_bytes: int
    find: Callable[[bytes], int]
    """The inode of a path."""

    def run(self, path: bytes, write: Write) -> ExportReport:
        """Write the tarball that is shown at ``path``; see :meth:`kvfs.volume.Volume.export`."""
        for _ in range(ATTEMPTS):
            try:
                return self._run(path, write)
            except _Gone:
                continue
        raise Stale(f"{path!r} was replaced or taken away each time that it was to be written")

    def _run(self, path: bytes, write: Write) -> ExportReport:
        inode = self.find(path)
        if is_own(inode) or not is_root(inode):
            raise Invalid(f"{path!r} is not a tarball: name a directory that a tarball appears as")
        tree = inode >> NUMBER_BITS
        self.tarballs.fetch(tarball_of(inode))
        seal = self.tarballs.seal(tree)
        with self.sealed.snapshot() as sealed, self.state.snapshot() as state:
            root = state.get(inode_key(inode))
            if root is None or seal is None or self.tarballs.seal(tree) != seal:
                raise _Gone
            record = Tarball.unpack(seal)
            export = Export(
                Overlay(state, sealed) if record.dirty else sealed,
                inode,
                extent_bytes=self.extent_bytes,
                root=bytes(root) if record.root_listed or record.dirty else None,
                write=write,
            )
            try:
                report = export.run()
            except Corrupt as error:
                if not record.dirty or self.state.capability.snapshot:
                    raise
                raise Stale(f"{path!r} was changed while it was written: begin again") from error
        if not self.sealed.capability.snapshot and self.tarballs.seal(tree) != seal:
            raise Stale(f"{path!r} was replaced or taken away while it was written: begin again")
        return report


__all__ = ["Exporting"]

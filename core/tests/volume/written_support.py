"""A tarball that is written to, and what it should hold then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import cast

import attrs

from kvfs.capability import Durability
from kvfs.files import Caller, Files, WritableFiles
from kvfs.kv import Batch
from kvfs.kv.memory import CAPABILITY
from kvfs.tarballs.catalogue import State
from kvfs.volume import Volume

from .support import WatchedStores, archive, number_of

FILES = {b"%03d" % number: b"%d" % number * 500 for number in range(60)}
DATA = archive(FILES)
NEVER_S = 3600
DURABLE = attrs.evolve(CAPABILITY, durability=Durability.POWER)


class Written(WatchedStores):
    """The stores of a volume with one tarball, ``t``."""

    def __init__(self) -> None:
        super().__init__()
        self.capability = DURABLE
        self.backing.write("t.tar", DATA)

    @contextmanager
    def writing(self, mount: str = "mount", **settings: object) -> Iterator[Volume]:
        """A volume that this process writes to; what is written waits for somebody to."""
        table = {"writable": True, "write_behind": NEVER_S, **settings}
        with self.volume({"volume": table}) as volume:
            volume.begin_writing(mount)
            yield volume


@contextmanager
def writable(volume: Volume) -> Iterator[WritableFiles]:
    with closing(volume.files(wait=True)) as files:
        yield cast(WritableFiles, files)


def change(volume: Volume) -> None:
    """One change of each kind: of contents, of a name that goes, of one that is new."""
    with writable(volume) as files:
        top = files.open_path(b"t").inode
        files.write(files.open_path(b"t/003").inode, 0, b"NEW")
        files.unlink(top, b"004")
        inode = int.from_bytes(files.mknod(top, b"made", 0o100644, 0, Caller())[:8], "little")
        files.write(inode, 0, b"here")


CHANGED = {
    **{name: data for name, data in FILES.items() if name != b"004"},
    b"003": b"NEW" + FILES[b"003"][3:],
    b"made": b"here",
}


def flush(volume: Volume) -> None:
    """Have all that is queued be in the engine, whatever the volume promises."""
    assert volume._writing is not None
    volume._writing.store.driver.commit(Batch(), Durability.PROCESS)


def tree(volume: Volume) -> dict[bytes, bytes]:
    """All of the tarball."""
    with closing(volume.files(wait=True)) as files:
        return tree_of(files)


def tree_of(files: Files) -> dict[bytes, bytes]:
    return {
        entry.name: b"".join(files.read(entry.attributes.inode, 0, 1 << 20))
        for entry in files.entries(files.open_path(b"t").inode)
    }


def record_of(volume: Volume) -> tuple[State, bool]:
    record = volume.tarballs.catalogue.get(number_of(volume, "t.tar"))
    assert record is not None
    return record.state, record.dirty

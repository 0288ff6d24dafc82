"""A tarball that was written to, exported: what is unpacked from it is what the volume shows."""

from __future__ import annotations

import os
import random
import stat
import tarfile
from contextlib import closing, suppress
from pathlib import Path

import attrs
import pytest

from kvfs.files import Caller, Changes, Refused, WritableFiles
from kvfs.testing.trees import assert_same_tree, tree_of, tree_of_volume
from kvfs.testing.volumes import TINY, Stores
from kvfs.volume import Volume

from .support import directory, fifo, file, hardlink, is_root, root_of, symlink, tarball, unpack

XATTRS = ("--xattrs", "--xattrs-include=*")
LARGE = os.urandom(1500)
FETCHED = tarball(
    directory(b"old/"),
    file(b"old/small"),
    file(b"old/large", LARGE),
    file(b"implied/file", LARGE),
    hardlink(b"implied/link", b"old/large"),
    symlink(b"old/symlink", b"../implied"),
    fifo(b"old/fifo"),
    directory(b"old/below/"),
    file(b"old/below/kept"),
    file(b"old/below/removed"),
    directory(b"last/"),
)
USER = Caller(1000, 1000, 0o022)


@attrs.define
class Changed:
    """The tarball, and shorthands for changing it."""

    files: WritableFiles
    top: int

    def at(self, path: bytes) -> int:
        """The inode of a path."""
        return self.files.open_path(b"t/" + path, follow=False).inode

    def make(self, parent: int, name: bytes, mode: int = 0o100644) -> int:
        """A new file, or something else that is no directory."""
        return _number(self.files.mknod(parent, name, mode, 0, USER))

    def mkdir(self, parent: int, name: bytes) -> int:
        """A new directory."""
        return _number(self.files.mkdir(parent, name, 0o755, USER))

    def date(self, inode: int, mtime_ns: int) -> None:
        """Set when it was modified."""
        self.files.setattr(inode, Changes(mtime_ns=mtime_ns))


def _number(entry: bytes) -> int:
    return int.from_bytes(entry[:8], "little")


def open_fetched() -> Volume:
    """A volume with the tarball, which this process may write to."""
    stores = Stores(capability=attrs.evolve(TINY, batch_ops_max=None))
    stores.backing.write("t.tar", FETCHED)
    volume = stores.volume({"volume": {"writable": True}})
    volume.begin_writing("a test")
    return volume


def exported(volume: Volume, changed: Changed, tmp_path: Path) -> Path:
    """The archive; what is unpacked from it is what the volume shows."""
    path = tmp_path / "out.tar"
    with path.open("wb") as out:
        volume.export(b"t", out.write)
    unpack(path, tmp_path / "out", *XATTRS)
    assert_same_tree(
        tree_of(tmp_path / "out"),
        tree_of_volume(changed.files, changed.top),
        ignoring=["directory.nlink", *([] if is_root() else ["uid", "gid"])],
    )
    return path


def change_everything(changed: Changed) -> None:
    """Each kind of change that there is."""
    files, old, below = changed.files, changed.at(b"old"), changed.at(b"old/below")
    large, small = changed.at(b"old/large"), changed.at(b"old/small")
    files.write(large, 300, b"changed")
    files.setattr(large, Changes(size=700))
    files.write(large, 1300, b"behind a hole, where something was")
    files.write(small, 5, b"now this is in extents".ljust(200))
    files.setxattr(small, b"user.note", b"kept")
    files.setattr(changed.at(b"implied/file"), Changes(mode=0o4600))
    files.unlink(below, b"removed")
    new = changed.mkdir(changed.top, b"new")
    files.rename(old, b"below", new, b"moved")
    files.rename(old, b"symlink", new, b"symlink")
    files.link(large, new, b"another")
    files.unlink(old, b"large")
    inner = changed.mkdir(new, b"inner")
    files.rename(changed.top, b"implied", inner, b"was implied")
    for number in range(3):
        changed.make(old, b"late %d" % number)
    files.write(changed.make(inner, b"sparse"), 2000, b"end")
    files.symlink(new, b"link", b"inner", USER)
    if is_root():
        changed.make(new, b"null", stat.S_IFCHR | 0o666)
    files.setattr(changed.top, Changes(mode=0o711, mtime_ns=7))
    for number, inode in enumerate((old, new, inner, below, changed.at(b"last"))):
        changed.date(inode, 1_111_111_111_000_000_000 + number)


def test_every_change_is_in_it(tmp_path: Path) -> None:
    with open_fetched() as volume, closing(volume.files(wait=True)) as files:
        assert isinstance(files, WritableFiles)
        changed = Changed(files, files.open_path(b"t").inode)
        change_everything(changed)
        changed.make(changed.top, b"socket", stat.S_IFSOCK | 0o600)
        nameless = _number(files.tmpfile(changed.top, 0o100600, USER))
        files.write(nameless, 0, b"no name")
        written: list[bytes] = []
        report = volume.export(b"t", lambda data: written.append(bytes(data)))
        assert report.sockets == 1
        files.unlink(changed.top, b"socket")
        changed.date(changed.top, 7)
        archive = exported(volume, changed, tmp_path)
        large = b"".join(files.read(changed.at(b"new/another"), 0, 10_000))
        assert large[:300] == LARGE[:300]
        assert large[700:1300] == bytes(600)
        with tarfile.open(archive) as tar:
            member = tar.extractfile("new/another")
            assert member is not None
            assert member.read() == large
            assert tar.getnames()[0] == "."
            assert "old/large" not in tar.getnames()


def test_as_the_volume_of_another_process_shows_it(tmp_path: Path) -> None:
    """Exported, and fetched anew from that: the same tree."""
    with open_fetched() as volume, closing(volume.files(wait=True)) as files:
        assert isinstance(files, WritableFiles)
        changed = Changed(files, files.open_path(b"t").inode)
        change_everything(changed)
        again = Stores()
        written: list[bytes] = []
        volume.export(b"t", lambda data: written.append(bytes(data)))
        again.backing.write("t.tar", b"".join(written))
        with again.volume() as other:
            shown = tree_of_volume(*root_of(other, b"t"))
            assert_same_tree(shown, tree_of_volume(files, changed.top))


@pytest.mark.parametrize("seed", range(3))
def test_any_changes(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with open_fetched() as volume, closing(volume.files(wait=True)) as files:
        assert isinstance(files, WritableFiles)
        changed = Changed(files, files.open_path(b"t").inode)
        directories = [changed.top, changed.at(b"old"), changed.at(b"old/below")]
        others = [changed.at(b"old/large"), changed.at(b"old/small")]
        for number in range(120):
            parent, inode = dice.choice(directories), dice.choice(others)
            names = [entry.name for entry in files.entries(parent)]
            name = dice.choice(names) if names and dice.random() < 0.6 else b"n%d" % number
            with suppress(Refused):
                match dice.randrange(9):
                    case 0:
                        directories.append(changed.mkdir(parent, name))
                    case 1 | 2:
                        others.append(changed.make(parent, name))
                    case 3:
                        files.write(inode, dice.randrange(2000), os.urandom(200))
                    case 4:
                        files.setattr(inode, Changes(size=dice.randrange(2000)))
                    case 5:
                        files.link(inode, parent, name)
                    case 6 | 7:
                        target = dice.choice(directories)
                        files.rename(parent, name, target, dice.choice([name, b"m%d" % number]))
                    case 8:
                        files.unlink(parent, name)
        exported(volume, changed, tmp_path)

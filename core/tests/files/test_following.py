"""What comes after a file, in each order, against the listing itself."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import attrs
import pytest

from kvfs.files import Following, Order, Place
from kvfs.files.following import NAMED_MAX
from kvfs.files.records import DIRENT, DIRENT_IN_RECORD
from kvfs.kv import Buffer
from kvfs.testing.contents import assert_same_bytes
from kvfs.testing.volumes import Stores
from kvfs.volume import Volume

OpenVolume = Callable[..., Volume]
NAMES = [f"{(number * 7919) % 1000:03}" for number in range(300)]
"""In tar order, which is neither that of the names nor that of the slots."""


def _archive(names: list[str], *, size: int = 100) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for directory in ("a", "b"):
            member = tarfile.TarInfo(directory)
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
            for name in names:
                member = tarfile.TarInfo(f"{directory}/{name}")
                data = f"{directory}/{name}".encode().ljust(size, b".")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
                link = tarfile.TarInfo(f"{directory}/{name}.link")
                link.type, link.linkname = tarfile.SYMTYPE, name
                tar.addfile(link)
    return raw.getvalue()


@attrs.frozen
class Tree:
    """A volume of one tarball, and what stands behind its files."""

    volume: Volume
    following: Following

    def place(self, path: str) -> Place:
        """Where a path stands."""
        found = self.following.place(self.volume.files(wait=True).open_path(path.encode()).inode)
        assert found is not None
        return found

    def path(self, place: Place) -> str:
        """The path of a place."""
        return self.volume.files(wait=True).path_of(place.inode).decode()

    def walk(self, order: Order, first: str, limit: int) -> list[str]:
        """The paths from a first one on, asked for in pieces."""
        places = [self.place(first)]
        while more := self.following.after(order, places[-1], limit):
            places += more
        return [self.path(place) for place in places]

    def listed(self, directory: str) -> list[str]:
        """The files of a directory in the order of its listing."""
        files = self.volume.files(wait=True)
        inode = files.open_path(directory.encode()).inode
        found, cookie = [], 0
        while raw := b"".join(files.readdir(inode, cookie, 4096, False)):
            at = 0
            while at < len(raw):
                _, cookie, length, kind = DIRENT.unpack_from(raw, at)
                if kind == 8:
                    name = raw[at + DIRENT.size : at + DIRENT.size + length]
                    found.append(f"{directory}/{name.decode()}")
                at += DIRENT.size + length + (-length % 8)
        assert DIRENT_IN_RECORD == 128
        return found


def _following(volume: Volume) -> Following:
    found = volume.following()
    assert found is not None
    return found


@pytest.fixture
def tree(stores: Stores, open_volume: OpenVolume) -> Tree:
    stores.backing.write("t.tar", _archive(NAMES))
    volume = open_volume()
    volume.files(wait=True).open_path(b"t/a/000")
    volume.tarballs.fetch(volume.tarballs.catalogue.locate("t.tar")[0])
    return Tree(volume, _following(volume))


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_slots_are_the_order_of_the_listing(tree: Tree, limit: int) -> None:
    listed = tree.listed("t/a")
    assert len(listed) == len(NAMES)
    assert tree.walk(Order.SLOT, listed[0], limit) == listed


@pytest.mark.parametrize("limit", [2, 7, 1000])
def test_numbers_are_the_order_of_the_archive_across_directories(tree: Tree, limit: int) -> None:
    # Each file has a link and the second directory a record behind it: those are passed over.
    wanted = [f"t/{directory}/{name}" for directory in ("a", "b") for name in NAMES]
    assert tree.walk(Order.NUMBER, wanted[0], limit) == wanted


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_names_are_sorted_as_bytes(tree: Tree, limit: int) -> None:
    wanted = sorted(f"t/b/{name}" for name in NAMES)
    assert tree.walk(Order.NAME, wanted[0], limit) == wanted


@pytest.mark.parametrize("order", list(Order))
def test_one_file_of_a_directory_is_its_first(tree: Tree, order: Order) -> None:
    firsts = [name for name in NAMES if tree.following.is_first(order, tree.place(f"t/b/{name}"))]
    wanted = {
        Order.SLOT: tree.listed("t/b")[0],
        Order.NUMBER: f"t/b/{NAMES[0]}",
        Order.NAME: f"t/b/{min(NAMES)}",
    }[order]
    assert [f"t/b/{name}" for name in firsts] == [wanted]


def test_contents_are_those_of_the_file(tree: Tree) -> None:
    for name in NAMES[:20]:
        found = tree.following.contents(tree.place(f"t/a/{name}").inode, 100)
        assert found is not None
        assert bytes(found) == f"t/a/{name}"[2:].encode().ljust(100, b".")


def test_what_is_too_large_or_not_inline_or_gone_has_no_contents(tree: Tree) -> None:
    place = tree.place(f"t/a/{NAMES[0]}")
    assert tree.following.contents(place.inode, 99) is None
    assert tree.following.contents(place.inode + 1, 100) is None  # the link
    assert tree.following.contents(place.inode + (1 << 30), 100) is None
    assert tree.following.place(place.inode + (1 << 30)) is None


@pytest.mark.parametrize(
    ("size", "is_found"), [(0, False), (1, True), (70_000, True), (5 << 20, False)]
)
def test_contents_of_files_in_one_piece(
    stores: Stores, open_volume: OpenVolume, size: int, is_found: bool
) -> None:
    data = bytes(range(250)) * (size // 250 + 1)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        member = tarfile.TarInfo("file")
        member.size = size
        tar.addfile(member, io.BytesIO(data))
    stores.backing.write("t.tar", raw.getvalue())
    volume = open_volume()
    assert volume.superblock.inline_bytes < 70_000 <= volume.superblock.extent_bytes < 5 << 20
    inode = volume.files(wait=True).open_path(b"t/file").inode
    volume.tarballs.fetch(volume.tarballs.catalogue.locate("t.tar")[0])
    found = _following(volume).contents(inode, 1 << 30)
    assert (found is not None) == is_found
    if found is not None:
        assert_same_bytes(bytes(found), data[:size])


def test_directories_that_are_too_large_are_not_sorted(
    stores: Stores, open_volume: OpenVolume
) -> None:
    names = [f"{number:05}" for number in range(NAMED_MAX // 2 + 1)]
    stores.backing.write("t.tar", _archive(names, size=1))
    tree = Tree(volume := open_volume(), _following(volume))
    place = tree.place("t/a/00000")
    volume.tarballs.fetch(volume.tarballs.catalogue.locate("t.tar")[0])
    assert tree.following.after(Order.NAME, place, 3) == []
    assert len(tree.following.after(Order.SLOT, place, 3)) == 3


def test_a_released_view_is_taken_again(tree: Tree) -> None:
    place = tree.place(f"t/a/{NAMES[0]}")
    tree.following.release()
    tree.following.release()
    found: Buffer | None = tree.following.contents(place.inode, 100)
    assert found is not None
    assert tree.following.after(Order.NUMBER, place, 1)

"""What is an object and what is not, on real directory trees; the order of listings."""

from __future__ import annotations

import os
import random
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvfs.backing import BackingStore
from kvfs.errors import Invalid, NotFound, PermissionDenied, Unsupported
from kvfs_backing_posix._names import OWN_DIRECTORY

Opener = Callable[..., BackingStore]

NOBODY = 65534


def names(store: BackingStore, prefix: str = "", after: str | None = None) -> list[str]:
    return [info.name for info in store.list(prefix, after=after)]


@contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of root."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody may enter."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.mark.parametrize("seed", range(5))
def test_any_tree_is_listed_in_byte_order(store: BackingStore, root: Path, seed: int) -> None:
    """Against the sorted names of all files, whatever prefix and start."""
    source = random.Random(seed)
    parts = [b"a", b"a.tar", b"a-b", b"a0", b"A", b"\xff\xfe", "é".encode(), b"~", b"a b", b"\n"]
    for _ in range(150):
        path = os.fsencode(root)
        for _ in range(source.randint(0, 3)):
            path = os.path.join(path, source.choice(parts) + b".d" * source.randint(0, 1))
            if os.path.isfile(path):
                break
            os.makedirs(path, exist_ok=True)
        else:
            file = os.path.join(path, source.choice(parts))
            if not os.path.isdir(file):
                Path(os.fsdecode(file)).touch()
    found = []
    for directory, _, files in os.walk(os.fsencode(root)):
        inside = os.path.relpath(directory, os.fsencode(root))
        found += [os.path.normpath(os.path.join(inside, file)) for file in files]
    expected = [name.decode("utf-8", "surrogateescape") for name in sorted(found)]
    assert len(expected) > 30
    assert names(store) == expected
    starts = [*source.sample(expected, 10), "", "a", "a/", "b", "a.tar.d/zzz", "\udcff"]
    for start in starts:
        floor = start.encode("utf-8", "surrogateescape")
        later = [n for n in expected if n.encode("utf-8", "surrogateescape") > floor]
        assert names(store, after=start) == later
        for cut in (start, start[: len(start) // 2]):
            assert names(store, cut) == [n for n in expected if n.startswith(cut)]
            assert names(store, cut, start) == [n for n in later if n.startswith(cut)]
    for name in expected:
        assert store.stat(name).name == name


def test_links_to_files_are_objects(store: BackingStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.tar").write_bytes(b"data")
    (root / "link.tar").symlink_to(tmp_path / "elsewhere.tar")
    assert names(store) == ["link.tar"]
    assert store.read("link.tar", 0, 10) == b"data"
    info = store.stat("link.tar")
    assert info.size == 4
    (tmp_path / "elsewhere.tar").write_bytes(b"data!")
    assert store.stat("link.tar").version != info.version
    store.write("link.tar", b"new")
    assert (tmp_path / "elsewhere.tar").read_bytes() == b"data!"
    assert not (root / "link.tar").is_symlink()


def test_links_to_directories_lead_nowhere(store: BackingStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"secret")
    (root / "way").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "in").mkdir()
    (root / "in" / "up").symlink_to("..")
    assert names(store) == names(store, "way/") == []
    for name in ("way/file", "loop/loop/x", "in/up/in"):
        with pytest.raises(NotFound):
            store.stat(name)
        with pytest.raises(NotFound):
            store.read(name, 0, 1)
        with pytest.raises(NotFound):
            store.open_reader(name)
        with pytest.raises(Unsupported):
            store.write(name, b"x")
        store.delete(name)
    assert (tmp_path / "outside" / "file").read_bytes() == b"secret"
    assert [*(tmp_path / "outside").iterdir()] == [tmp_path / "outside" / "file"]


def test_what_is_no_file_is_no_object(store: BackingStore, root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "dangling").symlink_to("nowhere")
    (root / "self").symlink_to("self")
    (root / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
    (root / "device").symlink_to("/dev/zero")
    (root / "file").touch()
    assert names(store) == ["file"]
    for name in ("fifo", "dangling", "self", "directory", "socket", "device"):
        with pytest.raises(NotFound):
            store.stat(name)
        if name != "socket":  # which cannot be opened at all
            with pytest.raises(NotFound):
                store.read(name, 0, 1)
        store.delete(name)
        assert os.path.lexists(root / name)


def test_own_directory_is_hidden_and_out_of_bounds(store: BackingStore, root: Path) -> None:
    store.write("a", b"")
    assert (root / OWN_DIRECTORY).is_dir()
    assert names(store) == names(store, "a") == ["a"]
    assert names(store, OWN_DIRECTORY) == []
    store.write(f"deeper/{OWN_DIRECTORY}/a", b"")
    assert len(names(store)) == 2
    with pytest.raises(Invalid):
        store.write(f"{OWN_DIRECTORY}/x", b"")
    with pytest.raises(Invalid):
        store.stat(f"{OWN_DIRECTORY}/lock")


def test_what_vanishes_during_a_listing_is_passed_over(store: BackingStore, root: Path) -> None:
    for name in ("a", "b", "c/d", "c/e", "f/g", "h/i", "z"):
        store.write(name, b"")
    listing = store.list()
    assert next(listing).name == "a"
    (root / "b").unlink()
    assert next(listing).name == "c/d"
    (root / "c" / "e").unlink()
    (root / "f" / "g").unlink()
    (root / "f").rmdir()
    (root / "h").rename(root / "elsewhere")
    (root / "h").symlink_to("elsewhere")
    assert [info.name for info in listing] == ["z"]


def test_unreadable_directory_fails_the_listing(opener: Opener, public: Path) -> None:
    """Passed over, its objects would seem to be deleted."""
    store = opener(public)
    for name in ("a", "private/b", "z"):
        store.write(name, b"")
    (public / "private").chmod(0o700)
    assert names(store) == ["a", "private/b", "z"]
    with nobody():
        listing = store.list()
        assert next(listing).name == "a"
        with pytest.raises(PermissionDenied, match="private"):
            next(listing)
        assert names(store, "z") == ["z"]
        with pytest.raises(PermissionDenied):
            store.stat("private/b")


def test_lost_and_found_is_passed_over(opener: Opener, public: Path) -> None:
    store = opener(public)
    store.write("lost+found/x", b"")
    store.write("z", b"")
    (public / "lost+found").chmod(0o700)
    with nobody():
        assert names(store) == ["z"]


def test_missing_directory(opener: Opener, root: Path, store: BackingStore) -> None:
    with pytest.raises(NotFound, match="create it, or mount"):
        opener(root / "absent")
    (root / "file").touch()
    with pytest.raises(NotFound, match="create it, or mount"):
        opener(root / "file")
    (root / "file").unlink()
    root.rmdir()
    for call in (
        lambda: store.stat("a"),
        lambda: list(store.list()),
        lambda: store.write("a", b""),
        lambda: store.delete("a"),
        store.free_space,
    ):
        with pytest.raises(NotFound, match="create it, or mount"):
            call()
    root.mkdir()
    store.write("a", b"back again")
    assert names(store) == ["a"]


def test_store_of_several_users(opener: Opener, public: Path) -> None:
    """Who may write into the directory may write objects, whoever wrote the first one."""
    public.chmod(0o777)
    store = opener(public)
    store.write("a", b"of root")
    with nobody():
        store.write("b", b"of nobody")
        store.write("a", b"of nobody")
    assert store.read("a", 0, 10) == b"of nobody"


def test_one_name_cannot_be_object_and_directory(store: BackingStore) -> None:
    store.write("a/b", b"")
    store.write("c", b"")
    with pytest.raises(Unsupported, match="directory"):
        store.write("a", b"")
    with pytest.raises(Unsupported, match="directory"):
        store.write("c/d", b"")
    assert names(store) == ["a/b", "c"]

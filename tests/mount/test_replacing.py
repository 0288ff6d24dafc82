"""Tarballs that are replaced, removed and given up under programs that read them.

Every file says which version of its tarball it is of, so a reader knows by itself whether what it
got fits together.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO

import attrs
import pytest

from kvfs.tar.member import Member
from kvfs.tar.writer import TarWriter
from kvfs.testing.mounts import Mounted, Site, wait_until

REFRESH_S = "200ms"
FILES = 40
LARGE_BYTES = 3 << 20


@pytest.fixture(scope="module")
def frontend() -> str:
    """The one that tells the kernel what to forget by code of its own."""
    return "fuse"


def body(version: int, number: int) -> bytes:
    """A file's contents: as long as its version and its number want it."""
    line = b"version %06d file %03d\n" % (version, number)
    return line * (1 + (version * 7 + number * 13) % 400)


def large(version: int) -> bytes:
    """A file of several extents."""
    line = b"version %06d large\n" % version
    return (line * (LARGE_BYTES // len(line) + 1))[: LARGE_BYTES + version]


def names(version: int) -> set[str]:
    """What is in the root of that version."""
    return {f"{number:03d}" for number in range(FILES)} | {f"only-{version}", "dir", "large"}


def publish(folder: Path, name: str, version: int) -> None:
    """Put a version of a tarball in place, in one step, as every store does."""
    draft = folder / f".{name}.draft"
    with draft.open("wb") as file:
        writer = TarWriter(file.write)
        for number in range(FILES):
            data = body(version, number)
            writer.add(Member(b"%03d" % number, size=len(data)), [data])
            writer.add(Member(b"dir/%03d" % number, size=len(data)), [data])
        data = large(version)
        writer.add(Member(b"large", size=len(data)), [data])
        writer.add(Member(b"only-%d" % version, size=0), [])
        writer.close()
    draft.rename(folder / name)


def version_of(data: bytes) -> int:
    """The version that contents say they are of."""
    return int(data[8:14])


def assert_whole(data: bytes, number: int | None) -> int:
    """All of it is of one version; returns which."""
    version = version_of(data)
    expected = large(version) if number is None else body(version, number)
    assert data == expected, f"{len(data)} bytes that begin as of version {version}"
    return version


def read_by_pieces(path: Path, size: int) -> bytes | None:
    """All of a file through one descriptor; ``None`` if it went stale under it."""
    with path.open("rb", buffering=0) as file:
        pieces: list[bytes] = []
        while True:
            try:
                piece = file.read(size)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                return None
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)


@attrs.define
class Load:
    """Readers that look at a mount until they are told to stop."""

    stop: Event = attrs.field(factory=Event)
    failures: list[BaseException] = attrs.field(factory=list)
    seen: dict[str, int] = attrs.field(factory=dict)
    """How often each reader came through, and to the latest version."""
    threads: list[Thread] = attrs.field(factory=list)

    def add(self, name: str, look: Callable[[], object]) -> None:
        """Call ``look`` again and again."""

        def run() -> None:
            try:
                while not self.stop.is_set():
                    look()
                    self.seen[name] = self.seen.get(name, 0) + 1
            except BaseException as failure:
                self.failures.append(failure)
                self.stop.set()

        thread = Thread(target=run, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def wait_for_more(self, times: int) -> None:
        """Return when every reader has come through so often again."""
        wanted = {thread.name: self.seen.get(thread.name, 0) + times for thread in self.threads}
        wait_until(
            lambda: (
                self.failures
                or all(self.seen.get(name, 0) >= count for name, count in wanted.items())
            ),
            f"the readers come through: {self.seen}",
            seconds=60,
        )
        self.check()

    def check(self) -> None:
        """Raise what a reader has found wrong."""
        if self.failures:
            raise self.failures[0]


@contextmanager
def load() -> Iterator[Load]:
    """Readers that have ended, without a failure, when this does."""
    made = Load()
    try:
        yield made
    finally:
        made.stop.set()
        for thread in made.threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in made.threads), "a reader hangs"
    made.check()


def add_readers(load: Load, root: Path, *, prefix: str = "") -> None:
    """One of each kind of reader of a tarball that always has some version."""
    state = {"number": 0}

    def whole() -> None:
        state["number"] = number = (state["number"] + 1) % FILES
        data = read_by_pieces(root / f"{number:03d}", 1 << 20)
        if data is not None:
            assert_whole(data, number)

    def below() -> None:
        number = state["number"]
        data = read_by_pieces(root / "dir" / f"{number:03d}", 4096)
        if data is not None:
            assert_whole(data, number)

    def extents() -> None:
        data = read_by_pieces(root / "large", 200_000)
        if data is not None:
            assert_whole(data, None)

    def listing() -> None:
        try:
            found = set(os.listdir(root))
        except OSError as error:
            if error.errno != errno.ESTALE:  # between its open and its reads
                raise
            return
        [only] = [name for name in found if name.startswith("only-")]
        assert found == names(int(only.removeprefix("only-")))

    def attributes() -> None:
        # Found by path alone, so never stale: the kernel looks again by itself.
        found = (root / "007").stat()
        assert found.st_size % len(body(0, 7)[:24]) == 0
        assert (root / "dir").is_dir()
        assert not (root / "absent").exists()

    for look in (whole, below, extents, listing, attributes):
        load.add(prefix + look.__name__, look)


def latest(root: Path) -> int:
    """The version that a path leads to now."""
    data = None
    while data is None:
        data = read_by_pieces(root / "003", 1 << 20)
    return assert_whole(data, 3)


def wait_for_version(root: Path, version: int) -> None:
    """Return when a path leads to a version; never to one before the last that it led to."""
    last = 0

    def has_come() -> bool:
        nonlocal last
        found = latest(root)
        assert found >= last, f"version {found} after {last}"
        last = found
        return found == version

    wait_until(has_come, f"version {version} is served")


@pytest.fixture
def folder(site: Site) -> Path:
    path = site.path / "folder"
    path.mkdir()
    publish(path, "t.tar", 1)
    return path


@pytest.fixture
def config(site: Site, folder: Path) -> Path:
    return site.config({"driver": "posix", "path": str(folder)}, volume={"refresh": REFRESH_S})


def test_replaced_under_load(site: Site, folder: Path, config: Path) -> None:
    mounted = site.mount(config)
    root = mounted.path / "t"
    with load() as readers:
        add_readers(readers, root)
        readers.wait_for_more(3)
        for version in range(2, 10):
            publish(folder, "t.tar", version)
            wait_for_version(root, version)
            # From here on every path leads to this version, whatever the kernel had kept.
            for number in range(FILES):
                assert (root / f"{number:03d}").read_bytes() == body(version, number)
                assert (root / "dir" / f"{number:03d}").read_bytes() == body(version, number)
            assert set(os.listdir(root)) == names(version)
            assert (root / "large").read_bytes() == large(version)
            readers.check()
        readers.wait_for_more(3)
    assert mounted.is_alive()
    mounted.umount()
    assert site.violations(folder) == []


def test_two_mounts_of_one_volume(site: Site, folder: Path, config: Path) -> None:
    """Either may find the new version first; the other learns of it by itself."""
    first = site.mount(config, at="first")
    second = site.mount(config, at="second")
    with load() as readers:
        for mounted in (first, second):
            add_readers(readers, mounted.path / "t", prefix=f"{mounted.path.name} ")
        readers.wait_for_more(2)
        for version in range(2, 7):
            publish(folder, "t.tar", version)
            for mounted in (first, second):
                wait_for_version(mounted.path / "t", version)
                assert set(os.listdir(mounted.path / "t")) == names(version)
            readers.check()
        readers.wait_for_more(2)
    for mounted in (first, second):
        assert mounted.is_alive()
        mounted.umount()
    assert site.violations(folder) == []


def _read_unless_stale(file: BinaryIO) -> bytes | None:
    try:
        return file.read()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return None


def test_what_was_open_stays_as_it_was_or_is_stale(site: Site, folder: Path, config: Path) -> None:
    mounted = site.mount(config)
    root = mounted.path / "t"
    with (
        (root / "large").open("rb", buffering=0) as file,
        (root / "dir" / "011").open("rb") as small,
    ):
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        directory = os.open(root, os.O_RDONLY)
        old = large(1)
        assert file.read(1000) == old[:1000]
        assert mapped[-1000:] == old[-1000:]
        assert mapped[:1000] == old[:1000]
        assert small.read() == body(1, 11)
        publish(folder, "t.tar", 2)
        wait_for_version(root, 2)
        assert (root / "large").read_bytes() == large(2)
        # Pages that the kernel has are of the old version, for ever; the rest is gone.  Those that
        # nobody has mapped it may drop at any time.
        small.seek(0)
        assert _read_unless_stale(small) in (body(1, 11), None)
        assert mapped[:1000] == old[:1000]
        assert mapped[-1000:] == old[-1000:]
        with pytest.raises(OSError, match="Stale file handle"):
            os.pread(file.fileno(), 1000, LARGE_BYTES // 2)
        assert os.pread(file.fileno(), 1000, 0) == old[:1000]
        for look in (
            lambda: os.listdir(directory),
            lambda: os.stat("dir/012", dir_fd=directory),
            lambda: os.stat("absent", dir_fd=directory),
        ):
            with pytest.raises(OSError, match="Stale file handle"):
                look()
        os.close(directory)
        mapped.close()


def test_removed_under_load(site: Site, folder: Path, config: Path) -> None:
    """It is there, or it is not; and may come again."""
    publish(folder, "stays.tar", 1)
    mounted = site.mount(config)
    root = mounted.path / "t"

    def look() -> None:
        try:
            data = read_by_pieces(root / "005", 4096)
        except FileNotFoundError:
            return
        if data is not None:
            assert_whole(data, 5)

    with load() as readers:
        add_readers(readers, mounted.path / "stays")
        readers.add("comes and goes", look)
        for version in range(2, 6):
            readers.wait_for_more(2)
            (folder / "t.tar").unlink()
            wait_until(lambda: not root.exists(), "it is removed")
            assert os.listdir(mounted.path) == ["stays"]
            publish(folder, "t.tar", version)
            wait_until(root.exists, "it is shown again")
            # Another one than before, under the same name: nothing is left of that.
            wait_for_version(root, version)
            assert set(os.listdir(root)) == names(version)
            assert (root / "large").read_bytes() == large(version)
    mounted.umount()
    assert site.violations(folder) == []


def test_given_up_under_load(site: Site, folder: Path, config: Path) -> None:
    """By another process; nobody who reads notices, whatever is open."""
    mounted = site.mount(config)
    root = mounted.path / "t"

    def whole(path: Path, number: int | None) -> Callable[[], None]:
        def look() -> None:
            assert assert_whole(path.read_bytes(), number) == 1

        return look

    def listing() -> None:
        assert set(os.listdir(root)) == names(1)
        assert len(os.listdir(root / "dir")) == FILES

    def forget() -> None:
        Path("/proc/sys/vm/drop_caches").write_text("3")

    with site.opened(folder) as volume, load() as readers:
        [(tarball, _)] = [*volume.tarballs.catalogue]
        readers.add("small", whole(root / "dir/017", 17))
        readers.add("large", whole(root / "large", None))
        readers.add("listing", listing)
        readers.add("forget", forget)
        readers.wait_for_more(2)
        given_up = 0
        while given_up < 10:
            given_up += volume.tarballs.evict(tarball)
            readers.wait_for_more(1)
    mounted.umount()
    assert site.violations(folder) == []


def where(mounted: Mounted) -> tuple[str, str]:
    """The inode that the tarball's name leads to, and the tarball's state."""
    found = mounted.info("/t")
    return str(found["records"]["root"]), str(found["state"])


def test_killed_while_it_replaces(site: Site, folder: Path, config: Path) -> None:
    """Wherever that was, the next mount shows the latest version, and nothing of another."""
    for version in range(2, 8):
        mounted = site.mount(config)
        root = mounted.path / "t"
        wait_for_version(root, version - 1)
        before, _ = where(mounted)
        with load() as readers:
            readers.add("reads", partial(read_unless_dead, root))
            publish(folder, "t.tar", version)
            if version % 3:
                has_moved = partial(lambda mounted, old: where(mounted)[0] != old, mounted, before)
                wait_until(has_moved, "the name leads elsewhere")
            if version % 3 == 2:
                is_sealed = partial(lambda mounted: where(mounted)[1] == "sealed", mounted)
                wait_until(is_sealed, "it has been fetched")
            mounted.signal(signal.SIGKILL)
    mounted = site.mount(config)
    root = mounted.path / "t"
    wait_for_version(root, 7)
    assert set(os.listdir(root)) == names(7)
    assert (root / "large").read_bytes() == large(7)
    mounted.umount()
    assert site.violations(folder) == []


def read_unless_dead(root: Path) -> None:
    """Read a file, of which a killed server may leave no more than an error."""
    try:
        data = read_by_pieces(root / "dir/021", 1 << 20)
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise
        return
    if data is not None:
        assert_whole(data, 21)

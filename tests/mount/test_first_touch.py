"""What the first look into a tarball costs, whom it keeps waiting, and what can go wrong with it.

The tarballs come through a gate (:mod:`kvfs.testing.gated`): the tests see what is read of them,
and let it be read when they want to.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import attrs
import pytest

from kvfs.testing.gated import Gate
from kvfs.testing.mounts import Mounted, Site, wait_until

from .archives import run

FILE_BYTES = 200_000
"""Too large to be packed with others, so that every few files are a commit."""
FILES = 120
COPIES = 8
"""Tarballs of each kind; no test touches that of another."""


@attrs.define
class Slow:
    """A mounted folder of tarballs whose bytes come when a test lets them."""

    site: Site
    mounted: Mounted
    gate: Gate
    folder: Path
    _fresh: dict[str, Iterator[int]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._fresh = {suffix: iter(range(COPIES)) for suffix in ("tar", "tar.gz")}

    def tarball(self, suffix: str = "tar") -> tuple[str, Path]:
        """A tarball that nobody has touched: its object, and where it is mounted."""
        stem = f"{suffix.replace('.', '-')}-{next(self._fresh[suffix])}"
        return f"{stem}.{suffix}", self.mounted.path / stem

    def state(self, root: Path) -> str:
        """Where a tarball is in its life."""
        return str(self.mounted.info(f"/{root.name}")["state"])


def contents(number: int, size: int = FILE_BYTES) -> bytes:
    """What is in a file of :func:`make_tarball`."""
    return random.Random(number).randbytes(size)


def make_tarball(archive: Path, scratch: Path, *, files: int = FILES) -> None:
    """A tarball of ``first``, and ``files`` more in ``dir``, in this order."""
    scratch.mkdir()
    (scratch / "first").write_bytes(b"the first\n")
    (scratch / "dir").mkdir()
    names = ["first"]
    for number in range(files):
        (scratch / "dir" / f"{number:03}").write_bytes(contents(number))
        names.append(f"dir/{number:03}")
    (scratch / "list").write_text("\n".join(names))
    run("tar", "-caf", archive, "-C", scratch, "-T", scratch / "list")


@pytest.fixture(scope="module")
def slow(shared_site: Site) -> Slow:
    """Tarballs of 24 MB, plain and compressed, mounted; nothing of them can be read yet."""
    folder = shared_site.path / "folder"
    folder.mkdir()
    for suffix in ("tar", "tar.gz"):
        stem = suffix.replace(".", "-")
        make_tarball(folder / f"{stem}-0.{suffix}", shared_site.path / stem)
        for number in range(1, COPIES):
            (folder / f"{stem}-{number}.{suffix}").hardlink_to(folder / f"{stem}-0.{suffix}")
    gate, config = shared_site.gated(folder)
    return Slow(shared_site, shared_site.mount(config), gate, folder)


class Reading(Thread):
    """A file being read in a thread of this process."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self.data = b""
        self.error: OSError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.data = self._path.read_bytes()
        except OSError as error:
            self.error = error

    def result(self) -> bytes:
        """What was read; waits for it."""
        self.join(60)
        assert not self.is_alive(), f"{self._path} is still being read"
        assert self.error is None
        return self.data


# -- when a tarball is read ------------------------------------------------------------------------


def test_looking_from_outside_reads_nothing(slow: Slow) -> None:
    (plain, root), (packed, other) = slow.tarball(), slow.tarball("tar.gz")
    assert {root.name, other.name} < set(os.listdir(slow.mounted.path))
    run("ls", "-la", slow.mounted.path)
    for file, path in ((plain, root), (packed, other)):
        attributes = path.stat()
        assert attributes.st_uid == 0
        assert attributes.st_mtime_ns == (slow.folder / file).stat().st_mtime_ns
        assert slow.state(path) == "absent"
        assert slow.gate.count(file) == 0
    os.statvfs(root)
    assert not (slow.mounted.path / "absent").exists()
    assert slow.gate.count(plain) == slow.gate.count(packed) == 0


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_looking_inside_reads_that_one_once(slow: Slow, suffix: str) -> None:
    file, root = slow.tarball(suffix)
    before = len(slow.gate.streams)
    slow.gate.leave_open(file)
    assert sorted(os.listdir(root)) == ["dir", "first"]
    assert slow.state(root) == "sealed"
    assert (root / "dir/007").read_bytes() == contents(7)
    assert len(os.listdir(root / "dir")) == FILES
    assert [stream.name for stream in slow.gate.streams[before:]] == [file]


def test_what_was_fetched_stays(site: Site, folder: Path) -> None:
    """A mount later, nothing is read again."""
    gate, config = site.gated(folder)
    gate.leave_open("good.tar")
    for _ in range(2):
        mounted = site.mount(config)
        assert (mounted.path / "good/dir/002").read_bytes() == contents(2)
        mounted.umount()
        assert gate.count("good.tar") == 1


LOOK = """
import hashlib, os, sys
root, which = sys.argv[1:]
print("looking", flush=True)
if which == "list":
    print(len(os.listdir(root + "/dir")))
elif which == "absent":
    print(os.path.exists(root + "/dir/absent"))
else:
    print(hashlib.sha256(open(root + "/dir/" + which, "rb").read()).hexdigest())
"""


def test_many_processes_at_once_make_one_ingest(slow: Slow) -> None:
    file, root = slow.tarball()
    wanted = ["list", "absent", "000", "000", "119", "060", "list", "absent"]
    processes = [slow.site.beside(sys.executable, "-c", LOOK, root, which) for which in wanted]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "looking\n"
    slow.gate.opened(file).allow(None)
    answers = [process.communicate(timeout=60) for process in processes]
    assert [error for _, error in answers] == [""] * 8
    assert [answers[at][0] for at in (0, 1, 6, 7)] == ["120\n", "False\n", "120\n", "False\n"]
    assert [answers[at][0].strip() for at in range(2, 6)] == [
        hashlib.sha256(contents(int(which))).hexdigest() for which in wanted[2:6]
    ]
    assert slow.gate.count(file) == 1
    assert slow.state(root) == "sealed"


# -- who waits for whom ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_early_members_do_not_wait_for_late_ones(slow: Slow, suffix: str) -> None:
    file, root = slow.tarball(suffix)
    half = (slow.folder / file).stat().st_size // 2
    early = Reading(root / "dir/002")
    stream = slow.gate.opened(file)
    stream.allow(half)
    assert early.result() == contents(2)
    assert (root / "first").read_bytes() == b"the first\n"
    # All that while the rest of the tarball has not come.
    assert slow.state(root) == "ingesting"
    assert not stream.ended
    listing = slow.site.beside("ls", root / "dir")
    late = Reading(root / "dir/119")
    stream.wait_for(half)
    assert listing.poll() is None
    assert late.is_alive()
    stream.allow(None)
    assert late.result() == contents(119)
    assert len(listing.communicate()[0].splitlines()) == FILES
    assert slow.state(root) == "sealed"


def test_others_are_served_meanwhile(slow: Slow) -> None:
    (file, root), (other_file, other_root) = slow.tarball(), slow.tarball("tar.gz")
    waiting = Reading(root / "dir/119")
    stream = slow.gate.opened(file)
    slow.gate.leave_open(other_file)
    assert (other_root / "dir/003").read_bytes() == contents(3)
    assert root.name in os.listdir(slow.mounted.path)
    assert waiting.is_alive()
    stream.allow(None)
    assert waiting.result() == contents(119)


def test_who_waits_can_be_interrupted(slow: Slow) -> None:
    """Ctrl-C ends a program that waits for a tarball, and nothing but the program."""
    file, root = slow.tarball()
    program = slow.site.beside("cat", root / "first")
    stream = slow.gate.opened(file)
    program.send_signal(signal.SIGINT)
    assert program.wait(30) == -signal.SIGINT
    stream.allow(None)
    assert (root / "first").read_bytes() == b"the first\n"
    assert slow.gate.count(file) == 1


def test_cut_off_while_it_is_read(slow: Slow) -> None:
    """The store fails in the middle: who waits is told, nothing half stays, a later try works."""
    file, root = slow.tarball()
    waiting = Reading(root / "dir/119")
    stream = slow.gate.opened(file)
    stream.allow(10_000_000)
    stream.wait_for(10_000_000)
    assert (root / "first").read_bytes() == b"the first\n"
    slow.gate.leave_open(file)
    stream.break_off()
    waiting.join(60)
    assert waiting.error is not None
    assert waiting.error.errno == errno.EIO
    assert slow.state(root) == "absent"
    # Those who ask at once get the same error, for some seconds.
    wait_until(lambda: can_be_read(root / "dir/119"), "it is tried anew")
    assert (root / "dir/119").read_bytes() == contents(119)
    assert slow.gate.count(file) == 2


# -- what can go wrong -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good tarball, ``good``."""
    made = tmp_path / "folder"
    made.mkdir()
    make_tarball(made / "good.tar", tmp_path / "good", files=3)
    return made


def fails(number: int, path: Path) -> None:
    """Listing and reading below ``path`` fail with an errno."""
    for look in (lambda: os.listdir(path), (path / "first").read_bytes):
        with pytest.raises(OSError, match=r".") as raised:
            look()
        assert raised.value.errno == number


def can_be_read(path: Path) -> bool:
    """Does reading a file succeed?"""
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def good(mounted: Mounted) -> bool:
    """Is the good tarball served?"""
    return (mounted.path / "good/dir/001").read_bytes() == contents(1)


def test_no_tarball_at_all(site: Site, folder: Path) -> None:
    (folder / "text.tar").write_text("This is no tarball. " * 5000)
    (folder / "noise.tar.gz").write_bytes(random.Random(1).randbytes(100_000))
    mounted = site.mount(folder)
    assert sorted(os.listdir(mounted.path)) == ["good", "noise", "text"]
    for name in ("text", "noise"):
        fails(errno.EIO, mounted.path / name)
        assert f"{name}.tar" in mounted.log()
    assert "not a tar" in mounted.log()
    assert good(mounted)
    assert mounted.states() == {"absent": 2, "sealed": 1}
    refusal = site.run("ls", mounted.path, "/text", code=6).stderr
    assert "text.tar" in refusal
    assert "not a tar" in refusal


def test_damage_is_named_and_the_rest_served(site: Site, folder: Path) -> None:
    whole = (folder / "good.tar").read_bytes()
    broken = bytearray(whole)
    at = whole.index(b"dir/001\0")
    broken[at + 148 : at + 156] = b"0000000\0"  # its checksum
    (folder / "checksum.tar").write_bytes(broken)
    (folder / "cut.tar").write_bytes(whole[: whole.index(b"dir/002\0") + 5000])
    mounted = site.mount(folder)
    assert sorted(os.listdir(mounted.path / "checksum/dir")) == ["000", "002"]
    assert (mounted.path / "checksum/dir/002").read_bytes() == contents(2)
    assert sorted(os.listdir(mounted.path / "cut/dir")) == ["000", "001"]
    assert (mounted.path / "cut/dir/001").read_bytes() == contents(1)
    for name, told in (("checksum", "invalid header"), ("cut", "dir/002")):
        found = mounted.info(f"/{name}")
        assert found["members_lost"] > 0
        assert told in str(found["problems"])
        assert told in site.run("info", mounted.path, f"/{name}").stdout
    assert good(mounted)


def test_deleted_behind_our_back(site: Site, folder: Path) -> None:
    (folder / "gone.tar").write_bytes((folder / "good.tar").read_bytes())
    mounted = site.mount(folder)
    (folder / "gone.tar").unlink()
    assert sorted(os.listdir(mounted.path)) == ["gone", "good"]
    # Not ENOENT: programs would take the files for absent, and go on without them.
    fails(errno.EIO, mounted.path / "gone")
    assert "gone.tar" in mounted.log()
    assert good(mounted)


def test_unreadable(site: Site, folder: Path) -> None:
    """A tarball that the daemon may not open: root, but without the right to read everything."""
    (folder / "locked.tar").write_bytes((folder / "good.tar").read_bytes())
    (folder / "locked.tar").chmod(0o600)
    os.chown(folder / "locked.tar", 1234, 1234)
    site.prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    mounted = site.mount(folder)
    assert sorted(os.listdir(mounted.path)) == ["good", "locked"]
    fails(errno.EACCES, mounted.path / "locked")
    assert "locked.tar" in mounted.log()
    assert good(mounted)
    assert "locked.tar" in site.run("ls", mounted.path, "/locked", code=7).stderr


# -- a folder that changes -------------------------------------------------------------------------


def test_a_new_tarball_appears(site: Site, folder: Path) -> None:
    mounted = site.mount(folder, "--set=volume.refresh=0.2s")
    assert os.listdir(mounted.path) == ["good"]
    data = (folder / "good.tar").read_bytes()
    (folder / "new.tar").write_bytes(data)
    (folder / "below").mkdir()
    (folder / "below" / "other.tar").write_bytes(data)
    wait_until(lambda: len(os.listdir(mounted.path)) == 3, "the listing shows it")
    assert sorted(os.listdir(mounted.path)) == ["below", "good", "new"]
    assert (mounted.path / "new/dir/001").read_bytes() == contents(1)
    (folder / "below" / "another.tar").write_bytes(data)
    wait_until(lambda: len(os.listdir(mounted.path / "below")) == 2, "the listing shows it")
    assert (mounted.path / "below/another/dir/002").read_bytes() == contents(2)


def test_a_name_that_was_absent_appears(site: Site, folder: Path) -> None:
    """The kernel was told that it does not exist, and does not believe so for ever."""
    mounted = site.mount(folder, "--set=volume.refresh=0.2s")
    assert not (mounted.path / "new").exists()
    (folder / "new.tar").write_bytes((folder / "good.tar").read_bytes())
    wait_until((mounted.path / "new").exists, "it is found")


def test_what_is_replaced_and_removed_shows_without_a_new_mount(site: Site, folder: Path) -> None:
    mounted = site.mount(folder, "--set=volume.refresh=0.2s")
    assert good(mounted)
    make_tarball(folder / "new.tar", folder.parent / "new", files=5)
    (folder / "new.tar").replace(folder / "good.tar")
    wait_until(lambda: len(os.listdir(mounted.path / "good/dir")) == 5, "the new one is there")
    assert (mounted.path / "good/dir/004").read_bytes() == contents(4)
    (folder / "good.tar").unlink()
    wait_until(lambda: os.listdir(mounted.path) == [], "it is gone")

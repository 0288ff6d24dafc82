"""Programs whose first look into a tarball is a change, and what can go wrong with it.

The tarballs come through a gate (:mod:`kvfs.testing.gated`), so a change waits as long as a test
wants it to.
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import attrs
import pytest

from kvfs.testing.gated import Gate, Stream
from kvfs.testing.mounts import Mounted, Site, site_in, wait_until

FILE_BYTES = 200_000
"""Too large to be packed with others, so that every few files are a commit."""
FILES = 40
MANY = 30
GATED = 7
"""Tarballs that no test shares with another."""
FIRST = b"the first\n"


def _archive(path: Path, files: int) -> None:
    """``first``, and behind it ``files`` that make it long."""
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("first", FIRST),
            *((f"{number:03}", b"%03d\n" % number * (FILE_BYTES // 4)) for number in range(files)),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@attrs.define
class Slow:
    """A mounted folder of tarballs whose bytes come when a test lets them."""

    site: Site
    mounted: Mounted
    gate: Gate
    fresh: Iterator[int] = attrs.field(factory=lambda: iter(range(GATED)))

    def tarball(self) -> tuple[str, Path]:
        """A tarball that nobody has touched: its object, and where it is mounted."""
        number = next(self.fresh)
        return f"t{number}.tar", self.mounted.path / f"t{number}"

    def requests(self, kind: str) -> int:
        """How many requests of a kind the mount has had."""
        found: dict[str, int] = json.loads(os.getxattr(self.mounted.path, "user.kvfs.requests"))
        return found.get(kind, 0)

    def state(self, root: Path) -> str:
        """Where a tarball is in its life."""
        return str(self.mounted.info(f"/{root.name}")["state"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The binding that can change things."""
    with site_in(tmp_path_factory.mktemp("site"), frontend="fuse") as made:
        yield made


@pytest.fixture(scope="module")
def slow(site: Site) -> Slow:
    """Tarballs of 8 MB; nothing of them can be read yet."""
    folder = site.path / "gated"
    folder.mkdir()
    _archive(folder / "t0.tar", FILES)
    for number in range(1, GATED):
        (folder / f"t{number}.tar").hardlink_to(folder / "t0.tar")
    gate, config = site.gated(folder, name="gated", volume={"writable": True})
    return Slow(site, site.mount(config, at="gated-mnt"), gate)


@attrs.frozen
class Change:
    """A program that changes something in the directory that it runs in."""

    words: tuple[str, ...]
    waits_in: str
    """The request that has to wait until all of the tarball is there."""
    look: Callable[[Path], object]
    """Looks whether it was done."""
    before: object
    after: object


CHANGES = {
    "truncate": Change(
        ("truncate", "-s", "3", "first"),
        "SETATTR",
        lambda root: (root / "first").read_bytes(),
        FIRST,
        FIRST[:3],
    ),
    "rename": Change(
        ("mv", "-T", "first", "000"),
        "RENAME",
        lambda root: ((root / "first").exists(), (root / "000").stat().st_size),
        (True, FILE_BYTES),
        (False, len(FIRST)),
    ),
    "unlink": Change(
        ("rm", "first"), "UNLINK", lambda root: (root / "first").exists(), True, False
    ),
    "create": Change(("touch", "new"), "LOOKUP", lambda root: (root / "new").exists(), False, True),
}


def _begin(slow: Slow, change: Change, file: str, root: Path) -> tuple[Popen[str], Stream]:
    """Have a program wait for the rest of a tarball, of which half has come."""
    before = slow.requests(change.waits_in)
    program = slow.site.beside("env", "-C", root, *change.words)
    stream = slow.gate.opened(file)
    stream.allow(FILES * FILE_BYTES // 2)
    wait_until(lambda: slow.requests(change.waits_in) > before, "it is asked for")
    stream.wait_for(FILES * FILE_BYTES // 2)
    assert program.poll() is None
    return program, stream


@pytest.mark.parametrize("name", ["truncate", "create"])
def test_a_change_waits_and_is_done(slow: Slow, name: str) -> None:
    file, root = slow.tarball()
    change = CHANGES[name]
    program, stream = _begin(slow, change, file, root)
    stream.allow(None)
    assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == 0
    assert change.look(root) == change.after
    assert slow.state(root) == "dirty"
    assert slow.gate.count(file) == 1


@pytest.mark.parametrize("name", [*CHANGES])
def test_an_interrupted_change_is_not_done_later(slow: Slow, name: str) -> None:
    """Ctrl-C ends the program, and what it has not done stays undone."""
    file, root = slow.tarball()
    change = CHANGES[name]
    program, stream = _begin(slow, change, file, root)
    program.send_signal(signal.SIGINT)
    assert program.wait(30) == -signal.SIGINT
    stream.allow(None)
    assert len(os.listdir(root)) == FILES + 1
    assert slow.state(root) == "sealed"
    (root / "other").touch()
    assert change.look(root) == change.before
    assert slow.site.beside("env", "-C", root, *change.words).wait(30) == 0
    assert change.look(root) == change.after
    assert slow.gate.count(file) == 1


def test_several_make_the_first_change_at_once(slow: Slow) -> None:
    file, root = slow.tarball()
    names = [f"new {number}" for number in range(6)]
    programs = [slow.site.beside("touch", root / name) for name in names]
    programs += [slow.site.beside("truncate", "-s", "5", root / f"{n:03}") for n in range(4)]
    slow.gate.opened(file).allow(None)
    assert [program.wait(60) for program in programs] == [0] * 10
    assert {*names} < {*os.listdir(root)}
    assert len({(root / name).stat().st_ino for name in names}) == 6
    assert [(root / f"{n:03}").read_bytes() for n in range(4)] == [b"%03d\n0" % n for n in range(4)]
    assert slow.gate.count(file) == 1


def test_one_process_writes_to_a_hundred(site: Site) -> None:
    folder = site.path / "many"
    folder.mkdir()
    _archive(folder / "t0.tar", 1)
    for number in range(1, MANY):
        (folder / f"t{number}.tar").hardlink_to(folder / "t0.tar")
    backing = {"driver": "posix", "path": str(folder)}
    config = site.config(backing, name="many", volume={"writable": True})
    mounted = site.mount(config)
    for number in range(MANY):
        root = mounted.path / f"t{number}"
        (root / "new").write_text(f"of {number}\n")
        with (root / "first").open("ab") as first:
            first.write(b"and %d\n" % number)
        (root / "000").unlink()
    mounted.umount()
    mounted = site.mount(config)
    assert mounted.states() == {"dirty": MANY}
    for number in range(MANY):
        root = mounted.path / f"t{number}"
        assert sorted(os.listdir(root)) == ["first", "new"]
        assert (root / "new").read_text() == f"of {number}\n"
        assert (root / "first").read_bytes() == FIRST + b"and %d\n" % number
    mounted.umount()


def test_what_cannot_be_fetched_cannot_be_written_to(site: Site) -> None:
    folder = site.path / "corrupt"
    folder.mkdir()
    _archive(folder / "good.tar", 1)
    (folder / "bad.tar").write_bytes(b"This is no tarball. " * 5000)
    backing = {"driver": "posix", "path": str(folder)}
    config = site.config(backing, name="corrupt", volume={"writable": True})
    mounted = site.mount(config)
    bad = mounted.path / "bad"
    changes: list[Callable[[], None]] = [
        (bad / "new").touch,
        (bad / "new").mkdir,
        (bad / "new").unlink,
        lambda: os.truncate(bad / "new", 0),
        lambda: os.chmod(bad, 0o700),
        lambda: os.setxattr(bad, "user.a", b"x"),
    ]
    for change in changes:
        with pytest.raises(OSError, match=r".") as refused:
            change()
        assert refused.value.errno == errno.EIO
    assert stat.S_IMODE(bad.stat().st_mode) == 0o755
    (mounted.path / "good/new").write_bytes(b"new")
    assert mounted.states() == {"absent": 1, "dirty": 1}
    mounted.umount()

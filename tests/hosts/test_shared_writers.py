"""Several hosts write to one volume at once, over one server: what each of them closes, all see."""

from __future__ import annotations

import errno
import mmap
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

import attrs
import pytest

from kvfs.testing.mounts import wait_until
from kvfs.testing.places import Place
from kvfs.testing.written import inconsistencies
from kvfs.volume import Volume, from_tables

from .conftest import LEASE_S, PATIENCE_S, TIMEOUT_S, Run
from .hosts import Host

numbers = count(1)
RACES = 6
LINKS = 12
APPENDED = 15
STEPS = 40
EXPECTED = {
    None, "EEXIST", "EINVAL", "EISDIR", "ENOENT", "ENOTDIR", "ENOTEMPTY", "EPERM", "ESTALE",
}  # fmt: skip


@attrs.frozen
class Pair:
    """Two hosts that have a volume mounted, and write to it."""

    one: Host
    other: Host
    config: Path
    tables: dict[str, Any]

    @property
    def places(self) -> tuple[Path, Path]:
        """Where it is mounted on both."""
        return self.one.mnt, self.other.mnt

    def opened(self) -> Volume:
        """The volume, opened by this process."""
        return Volume(from_tables(self.tables, where="a test"))

    def check(self) -> None:
        """Nobody writes any more, and all that is left fits together."""
        for host in (self.one, self.other):
            host.site.run("umount", host.site.target())
        with self.opened() as volume:
            assert [*volume.state.scan_prefix(b"Vwriter")] == []
            assert inconsistencies(volume.state) == []
        self.one.site.run("fsck", self.config)


@pytest.fixture(scope="module")
def pair(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Each test has a directory of its own in it; what all have left is checked at the end."""
    path = tmp_path_factory.mktemp("pair")
    tables = {
        "kv": place.table(f"shared{next(numbers)}") | {"timeout": TIMEOUT_S},
        "backing": {"driver": "scratch"},
        "volume": {"shared": True, "lease": LEASE_S},
    }
    with ExitStack() as stack:
        one, other = (stack.enter_context(Host.boot(path / name)) for name in ("one", "other"))
        config = one.site.config(tables["backing"], kv=tables["kv"], volume=tables["volume"])
        one.mount(config)
        other.mount(config)
        made = Pair(one, other, config, tables)
        yield made
        made.check()


@pytest.fixture
def both(pair: Pair, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """A directory of the volume, as both hosts have it."""
    name = request.node.originalname
    (pair.one.mnt / name).mkdir()
    return pair.one.mnt / name, pair.other.mnt / name


def outcome(call: Callable[..., Any], *args: Any) -> str | None:
    """The name of the errno that a call fails with."""
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def at_once(run: Run, *calls: Callable[[], Any]) -> list[Any]:
    """What calls return that begin at the same time."""
    barrier = Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        barrier.wait(PATIENCE_S)
        return call()

    return [future.result(PATIENCE_S) for future in [run(begin, call) for call in calls]]


# -- close-to-open ---------------------------------------------------------------------------------


def test_what_one_closes_the_other_opens(both: tuple[Path, Path]) -> None:
    one, other = both
    for turn in range(6):
        writer, reader = (one, other) if turn % 2 else (other, one)
        text = b"%d" % turn * 70_000
        (writer / "file").write_bytes(text)
        assert (reader / "file").read_bytes() == text
        assert (reader / "file").stat().st_size == len(text)
        with (writer / "file").open("ab") as file:
            file.write(b"more")
        assert (reader / "file").read_bytes() == text + b"more"
        with (writer / "file").open("r+b") as again, mmap.mmap(again.fileno(), 0) as mapped:
            mapped[-8:] = b"mmapmmap"
        assert (reader / "file").read_bytes() == text[:-4] + b"mmapmmap"


def test_a_change_that_no_time_shows(both: tuple[Path, Path]) -> None:
    """Of the same size, and with the mtime of before: as by programs that keep it."""
    one, other = both
    for directory in both:
        (directory / "file").write_bytes(b"1" * 5000)
        os.utime(directory / "file", ns=(0, 0))
        os.utime(directory, ns=(0, 0))
    assert (other / "file").read_bytes() == b"1" * 5000
    assert os.listdir(other) == ["file"]
    (one / "file").write_bytes(b"2" * 5000)
    (one / "new").touch()
    os.utime(one / "file", ns=(0, 0))
    os.utime(one, ns=(0, 0))
    assert (other / "file").read_bytes() == b"2" * 5000
    assert sorted(os.listdir(other)) == ["file", "new"]


def test_names_and_attributes_are_seen_at_once(both: tuple[Path, Path]) -> None:
    one, other = both
    for turn in range(10):
        writer, reader = (one, other) if turn % 2 else (other, one)
        assert not (reader / "b").exists()
        (writer / "a").mkdir()
        assert os.listdir(reader) == ["a"]
        (writer / "a" / "inside").touch()
        (writer / "a").rename(writer / "b")
        assert outcome((reader / "a").stat) == "ENOENT"
        assert os.listdir(reader / "b") == ["inside"]
        (writer / "b").chmod(0o700)
        assert (reader / "b").stat().st_mode & 0o777 == 0o700
        os.setxattr(writer / "b", "user.a", b"%d" % turn)
        assert os.getxattr(reader / "b", "user.a") == b"%d" % turn
        shutil.rmtree(reader / "b")
        assert os.listdir(writer) == []


def test_what_is_open_while_the_other_writes(both: tuple[Path, Path]) -> None:
    one, other = both
    (one / "file").write_bytes(b"before")
    with (other / "file").open("rb", buffering=0) as file:
        assert file.read() == b"before"
        (one / "file").write_bytes(b"after, and longer")
        file.seek(0)
        assert file.read() == b"after, and longer"


# -- races -----------------------------------------------------------------------------------------


def test_who_makes_a_name_first(both: tuple[Path, Path], run: Run) -> None:
    """Exclusively: one of them.  Else: both, whoever was first, and it is one file."""

    def exclusive(path: Path) -> str | None:
        return outcome(lambda: path.touch(exist_ok=False))

    def append(path: Path) -> None:
        with path.open("ab", buffering=0) as file:
            file.write(b"x")

    for number in range(RACES):
        files = [directory / f"exclusive-{number}" for directory in both]
        done = at_once(run, *(lambda path=path: exclusive(path) for path in files))
        assert sorted(map(str, done)) == ["EEXIST", "None"]
        files = [directory / f"any-{number}" for directory in both]
        at_once(run, *(lambda path=path: append(path) for path in files))
        assert [path.read_bytes() for path in files] == [b"xx", b"xx"]
        files = [directory / f"directory-{number}" for directory in both]
        done = at_once(run, *(lambda path=path: outcome(path.mkdir) for path in files))
        assert sorted(map(str, done)) == ["EEXIST", "None"]
    assert both[0].stat().st_nlink == both[1].stat().st_nlink == 2 + RACES


def test_no_link_is_lost(both: tuple[Path, Path], run: Run) -> None:
    (both[0] / "file").touch()

    def link(directory: Path, name: str) -> None:
        for number in range(LINKS):
            os.link(directory / "file", directory / f"{name}-{number}")

    at_once(run, lambda: link(both[0], "one"), lambda: link(both[1], "other"))
    for directory in both:
        assert (directory / "file").stat().st_nlink == 1 + 2 * LINKS
        assert len(os.listdir(directory)) == 1 + 2 * LINKS


def test_nothing_that_is_appended_is_lost(both: tuple[Path, Path], run: Run) -> None:
    """Though both have the file open all the time, and each knows nothing of the other."""

    opened = Barrier(2)

    def append(directory: Path, letter: bytes) -> None:
        with (directory / "log").open("ab", buffering=0) as file:
            opened.wait(PATIENCE_S)
            for number in range(APPENDED):
                file.write(letter * 3000 + b"%d\n" % number)

    at_once(run, lambda: append(both[0], b"a"), lambda: append(both[1], b"b"))
    for directory in both:
        lines = (directory / "log").read_bytes().splitlines()
        for letter in (b"a", b"b"):
            ours = [line for line in lines if line.startswith(letter)]
            assert ours == [letter * 3000 + b"%d" % number for number in range(APPENDED)]
        assert len(lines) == 2 * APPENDED


def test_one_removes_where_the_other_makes(both: tuple[Path, Path], run: Run) -> None:
    """Either there is a file in the directory, or it is gone."""
    one, other = both
    for number in range(RACES):
        name = f"directory-{number}"
        (one / name).mkdir()
        made, removed = at_once(
            run,
            lambda: outcome((other / name / "file").touch),  # noqa: B023
            lambda: outcome((one / name).rmdir),  # noqa: B023
        )
        if made is None:
            assert (removed, os.listdir(one / name)) == ("ENOTEMPTY", ["file"])
            shutil.rmtree(other / name)
        else:
            assert (made, removed) == ("ENOENT", None)
        assert os.listdir(one) == os.listdir(other) == []


# -- what has no name any more ---------------------------------------------------------------------


def test_what_is_removed_while_it_is_open(both: tuple[Path, Path]) -> None:
    """It lives for the host that removes it; on another it is gone, and that is said."""
    one, other = both
    (one / "file").write_bytes(b"x" * 200_000)
    with (one / "file").open("rb", buffering=0) as file:
        (one / "file").unlink()
        assert not (other / "file").exists()
        assert file.read() == b"x" * 200_000
        assert os.fstat(file.fileno()).st_nlink == 0
    (one / "file").write_bytes(b"y" * 200_000)
    with (other / "file").open("r+b", buffering=0) as file:
        assert file.read(5) == b"y" * 5
        (one / "file").unlink()
        wait_until(lambda: outcome(os.fstat, file.fileno()), "it is not in use there any more")
        for call in (
            lambda: file.read(5),
            lambda: file.write(b"z"),
            lambda: os.fstat(file.fileno()),
        ):
            assert outcome(call) == "ESTALE"


# -- random histories ------------------------------------------------------------------------------


class History:
    """Steps by turns at random hosts, and what is to be there after each of them."""

    def __init__(self, both: tuple[Path, Path], seed: int) -> None:
        self._both = both
        self._random = random.Random(seed)
        self._files: dict[str, bytearray] = {}

    def run(self) -> None:
        steps = (self._write, self._write, self._append, self._truncate, self._rename, self._remove)
        for _ in range(STEPS):
            self._random.choice(steps)(self._random.choice(self._both), self._name())
            self._compare(self._random.choice(self._both))
        for directory in self._both:
            self._compare(directory)
            for name in self._files:
                self._read(directory, name)

    def _name(self) -> str:
        return self._random.choice("abcdefg")

    def _data(self) -> bytes:
        size = self._random.choice((1, 100, 5000, 70_000, 200_000))
        return self._random.randbytes(1) * size

    def _write(self, directory: Path, name: str) -> None:
        data, offset = self._data(), self._random.choice((0, 0, 3, 4096, 66_000))
        content = self._files.setdefault(name, bytearray())
        descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT)
        with open(descriptor, "r+b", buffering=0) as file:
            file.seek(offset)
            file.write(data)
        content.extend(bytes(max(offset - len(content), 0)))
        content[offset : offset + len(data)] = data

    def _append(self, directory: Path, name: str) -> None:
        data = self._data()
        with (directory / name).open("ab", buffering=0) as file:
            file.write(data)
        self._files.setdefault(name, bytearray()).extend(data)

    def _truncate(self, directory: Path, name: str) -> None:
        size = self._random.choice((0, 10, 5000, 150_000))
        if name in self._files:
            os.truncate(directory / name, size)
            content = self._files[name]
            content.extend(bytes(max(size - len(content), 0)))
            del content[size:]

    def _rename(self, directory: Path, name: str) -> None:
        new = self._name()
        if name in self._files:
            (directory / name).rename(directory / new)
            self._files[new] = self._files.pop(name)

    def _remove(self, directory: Path, name: str) -> None:
        found = outcome((directory / name).unlink)
        assert found == (None if name in self._files else "ENOENT")
        self._files.pop(name, None)

    def _compare(self, directory: Path) -> None:
        assert sorted(os.listdir(directory)) == sorted(self._files)
        if self._files:
            self._read(directory, self._random.choice([*self._files]))

    def _read(self, directory: Path, name: str) -> None:
        found = (directory / name).read_bytes()
        assert found == self._files[name], f"{directory / name}: other contents"


def test_every_open_after_a_close_is_right(both: tuple[Path, Path]) -> None:
    History(both, seed=1).run()


def test_both_do_anything_at_once(both: tuple[Path, Path], run: Run) -> None:
    """They are told what POSIX knows, or that a file is gone; what is left fits together."""

    def act(directory: Path, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(STEPS):
            path, target = (directory / chance.choice("abcd") for _ in range(2))
            if chance.random() < 0.3:
                target = path / chance.choice("abcd")
            call: Callable[[], Any] = chance.choice(
                (
                    path.mkdir,
                    path.touch,
                    path.unlink,
                    path.rmdir,
                    lambda: path.write_bytes(b"x" * chance.choice((5, 100_000))),  # noqa: B023
                    lambda: path.rename(target),  # noqa: B023
                    lambda: os.link(path, target),  # noqa: B023
                    lambda: path.symlink_to("nowhere"),  # noqa: B023
                )
            )
            assert outcome(call) in EXPECTED

    actors = [(directory, seed) for seed, directory in enumerate(both * 2)]
    at_once(run, *(lambda actor=actor: act(*actor) for actor in actors))


# -- dying -----------------------------------------------------------------------------------------


def test_a_host_dies_and_the_others_go_on(pair: Pair, tmp_path: Path, run: Run) -> None:
    with Host.boot(tmp_path / "dying") as third:
        third.mount(pair.config)
        dying = third.mnt
        (dying / "kept").write_bytes(b"kept")
        unlinked = (dying / "unlinked").open("wb", buffering=0)
        unlinked.write(b"x" * 100_000)
        (dying / "unlinked").unlink()

        def write() -> None:
            for number in count():
                (dying / f"dying-{number}").write_bytes(b"x" * 100)

        lost = run(write)
        one, other = pair.places
        wait_until((one / "dying-5").exists, "it is at work")
        third.kill()
        assert isinstance(lost.exception(PATIENCE_S), OSError)
        with suppress(OSError):
            unlinked.close()
    (one / "after").write_bytes(b"after")
    assert (other / "after").read_bytes() == b"after"
    assert (other / "kept").read_bytes() == b"kept"
    with pair.opened() as volume:

        def is_reclaimed() -> bool:
            return not [*volume.state.scan_prefix(b"U")]

        wait_until(is_reclaimed, "its unlinked file is removed", seconds=PATIENCE_S)

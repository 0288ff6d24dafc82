"""Tarballs that go, come back or become others in the middle of a call: no answer is ever wrong.

Every call of the file system is made again and again; each time something happens to its tarball
just before another of the calls that it makes of the engine, until it makes no further one.  What
it answers then must be what it answers when nothing happens, or that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import get_ident
from typing import Any, TypeVar

import attrs
import pytest

from kvfs.errors import KVFSError, Stale
from kvfs.files import Files, NotResident
from kvfs.files.records import ENTRY_OUT_BYTES
from kvfs.kv import KVStore
from kvfs.kv.driver import Buffer, KVDriver, ReadView
from kvfs.layers.around import Around, KVAround, Measure, nothing
from kvfs.layers.passing import KVLayer
from kvfs.tar.member import Member, MemberType
from kvfs.tar.writer import TarWriter
from kvfs.testing.volumes import TINY, Stores
from kvfs.volume import Volume

T = TypeVar("T")
OpenVolume = Callable[..., Volume]

SMALL = attrs.evolve(TINY, commit_bytes_best=2000)


def archive(version: int) -> bytes:
    """One of everything; what an unfinished ingest shows of it differs from the end."""
    text = b"%d" % version
    parts: list[bytes] = []
    writer = TarWriter(lambda data: parts.append(bytes(data)))
    hole = Member(b"d/hole", size=1000, sparse_map=((600, 200),))
    for member, data in (
        (Member(b"./", MemberType.DIRECTORY, 0o750, xattrs={b"user.root": text}), b""),
        (Member(b"twice", size=5, mode=0o600), b"early"),
        (Member(b"d", MemberType.DIRECTORY, 0o700, xattrs={b"user.a": text, b"user.b": b""}), b""),
        (Member(b"d/large", size=900), text * (900 // len(text))),
        (hole, b"h" * 200),
        (Member(b"d/one", size=3), b"%03d" % version),
        (Member(b"d/two", MemberType.HARDLINK, linkname=b"d/one"), b""),
        (Member(b"d/link", MemberType.SYMLINK, linkname=b"../twice"), b""),
        *((Member(b"d/%02d" % number, size=20), text * 20) for number in range(25)),
        (Member(b"d/sub/leaf", size=1), b"x"),
        (Member(b"twice", size=7, mode=0o644), b"late %02d" % version),
    ):
        writer.add(member, [data[: member.size]] if data else [])
    writer.close()
    return b"".join(parts)


# -- stores that let something happen --------------------------------------------------------------


class Stop(BaseException):
    """Whoever does something to a tarball is killed."""


@attrs.define
class Meddler(Around):
    """Lets something happen before a certain call that the reader's thread makes."""

    at: int = -1
    then: Callable[[], None] = nothing  # type: ignore[assignment]
    seen: int = 0
    reader: int = attrs.field(factory=get_ident)

    def call(
        self,
        operation: str,
        function: Callable[[], T],
        *,
        sent: Callable[[], int] = nothing,
        received: Measure[T] = nothing,
    ) -> T:
        if self.at >= 0 and get_ident() == self.reader:
            self.seen += 1
            if self.seen > self.at:
                self.at = -1
                self.then()
        return function()


@attrs.define
class Killer(Around):
    """Kills whoever writes, before one of its writes."""

    writes_left: int = 1 << 60

    def call(
        self,
        operation: str,
        function: Callable[[], T],
        *,
        sent: Callable[[], int] = nothing,
        received: Measure[T] = nothing,
    ) -> T:
        if operation == "commit":
            self.writes_left -= 1
            if self.writes_left < 0:
                raise Stop
        return function()


class Live(KVLayer):
    """An engine without snapshots: its views show what is there at each read."""

    def snapshot(self) -> ReadView:
        return LiveView(self.inner)


class LiveView(ReadView):
    def __init__(self, inner: KVDriver) -> None:
        self._inner = inner

    def get(self, key: bytes) -> Buffer | None:
        return self._inner.get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[Buffer | None]:
        return [self._inner.get(key) for key in keys]

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[Buffer, Buffer]]:
        assert not reverse
        while limit is None or limit > 0:
            found = next(self._inner.scan(start, stop, limit=1), None)
            if found is None:
                return
            yield found
            start = bytes(found[0]) + b"\0"
            limit = None if limit is None else limit - 1

    def refresh(self) -> None:
        pass

    def close(self) -> None:
        pass


@attrs.define
class World:
    """A volume that is read, and another over the same stores that does things to it."""

    stores: Stores
    meddler: Meddler
    killer: Killer
    reader: Volume
    other: Volume
    version: int = 1

    @property
    def tarball(self) -> int:
        [(number, _)] = [*self.other.tarballs.catalogue]
        return number

    def settle(self) -> None:
        """Have the tarball there, and whole."""
        self.killer.writes_left = 1 << 60
        try:
            self.stores.backing.stat("t.tar")
        except KVFSError:
            self.publish()
        self.other.refresh()
        self.other.tarballs.fetch(self.tarball)

    def publish(self) -> None:
        """Another version of the object."""
        self.version += 1
        self.stores.backing.write("t.tar", archive(self.version))

    # What can happen.

    def evict(self) -> None:
        assert self.other.tarballs.evict(self.tarball)

    def evict_and_fetch(self) -> None:
        self.evict()
        self.other.tarballs.fetch(self.tarball)

    def replace(self) -> None:
        self.publish()
        assert self.other.refresh().replaced == 1

    def replace_and_fetch(self) -> None:
        self.replace()
        self.other.tarballs.fetch(self.tarball)

    def remove(self) -> None:
        self.stores.backing.delete("t.tar")
        assert self.other.refresh().removed == 1

    def remove_and_put_back(self) -> None:
        self.remove()
        self.publish()
        self.other.refresh()
        self.other.tarballs.fetch(self.tarball)

    def killed(self, act: Callable[[], object], writes: int) -> None:
        self.killer.writes_left = writes
        try:
            act()
        except Stop:
            pass
        self.killer.writes_left = 1 << 60


def half(act: Callable[[World], None], writes: int) -> Callable[[World], None]:
    """Killed after so many writes."""
    return lambda world: world.killed(lambda: act(world), writes)


def half_fetched(writes: int) -> Callable[[World], None]:
    def act(world: World) -> None:
        world.evict()
        world.killer.writes_left = writes
        job = world.other.tarballs.start(world.tarball)
        with job.progress:
            assert job.progress.wait_for(lambda: job.done, 60)
        world.killer.writes_left = 1 << 60
        world.other.tarballs._jobs.clear()  # else its error is told for some seconds

    return act


GIVEN_UP: dict[str, Callable[[World], None]] = {
    "evicted": World.evict,
    "evicted and fetched": World.evict_and_fetch,
    **{f"half evicted, {writes}": half(World.evict, writes) for writes in (1, 3, 6, 10)},
    **{f"half fetched, {writes}": half_fetched(writes) for writes in (8, 12)},
}
CHANGED: dict[str, Callable[[World], None]] = {
    "replaced": World.replace,
    "replaced and fetched": World.replace_and_fetch,
    "removed": World.remove,
    "removed and put back": World.remove_and_put_back,
    **{f"half replaced, {writes}": half(World.replace, writes) for writes in (2, 6)},
}


@pytest.fixture(params=[True, False], ids=["snapshots", "no snapshots"])
def world(
    request: pytest.FixtureRequest, open_volume: OpenVolume, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    # Several steps for each range that is cleared.
    defaults = KVStore.clear_range.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "step", 9)
    meddler, killer = Meddler(), Killer()
    has_snapshots: bool = request.param
    around: Around = meddler

    def layered(driver: KVDriver, store: str) -> KVDriver:
        return KVAround(driver if has_snapshots else Live(driver), around)

    stores = Stores(capability=attrs.evolve(SMALL, snapshot=has_snapshots), around_kv=layered)
    stores.backing.write("t.tar", archive(1))
    reader = open_volume(stores)
    around = killer
    other = open_volume(stores)
    world = World(stores, meddler, killer, reader, other)
    yield world
    world.settle()


# -- what is asked ---------------------------------------------------------------------------------


@attrs.define
class Asked:
    """A call, and the answers that are right."""

    name: str
    call: Callable[[Files], Any]
    right: Any = None

    def ask(self, files: Files) -> Any:
        """The answer; what an unfinished tarball shows, if it says that, counts as none."""
        answer = self.call(files)
        return "not for keeping" if _is_provisional(self.name, answer) else answer


def _is_provisional(name: str, answer: Any) -> bool:
    if name.startswith("lookup") and answer is not None:
        return not any(answer[16:40])
    return name.startswith("getattr") and not any(answer[:16])


def questions(world: World) -> list[Asked]:
    """Everything that can be asked of the tarball as it is now."""
    files = world.reader.files(wait=False)
    root = files.open_path(b"t").inode
    at = {
        path: files.open_path(b"t/" + path, follow=False).inode
        for path in (b"d", b"d/large", b"d/hole", b"d/one", b"d/link", b"d/07", b"twice")
    }
    directory = at[b"d"]

    def lookup(parent: int, name: bytes) -> Callable[[Files], Any]:
        def call(files: Files) -> Any:
            entry = files.lookup(parent, name)
            if entry is None:
                files.negative_timeout_s(parent)
                return None
            assert len(entry) == ENTRY_OUT_BYTES
            return bytes(entry)

        return call

    def read(inode: int, offset: int, size: int) -> Callable[[Files], Any]:
        return lambda files: b"".join(files.read(inode, offset, size))

    def readdir(inode: int, cookie: int, size: int) -> Callable[[Files], Any]:
        return lambda files: b"".join(files.readdir(inode, cookie, size, True))

    asked = [
        Asked("lookup", lookup(directory, b"07")),
        Asked("lookup of what came twice", lookup(root, b"twice")),
        Asked("lookup of a link", lookup(directory, b"two")),
        Asked("lookup of nothing", lookup(directory, b"nothing")),
        Asked("getattr", lambda files: bytes(files.getattr(at[b"d/07"]))),
        Asked("getattr of a directory", lambda files: bytes(files.getattr(directory))),
        Asked("read", read(at[b"twice"], 0, 100)),
        Asked("read extents", read(at[b"d/large"], 100, 500)),
        Asked("read a hole", read(at[b"d/hole"], 0, 1000)),
        Asked("readdir of the root", readdir(root, 0, 1 << 16)),
        Asked("readdir", readdir(directory, 2, 1 << 16)),
        Asked("readdir, a piece", readdir(directory, 0, 700)),
        Asked("readlink", lambda files: bytes(files.readlink(at[b"d/link"]))),
        Asked("getxattr", lambda files: bytes(files.getxattr(directory, b"user.a") or b"")),
        Asked(
            "getxattr of the root", lambda files: bytes(files.getxattr(root, b"user.root") or b"")
        ),
        Asked("getxattr of nothing", lambda files: files.getxattr(directory, b"user.nothing")),
        Asked("listxattr", lambda files: sorted(files.listxattr(directory))),
        Asked("listxattr of the root", lambda files: sorted(files.listxattr(root))),
        Asked("path_of", lambda files: files.path_of(at[b"d/one"])),
    ]
    for question in asked:
        question.right = question.call(files)
    return asked


QUESTIONS = 19


def meddle(world: World, act: Callable[[World], None], *, is_warm: bool, may_be_stale: bool) -> int:
    """Ask everything, with ``act`` at every place; returns how many places there were."""
    places = 0
    for number in range(QUESTIONS):
        at = 0
        while True:
            world.settle()
            question = questions(world)[number]
            files = world.reader.files(wait=False)
            if is_warm:
                question.ask(files)
            world.meddler.seen, world.meddler.at = 0, at
            world.meddler.then = lambda: act(world)
            happened = check(question, files, at, may_be_stale)
            if world.meddler.at >= 0:
                world.meddler.at = -1
                files.close()
                break
            # What it knows by now must not mislead it the next time either.
            happened |= check(question, files, at, may_be_stale)
            files.close()
            fresh = world.reader.files(wait=False)
            check(question, fresh, at, may_be_stale)
            fresh.close()
            at += 1
        places += at
    return places


def check(question: Asked, files: Files, at: int, may_be_stale: bool) -> bool:
    """The answer is right, or none; was it none?"""
    try:
        answer = question.ask(files)
    except NotResident:
        return True
    except Stale:
        assert may_be_stale, question.name
        return True
    right = question.right
    assert answer in (right, "not for keeping"), f"{question.name}, before call {at}"
    return False


@pytest.mark.parametrize("is_warm", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("what", GIVEN_UP)
def test_given_up_in_the_middle_of_a_call(world: World, what: str, is_warm: bool) -> None:
    assert meddle(world, GIVEN_UP[what], is_warm=is_warm, may_be_stale=False) >= QUESTIONS // 2


@pytest.mark.parametrize("is_warm", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("what", CHANGED)
def test_changed_in_the_middle_of_a_call(world: World, what: str, is_warm: bool) -> None:
    assert meddle(world, CHANGED[what], is_warm=is_warm, may_be_stale=True) >= QUESTIONS // 2

"""What a store can be seen to do: the rows of the conformance table.

Each property is tried through a driver at a real server.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from threading import Barrier

import attrs

from kvfs.backing import BackingStore
from kvfs.errors import AlreadyExists, Conflict, Invalid, KVFSError, Unsupported
from kvfs.testing.backing.base import drain, noise

from .servers import Bucket

_BIG = noise(14_000_000)
_RACERS = 8


class Outcome(Enum):
    """What became of a property."""

    HOLDS = "yes"
    """As the contract of :class:`kvfs.backing.BackingDriver` has it."""
    DECLARED_ABSENT = "no"
    """The capability record of the open store says so beforehand."""
    REFUSED = "refused"
    """An error says what this server, or the driver, cannot do."""
    FAILS = "fails"
    """The server answers with an error, or otherwise than S3."""


@attrs.frozen
class Property:
    """One row."""

    text: str
    """As it stands in the table."""
    holds: Callable[[BackingStore, Bucket], None]
    """Fails by an assertion; refuses by :class:`Unsupported` or :class:`Invalid`."""
    needs: str | None = None
    """The capability that announces it."""

    def outcome(self, store: BackingStore, bucket: Bucket) -> Outcome:
        """Try it."""
        if self.needs is not None and not getattr(store.capability, self.needs):
            return Outcome.DECLARED_ABSENT
        try:
            self.holds(store, bucket)
        except (Unsupported, Invalid):
            return Outcome.REFUSED
        except (KVFSError, AssertionError):
            return Outcome.FAILS
        return Outcome.HOLDS


def _whole(store: BackingStore, bucket: Bucket) -> None:
    store.write("object", b"data")
    assert bucket.read("object") == b"data"
    assert store.stat("object").size == 4
    assert store.read("object", 0, 10) == b"data"


def _ranges(store: BackingStore, bucket: Bucket) -> None:
    bucket.write("object", _BIG)
    assert store.read("object", 5_000_000, 5_000_003) == _BIG[5_000_000:5_000_003]
    assert store.read("object", len(_BIG) - 1, len(_BIG) + 1) == _BIG[-1:]
    assert store.read("object", len(_BIG), len(_BIG) + 1) == b""


def _streams(store: BackingStore, bucket: Bucket) -> None:
    bucket.write("object", _BIG)
    with store.open_reader("object") as reader:
        assert drain(reader) == _BIG


def _parts(store: BackingStore, bucket: Bucket) -> None:
    with store.open_writer("object") as writer:
        for start in range(0, len(_BIG), 1_000_000):
            writer.write(_BIG[start : start + 1_000_000])
    assert bucket.read("object") == _BIG


def _lists(store: BackingStore, bucket: Bucket) -> None:
    names = ["a-b", "a/b", "a0", "é", "𝄞", "\ufb01", "b c+d%20#?"]
    for name in names:
        store.write(name, b"")
    expected = sorted(names, key=str.encode)
    assert [info.name for info in store.list()] == expected
    assert [info.name for info in store.list(after="a/b")] == expected[expected.index("a/b") + 1 :]


def _file_and_directory(store: BackingStore, bucket: Bucket) -> None:
    store.write("a", b"1")
    store.write("a/b", b"2")
    assert (store.read("a", 0, 9), store.read("a/b", 0, 9)) == (b"1", b"2")


def _creates(store: BackingStore, bucket: Bucket) -> None:
    store.write("object", b"first", if_absent=True)
    _raises(AlreadyExists, lambda: store.write("object", b"second", if_absent=True))
    assert bucket.read("object") == b"first"


def _one_creates(store: BackingStore, bucket: Bucket) -> None:
    barrier = Barrier(_RACERS)

    def create(racer: int) -> bool:
        barrier.wait()
        try:
            store.write("object", b"%d" % racer, if_absent=True)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(_RACERS) as pool:
        won = [*pool.map(create, range(_RACERS))]
    assert won.count(True) == 1
    assert bucket.read("object") == b"%d" % won.index(True)


def _creates_large(store: BackingStore, bucket: Bucket) -> None:
    store.write("object", _BIG, if_absent=True)
    _raises(AlreadyExists, lambda: store.write("object", _BIG[::-1], if_absent=True))
    assert bucket.read("object") == _BIG


def _replaces(store: BackingStore, bucket: Bucket) -> None:
    store.write("object", b"1")
    version = store.stat("object").version
    store.write("object", b"2", if_match=version)
    _raises(Conflict, lambda: store.write("object", b"3", if_match=version))
    _raises(Conflict, lambda: store.delete("object", if_match=version))
    assert bucket.read("object") == b"2"
    store.delete("object", if_match=store.stat("object").version)


def _raises(error: type[KVFSError], call: Callable[[], None]) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


PROPERTIES = (
    Property("objects are written and read whole", _whole),
    Property("ranges, up to the end and behind it", _ranges),
    Property("streams, read in parallel ranges", _streams),
    Property("large objects, sent in parts", _parts),
    Property("listings in byte order, any UTF-8 name, from anywhere", _lists),
    Property("objects `a` and `a/b` together", _file_and_directory),
    Property("create only if absent", _creates, needs="conditional_create"),
    Property("of eight that create, one does", _one_creates, needs="conditional_create"),
    Property("create a large object only if absent", _creates_large, needs="conditional_create"),
    Property("replace and delete only at a version", _replaces, needs="conditional_replace"),
)

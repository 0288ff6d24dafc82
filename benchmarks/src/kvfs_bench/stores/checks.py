"""What a store is asked before it is measured: each check holds, or says why not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import attrs

from kvfs.backing import BackingStore
from kvfs.errors import AlreadyExists, Conflict, KVFSError, NotFound

if TYPE_CHECKING:
    from typing import BinaryIO

_LARGE = random.Random(4).randbytes(20_000_003)
_NAMES = ("a-b", "a/b", "a0", "b c+d%20#?", "é", "\ufb01", "\U0001d11e")
_STEP = 1 << 20


class _Wrong(Exception):
    """An answer that is not the right one."""


@attrs.frozen(kw_only=True)
class Check:
    """What became of one."""

    what: str
    ok: bool | None
    """``None``: the store says beforehand that it cannot."""
    why: str = ""

    @property
    def text(self) -> str:
        """As it stands in a table."""
        return {True: "ok", False: "fails", None: "not announced"}[self.ok]


def run(store: BackingStore) -> Iterator[Check]:
    """Make every check, in order."""
    for what, capability, check in _CHECKS:
        if capability and not getattr(store.capability, capability):
            yield Check(what=what, ok=None, why=f"capability {capability} is no")
            continue
        try:
            check(store)
        except (_Wrong, KVFSError) as error:
            yield Check(what=what, ok=False, why=str(error) or type(error).__name__)
        else:
            yield Check(what=what, ok=True)


def _is(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise _Wrong(f"{what} is wrong")


def _raises(error: type[KVFSError], call: Callable[[], object], what: str) -> None:
    try:
        call()
    except error:
        return
    raise _Wrong(f"{what} is not refused")


def drained(reader: BinaryIO) -> bytes:
    """All of a stream."""
    return b"".join(iter(lambda: reader.read(_STEP), b""))


def _objects(store: BackingStore) -> None:
    for data in (b"", b"data", b"other data"):
        store.write("object", data)
        _is(store.read("object", 0, 100), data, "an object")
        _is(store.stat("object").size, len(data), "its size")


def _absent(store: BackingStore) -> None:
    _raises(NotFound, lambda: store.stat("absent"), "stat of nothing")
    _raises(NotFound, lambda: store.read("absent", 0, 1), "a read of nothing")
    store.delete("absent")


def _deletes(store: BackingStore) -> None:
    store.write("object", b"data")
    store.delete("object")
    _raises(NotFound, lambda: store.stat("object"), "stat of what was deleted")


def _large(store: BackingStore) -> None:
    with store.open_writer("large") as writer:
        for start in range(0, len(_LARGE), _STEP):
            writer.write(_LARGE[start : start + _STEP])
    with store.open_reader("large") as reader:
        _is(drained(reader), _LARGE, "a large object")


def _ranges(store: BackingStore) -> None:
    size = len(_LARGE)
    for start, stop in ((0, 1), (7_654_321, 7_700_000), (size - 1, size + 9), (size, size + 1)):
        _is(store.read("large", start, stop), _LARGE[start:stop], f"the range {start}-{stop}")
    with store.open_reader("large", size - 3_000_000) as reader:
        _is(drained(reader), _LARGE[-3_000_000:], "the end of a large object")
    store.delete("large")


def _lists(store: BackingStore) -> None:
    for name in _NAMES:
        store.write(f"names/{name}", b"")
    expected = [f"names/{name}" for name in sorted(_NAMES, key=str.encode)]
    _is([info.name for info in store.list("names/")], expected, "a listing")
    found = [info.name for info in store.list("names/", after=expected[2])]
    _is(found, expected[3:], "a listing from the middle")
    for name in expected:
        store.delete(name)


def _fails_whole(store: BackingStore) -> None:
    store.write("object", b"old")
    try:
        with store.open_writer("object") as writer:
            writer.write(_LARGE)
            raise _Wrong
    except _Wrong:
        pass
    _is(store.read("object", 0, 100), b"old", "an object whose writer failed")


def _creates(store: BackingStore) -> None:
    store.write("new", b"first", if_absent=True)
    _raises(AlreadyExists, lambda: store.write("new", b"second", if_absent=True), "a second create")
    _is(store.read("new", 0, 100), b"first", "what was created")


def _replaces(store: BackingStore) -> None:
    store.write("object", b"1")
    version = store.stat("object").version
    store.write("object", b"2", if_match=version)
    _raises(Conflict, lambda: store.write("object", b"3", if_match=version), "an old version")
    _raises(Conflict, lambda: store.delete("object", if_match=version), "an old version")
    _is(store.read("object", 0, 100), b"2", "what was replaced")


_CHECKS: tuple[tuple[str, str, Callable[[BackingStore], None]], ...] = (
    ("objects are written, replaced and read", "writable", _objects),
    ("what is not there is not found", "", _absent),
    ("objects are deleted", "writable", _deletes),
    ("a large object, as a stream", "writable", _large),
    ("ranges, up to the end and behind it", "writable", _ranges),
    ("listings in byte order, from anywhere", "writable", _lists),
    ("a writer that fails changes nothing", "writable", _fails_whole),
    ("create only if absent", "conditional_create", _creates),
    ("replace and delete only at a version", "conditional_replace", _replaces),
)

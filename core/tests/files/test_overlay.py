"""Any layer above any records below shows what a dictionary says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from kvfs.capability import Durability
from kvfs.files.overlay import GONE, Overlay, get_extents, scan_extents
from kvfs.files.records import (
    VOLUME_ID,
    dirent_key,
    extent_key,
    id_bytes,
    inode_key,
    inode_of,
    link_key,
    unlinked_key,
    xattr_key,
)
from kvfs.kv import Batch, Buffer, KVStore
from kvfs.kv.memory import MemoryDriver

# Few numbers, so that what is above and what is below meet; two tarballs that are neighbours.
INODES = st.builds(inode_of, st.sampled_from((1, 2)), st.integers(1, 3))
SLOTS = st.integers(16, 19)
VALUES = st.binary(min_size=1, max_size=3)
RECORDS = st.one_of(
    st.tuples(st.builds(dirent_key, INODES, SLOTS), VALUES),
    st.tuples(st.builds(extent_key, INODES, st.integers(0, 3)), VALUES),
    st.tuples(st.builds(inode_key, INODES), VALUES),
    # These may be empty.
    st.tuples(st.builds(link_key, INODES, INODES, SLOTS), st.binary(max_size=1)),
    st.tuples(
        st.builds(xattr_key, INODES, st.sampled_from((b"a", b"b", b"="))),
        st.sampled_from((b"", b"=", b"v", b"v=")),
    ),
)
OWN_INODES = st.builds(inode_of, st.just(VOLUME_ID), st.integers(1, 3))
OWN = st.one_of(
    st.tuples(st.builds(inode_key, OWN_INODES), st.binary(max_size=2)),
    st.tuples(st.builds(xattr_key, OWN_INODES, st.just(b"a")), st.binary(max_size=2)),
    st.tuples(st.builds(unlinked_key, INODES), st.just(b"")),
)
Layer = dict[bytes, bytes | None]
"""What is to be shown; ``None``: what is gone."""
BELOW = st.lists(RECORDS).map(dict)
ABOVE = st.lists(st.tuples(RECORDS, st.booleans())).map(
    lambda drawn: {key: None if is_gone else value for (key, value), is_gone in drawn}
)


def store_of(records: Mapping[bytes, Buffer]) -> KVStore:
    store = KVStore(MemoryDriver(), name="memory")
    batch = Batch()
    for key, value in records.items():
        batch.put(key, value)
    store.commit(batch, Durability.MEMORY)
    return store


def laid_over(below: Mapping[bytes, bytes], above: Layer) -> Overlay:
    stored = {
        key: GONE if value is None else Overlay.stored(key, value) for key, value in above.items()
    }
    return Overlay(store_of(stored).snapshot(), store_of(below).snapshot())


def shown(below: Mapping[bytes, bytes], above: Layer) -> dict[bytes, bytes]:
    """What the dictionary says."""
    merged: Layer = {**below, **above}
    return {key: value for key, value in merged.items() if value is not None}


def as_bytes(value: Buffer | None) -> bytes | None:
    return None if value is None else bytes(value)


@given(BELOW, ABOVE)
def test_records_are_found(lower: dict[bytes, bytes], upper: Layer) -> None:
    view, expected = laid_over(lower, upper), shown(lower, upper)
    for letter in b"ADEHI":
        keys = sorted(key for key in {**lower, **upper} if key[0] == letter)
        keys.append(bytes((letter,)) + b"\xff" * 8)  # nowhere
        assert [as_bytes(view.get(key)) for key in keys] == [expected.get(key) for key in keys]
        assert [*map(as_bytes, view.get_many(keys))] == [expected.get(key) for key in keys]
        assert [view.hides(key) for key in keys] == [key in lower for key in keys]


@given(BELOW, ABOVE, st.integers(0, 5), st.data())
def test_records_are_listed(
    lower: dict[bytes, bytes], upper: Layer, limit: int, data: st.DataObject
) -> None:
    view, expected = laid_over(lower, upper), shown(lower, upper)
    for letter in b"ADEHI":
        edges = [bytes((letter, 0)), bytes((letter, 255))]
        edges += [key for key in {**lower, **upper} if key[0] == letter]
        start, stop = sorted((data.draw(st.sampled_from(edges)), data.draw(st.sampled_from(edges))))
        listed = sorted(item for item in expected.items() if start <= item[0] < stop)
        found = [(bytes(key), bytes(value)) for key, value in view.scan(start, stop)]
        assert found == listed
        few = [bytes(key) for key, _ in view.scan(start, stop, limit=limit)]
        assert few == [key for key, _ in listed[:limit]]


@given(st.lists(OWN), st.lists(OWN))
def test_what_is_of_the_volume_itself_has_nothing_below(
    below: list[tuple[bytes, bytes]], above: list[tuple[bytes, bytes]]
) -> None:
    """Whatever it is: an empty value is one there."""
    lower, upper = dict(below), dict(above)
    view = Overlay(store_of(upper).snapshot(), store_of(lower).snapshot())
    for key in {**lower, **upper}:
        assert as_bytes(view.get(key)) == upper.get(key)
        assert [*map(as_bytes, view.get_many([key]))] == [upper.get(key)]
        assert Overlay.stored(key, b"value") == b"value"
        assert not view.hides(key)
    for letter in (b"A", b"I", b"U"):
        found = view.scan(letter + id_bytes(VOLUME_ID), letter + id_bytes(3))
        listed = sorted(item for item in upper.items() if item[0][:1] == letter)
        assert [(bytes(key), bytes(value)) for key, value in found] == listed


EXTENTS = st.dictionaries(st.integers(0, 6), VALUES)
NUMBERS = st.integers(0, 8)


@given(
    EXTENTS,
    st.dictionaries(st.integers(0, 6), st.none() | VALUES),
    st.none() | NUMBERS,
    NUMBERS,
    st.none() | NUMBERS,
)
def test_extents_of_a_file_that_was_cut_off(
    below: dict[int, bytes], above: dict[int, bytes | None], cut: int | None, first: int,
    stop: int | None,
) -> None:  # fmt: skip
    inode = inode_of(1, 1)
    key: Callable[[int], bytes] = lambda number: extent_key(inode, number)  # noqa: E731
    # Neighbours, which must not be taken for this one's.
    lower = {extent_key(inode + step, 0): b"other" for step in (-1, 1)}
    lower |= {key(number): value for number, value in below.items()}
    view = laid_over(lower, {key(number): value for number, value in above.items()})
    kept = {number: value for number, value in below.items() if cut is None or number < cut}
    merged: dict[int, bytes | None] = {**kept, **above}
    expected = {number: value for number, value in merged.items() if value}
    found = [(n, bytes(value)) for n, value in scan_extents(view, inode, cut, first, stop)]
    end = 99 if stop is None else stop
    assert found == sorted(item for item in expected.items() if first <= item[0] < end)
    numbers = range(first, max(first, end if end < 99 else 9))
    asked = [bytes(value or b"") for value in get_extents(view, inode, cut, numbers)]
    assert asked == [expected.get(number, b"") for number in numbers]

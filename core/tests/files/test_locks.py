"""The locks on a file, beside a model that knows for each byte who holds it, and how."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvfs.errors import Corrupt
from kvfs.files.locks import LAST_BYTE, Lock, LockTable, Owner, Space

BYTES = 12
OWNERS = [Owner(mount, number) for mount in ("here", "there") for number in (1, 2)]
Held = dict[tuple[Space, Owner], dict[int, bool]]
"""By space and owner, the bytes that are locked, and whether exclusively."""

spaces = st.sampled_from(Space)
owners = st.sampled_from(OWNERS)
ranges = st.tuples(st.integers(0, BYTES - 1), st.integers(0, BYTES - 1)).map(sorted)
steps = st.lists(st.tuples(spaces, owners, ranges, st.sampled_from(["s", "x", "-"])), max_size=25)


def lock(
    owner: Owner = OWNERS[0],
    start: int = 0,
    last: int = LAST_BYTE,
    *,
    exclusive: bool = True,
    space: Space = Space.POSIX,
    handle: int = 0,
) -> Lock:
    return Lock(
        space=space, owner=owner, start=start, last=last, exclusive=exclusive, handle=handle
    )


def held(table: LockTable) -> Held:
    """What a table says, byte for byte."""
    found: Held = {}
    for it in table.locks:
        of_owner = found.setdefault((it.space, it.owner), {})
        for byte in range(it.start, it.last + 1):
            assert byte not in of_owner, "an owner holds a byte twice"
            of_owner[byte] = it.exclusive
    return found


def in_the_way(model: Held, wanted: Lock) -> bool:
    return any(
        space is wanted.space
        and owner != wanted.owner
        and any(
            wanted.start <= byte <= wanted.last and (exclusive or wanted.exclusive)
            for byte, exclusive in of_owner.items()
        )
        for (space, owner), of_owner in model.items()
    )


def check(table: LockTable, model: Held) -> None:
    assert held(table) == {who: of_owner for who, of_owner in model.items() if of_owner}
    for one in table.locks:
        for other in table.locks:
            assert not one.is_in_the_way_of(other)
            if one.is_of(other) and one.exclusive == other.exclusive:
                assert one.last + 1 != other.start, "what touches is one lock"
    packed = table.pack(stamp=7)
    assert LockTable.unpack(packed) == table
    assert (packed is None) == (not table.locks)


@given(steps)
def test_any_sequence_beside_a_model_of_bytes(
    history: list[tuple[Space, Owner, list[int], str]],
) -> None:
    table, model = LockTable(), Held()
    for space, owner, (start, last), how in history:
        of_owner = model.setdefault((space, owner), {})
        covered = range(start, last + 1)
        if how == "-":
            table = table.without(space, owner, start, last)
            for byte in covered:
                of_owner.pop(byte, None)
        else:
            wanted = lock(owner, start, last, exclusive=how == "x", space=space)
            blocking = table.conflict(wanted)
            assert (blocking is not None) == in_the_way(model, wanted)
            if blocking is None:
                table = table.with_lock(wanted)
                of_owner.update(dict.fromkeys(covered, wanted.exclusive))
            else:
                assert blocking in table.locks
                assert blocking.is_in_the_way_of(wanted)
        check(table, model)


def test_the_first_lock_in_the_way_is_told() -> None:
    table = LockTable()
    for start in (50, 10, 30):
        table = table.with_lock(lock(start=start, last=start + 5))
    found = table.conflict(lock(OWNERS[1], 20))
    assert found is not None
    assert (found.start, found.last) == (30, 35)


def test_a_lock_to_the_end_is_cut_and_made_whole() -> None:
    table = LockTable().with_lock(lock()).without(Space.POSIX, OWNERS[0], 5, 9)
    assert [(it.start, it.last) for it in table.locks] == [(0, 4), (10, LAST_BYTE)]
    table = table.with_lock(lock(start=5, last=9))
    assert [(it.start, it.last) for it in table.locks] == [(0, LAST_BYTE)]


def test_flock_and_fcntl_locks_know_nothing_of_each_other() -> None:
    table = LockTable().with_lock(lock(space=Space.FLOCK))
    assert table.conflict(lock(OWNERS[1])) is None
    assert table.conflict(lock(OWNERS[1], space=Space.FLOCK)) is not None


def test_those_of_an_open_file_alone_can_go() -> None:
    table = LockTable().with_lock(lock(handle=1)).with_lock(lock(space=Space.FLOCK, handle=2))
    [left] = table.keeping(lambda it: it.handle != 1).locks
    assert left.space is Space.FLOCK
    # What becomes one lock is of the open file that it was last taken through.
    table = LockTable().with_lock(lock(last=4, handle=1)).with_lock(lock(start=5, handle=2))
    assert [it.handle for it in table.locks] == [2]


def test_golden_record() -> None:
    table = LockTable().with_lock(lock(Owner("m", 3), 1, 9, handle=4))
    packed = b'{"stamp":5,"mounts":["m"],"locks":[["posix",0,3,1,9,true,0,4]]}'
    assert table.pack(stamp=5) == packed
    assert LockTable.unpack(packed) == table
    assert LockTable.unpack(None) == LockTable()


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xff", b"[]", b"7", b'{"mounts":[]}', b'{"mounts":[],"locks":[[]]}',
        json.dumps({"mounts": [], "locks": [["posix", 0, 1, 0, 1, True, 0, 0]]}).encode(),
        json.dumps({"mounts": ["m"], "locks": [["other", 0, 1, 0, 1, True, 0, 0]]}).encode(),
    ],
)  # fmt: skip
def test_a_damaged_record_is_found(raw: bytes) -> None:
    with pytest.raises(Corrupt, match="damaged"):
        LockTable.unpack(raw)

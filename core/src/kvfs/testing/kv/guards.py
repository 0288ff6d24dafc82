"""Guards: every transaction of the project is built on them."""

from __future__ import annotations

import pytest

from kvfs.errors import Conflict
from kvfs.kv.driver import Batch
from kvfs.kv.store import KVStore
from kvfs.testing.kv.base import KVBase, everything
from kvfs.testing.selection import needs

_BEFORE = {b"a": b"1", b"b": b"22", b"empty": b""}
_HOLD: dict[str, dict[bytes, bytes | None]] = {
    "equal": {b"a": b"1"},
    "absent": {b"nothing": None},
    "empty": {b"empty": b""},
    "all": {b"a": b"1", b"b": b"22", b"empty": b"", b"nothing": None, b"aa": None},
}
_FAIL: dict[str, dict[bytes, bytes | None]] = {
    "other-value": {b"a": b"2"},
    "shorter": {b"b": b"2"},
    "longer": {b"a": b"1\x00"},
    "present": {b"a": None},
    "present-and-empty": {b"empty": None},
    "absent": {b"nothing": b"1"},
    "absent-is-not-empty": {b"nothing": b""},
    "last-of-many": {b"a": b"1", b"b": b"22", b"nothing": None, b"zzz": b"there"},
}


class Guards(KVBase):
    """``commit`` with guards."""

    @needs("writable")
    @pytest.mark.parametrize("name", _HOLD)
    def test_batch_is_applied_if_its_guards_hold(self, store: KVStore, name: str) -> None:
        store.commit(Batch(puts={**_BEFORE}))
        store.commit(Batch(guards=_HOLD[name]).put(b"new", b"put").delete(b"b"))
        assert everything(store.driver) == {b"a": b"1", b"empty": b"", b"new": b"put"}

    @needs("writable")
    @pytest.mark.parametrize("name", _FAIL)
    def test_nothing_is_applied_if_one_does_not(self, store: KVStore, name: str) -> None:
        store.commit(Batch(puts={**_BEFORE}))
        batch = Batch(guards=_FAIL[name]).put(b"new", b"put").put(b"a", b"changed")
        with pytest.raises(Conflict):
            store.commit(batch.delete(b"b").delete_range(b"e", b"f"))
        assert everything(store.driver) == _BEFORE
        store.commit(Batch().put(b"after", b"works"))
        assert store.get(b"after") == b"works"

    @needs("writable")
    def test_guards_alone(self, store: KVStore) -> None:
        store.commit(Batch(puts={**_BEFORE}))
        store.commit(Batch().guard(b"a", b"1"))
        with pytest.raises(Conflict):
            store.commit(Batch().guard(b"a", b"2"))
        assert everything(store.driver) == _BEFORE

    @needs("writable")
    def test_guards_look_at_what_was_before_the_batch(self, store: KVStore) -> None:
        store.put(b"key", b"old")
        store.commit(Batch().put(b"key", b"new").guard(b"key", b"old"))
        assert store.get(b"key") == b"new"
        with pytest.raises(Conflict):
            store.commit(Batch().put(b"key", b"newer").guard(b"key", b"newer"))
        with pytest.raises(Conflict):
            store.commit(Batch().delete(b"key").guard(b"key", None))
        with pytest.raises(Conflict):
            store.commit(Batch().delete_range(b"a", b"z").guard(b"key", None).put(b"b", b"1"))
        assert everything(store.driver) == {b"key": b"new"}
        store.commit(Batch().delete_range(b"a", b"z").guard(b"key", b"new").put(b"b", b"1"))
        assert everything(store.driver) == {b"b": b"1"}
        store.commit(Batch().delete(b"b").guard(b"b", b"1"))
        assert everything(store.driver) == {}

    @needs("writable")
    def test_create(self, store: KVStore) -> None:
        store.create(b"key", b"first")
        with pytest.raises(Conflict):
            store.create(b"key", b"second")
        assert store.get(b"key") == b"first"
        store.delete(b"key")
        store.create(b"key", b"third")
        assert store.get(b"key") == b"third"

"""Writes on a condition: only if absent, only if it is still the version that was seen."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import BinaryIO

import pytest

from kvfs.backing.store import BackingStore
from kvfs.errors import AlreadyExists, Conflict, Invalid, Unsupported
from kvfs.testing.backing.base import BackingBase, fail_in_body, whole
from kvfs.testing.selection import lacks, needs


def _overtaken(store: BackingStore, writing: AbstractContextManager[BinaryIO]) -> None:
    """Write an object slowly; somebody else writes it in the meantime."""
    with writing as stream:
        stream.write(b"late")
        store.write("object", b"early")


class Conditions(BackingBase):
    """``if_absent`` and ``if_match``."""

    @needs("writable", "conditional_create")
    def test_create(self, store: BackingStore) -> None:
        store.write("object", b"first", if_absent=True)
        with pytest.raises(AlreadyExists):
            store.write("object", b"second", if_absent=True)
        assert whole(store, "object") == b"first"
        assert [info.name for info in store.list()] == ["object"]
        store.delete("object")
        store.write("object", b"third", if_absent=True)
        assert whole(store, "object") == b"third"

    @needs("writable", "conditional_create")
    def test_create_is_decided_at_the_end(self, store: BackingStore) -> None:
        with pytest.raises(AlreadyExists):
            _overtaken(store, store.open_writer("object", if_absent=True))
        assert whole(store, "object") == b"early"

    @needs("writable", "conditional_create")
    def test_failed_body_of_a_create(self, store: BackingStore) -> None:
        with pytest.raises(RuntimeError):
            fail_in_body(store.open_writer("object", if_absent=True), RuntimeError)
        store.write("object", b"data", if_absent=True)

    @needs("writable", "conditional_replace")
    def test_replace(self, store: BackingStore) -> None:
        store.write("object", b"1")
        first = store.stat("object").version
        store.write("object", b"2", if_match=first)
        with pytest.raises(Conflict):
            store.write("object", b"3", if_match=first)
        assert whole(store, "object") == b"2"
        store.write("object", b"4", if_match=store.stat("object").version)
        assert whole(store, "object") == b"4"

    @needs("writable", "conditional_replace")
    def test_replace_is_decided_at_the_end(self, store: BackingStore) -> None:
        store.write("object", b"old")
        version = store.stat("object").version
        with pytest.raises(Conflict):
            _overtaken(store, store.open_writer("object", if_match=version))
        assert whole(store, "object") == b"early"

    @needs("writable", "conditional_replace")
    def test_replace_of_nothing(self, store: BackingStore) -> None:
        store.write("object", b"old")
        version = store.stat("object").version
        store.delete("object")
        with pytest.raises(Conflict):
            store.write("object", b"new", if_match=version)
        assert [*store.list()] == []

    @needs("writable", "conditional_replace")
    def test_delete_on_condition(self, store: BackingStore) -> None:
        store.write("object", b"1")
        first = store.stat("object").version
        store.write("object", b"22")
        with pytest.raises(Conflict):
            store.delete("object", if_match=first)
        assert whole(store, "object") == b"22"
        second = store.stat("object").version
        store.delete("object", if_match=second)
        with pytest.raises(Conflict):
            store.delete("object", if_match=second)
        assert [*store.list()] == []

    @needs("writable", "conditional_create", "conditional_replace")
    def test_conditions_exclude_each_other(self, store: BackingStore) -> None:
        with pytest.raises(Invalid):
            store.open_writer("object", if_absent=True, if_match="1")

    @needs("writable")
    @lacks("conditional_create")
    def test_create_is_refused(self, store: BackingStore) -> None:
        with pytest.raises(Unsupported):
            store.write("object", b"data", if_absent=True)
        assert [*store.list()] == []

    @needs("writable")
    @lacks("conditional_replace")
    def test_replace_is_refused(self, store: BackingStore) -> None:
        store.write("object", b"old")
        version = store.stat("object").version
        with pytest.raises(Unsupported):
            store.write("object", b"new", if_match=version)
        with pytest.raises(Unsupported):
            store.delete("object", if_match=version)
        assert whole(store, "object") == b"old"

"""Writers and deletes: an object appears whole, or not at all."""

from __future__ import annotations

import pytest

from kvfs.backing.store import BackingStore
from kvfs.errors import AlreadyExists, NotFound, Unsupported
from kvfs.testing.backing.base import BackingBase, fail_in_body, noise, whole
from kvfs.testing.contents import assert_same_bytes
from kvfs.testing.harness import BackingHarness
from kvfs.testing.selection import lacks, needs


class _Interrupted(BaseException):
    """As KeyboardInterrupt: not an ``Exception``."""


class Writes(BackingBase):
    """``open_writer`` and ``delete``."""

    @needs("writable")
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_writes_add_up(self, store: BackingStore, kind: type) -> None:
        data = noise(300_000)
        with store.open_writer("directory/object") as stream:
            for start in range(0, len(data), 70_001):
                part = kind(data[start : start + 70_001])
                assert stream.write(part) == len(part)
        assert_same_bytes(whole(store, "directory/object"), data)

    @needs("writable")
    def test_empty_object(self, store: BackingStore) -> None:
        with store.open_writer("object"):
            pass
        assert store.stat("object").size == 0
        assert [info.name for info in store.list()] == ["object"]

    @needs("writable")
    def test_object_is_not_there_before_the_end(self, store: BackingStore) -> None:
        with store.open_writer("object") as stream:
            stream.write(noise(200_000))
            assert [*store.list()] == []
            with pytest.raises(NotFound):
                store.stat("object")
            with pytest.raises(NotFound):
                store.read("object", 0, 1)
        assert store.stat("object").size == 200_000

    @needs("writable")
    def test_old_object_is_there_until_the_end(self, store: BackingStore) -> None:
        old, new = noise(1000, seed=1), noise(200_000, seed=2)
        store.write("object", old)
        before = store.stat("object")
        with store.open_writer("object") as stream:
            stream.write(new)
            assert store.stat("object") == before
            assert whole(store, "object") == old
            assert [*store.list()] == [before]
        assert whole(store, "object") == new

    @needs("writable")
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, _Interrupted])
    @pytest.mark.parametrize("existing", [False, True])
    def test_failed_body_changes_nothing(
        self, store: BackingStore, error: type[BaseException], existing: bool
    ) -> None:
        if existing:
            store.write("object", b"old")
        before = [*store.list()]
        with pytest.raises(error):
            fail_in_body(store.open_writer("object"), error)
        assert [*store.list()] == before
        store.write("object", b"new")
        assert whole(store, "object") == b"new"

    @needs("writable")
    @pytest.mark.parametrize("size", [0, 3, 4, 100_000])
    def test_version_changes_with_the_contents(self, store: BackingStore, size: int) -> None:
        store.write("object", b"1234567")
        before = store.stat("object")
        store.write("object", noise(size))
        after = store.stat("object")
        assert after.version != before.version
        assert after.mtime_ns >= before.mtime_ns
        assert [*store.list()] == [after]

    @needs("writable", "strong_version")
    def test_different_contents_have_different_versions(self, store: BackingStore) -> None:
        """In the same instant, of the same size, at the same name."""
        versions = set()
        for number in range(100):
            store.write("object", b"%03d" % number)
            versions.add(store.stat("object").version)
        assert len(versions) == 100

    @needs("writable")
    def test_delete(self, store: BackingStore) -> None:
        for name in ("a", "directory/b", "directory/c"):
            store.write(name, b"data")
        store.delete("directory/b")
        with pytest.raises(NotFound):
            store.stat("directory/b")
        assert [info.name for info in store.list()] == ["a", "directory/c"]
        store.delete("directory/c")
        store.delete("a")
        assert [*store.list()] == []
        store.write("directory/b", b"again")
        assert whole(store, "directory/b") == b"again"

    @needs("writable")
    def test_delete_of_nothing(self, store: BackingStore) -> None:
        store.write("directory/object", b"data")
        for name in ("absent", "directory", "directory/absent", "nowhere/absent"):
            store.delete(name)
        assert whole(store, "directory/object") == b"data"

    @needs("writable")
    def test_name_of_a_directory_that_is_empty_again(self, store: BackingStore) -> None:
        """A store of directories may keep them, and then says that the name is not free."""
        store.write("a/b/c", b"1")
        store.delete("a/b/c")
        try:
            store.write("a", b"2")
        except (AlreadyExists, Unsupported):
            assert [*store.list()] == []
            store.write("a/b/c", b"2")
            assert whole(store, "a/b/c") == b"2"
        else:
            assert whole(store, "a") == b"2"
            assert [info.name for info in store.list()] == ["a"]

    @needs("writable")
    def test_writers_run_beside_each_other(self, store: BackingStore) -> None:
        first, second = noise(100_000, seed=1), noise(90_000, seed=2)
        with store.open_writer("object") as one:
            one.write(first[:50_000])
            with store.open_writer("object") as two:
                two.write(second)
            assert whole(store, "object") == second
            one.write(first[50_000:])
        assert whole(store, "object") == first

    @lacks("writable")
    def test_writes_are_refused(self, harness: BackingHarness) -> None:
        store = self.filled(harness, {"object": b"old"})
        for owner in (store, store.driver):
            with pytest.raises(Unsupported), owner.open_writer("object") as stream:
                stream.write(b"new")
            with pytest.raises(Unsupported):
                owner.delete("object")
        assert whole(store, "object") == b"old"

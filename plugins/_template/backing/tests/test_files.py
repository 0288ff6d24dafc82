"""What is special about this store: its files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kvfs.backing import BackingStore
from kvfs.errors import Corrupt
from kvfs.testing import BackingHarness

_TWO_DAYS_S = 2 * 86_400


def _open(path: Path) -> BackingStore:
    return BackingStore(BackingHarness("template", {"path": str(path)}).open(), name="template")


def test_replaced_and_deleted_contents_are_removed(tmp_path: Path) -> None:
    with _open(tmp_path) as store:
        for number in range(5):
            store.write("object", b"%d" % number)
            store.write("other", b"%d" % number)
        store.delete("other")
        (kept,) = (tmp_path / "contents").iterdir()
        assert kept.read_bytes() == b"4"
        with pytest.raises(RuntimeError), store.open_writer("object"):
            raise RuntimeError
        assert [*(tmp_path / "contents").iterdir()] == [kept]


def test_what_killed_writers_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    with _open(tmp_path) as store:
        store.write("object", b"data")
    (object_file,) = (tmp_path / "contents").iterdir()
    old, fresh = tmp_path / "contents" / "old", tmp_path / "contents" / "fresh"
    for path in (old, fresh):
        path.write_bytes(b"half")
    for path in (old, object_file):
        os.utime(path, (time.time() - _TWO_DAYS_S,) * 2)
    with _open(tmp_path) as store:
        assert {*(tmp_path / "contents").iterdir()} == {object_file, fresh}
        assert store.read("object", 0, 10) == b"data"


def test_damaged_index_is_reported(tmp_path: Path) -> None:
    with _open(tmp_path) as store:
        store.write("object", b"data")
    (tmp_path / "index.sqlite").write_bytes(b"no database at all" * 500)
    with pytest.raises(Corrupt):
        _open(tmp_path)

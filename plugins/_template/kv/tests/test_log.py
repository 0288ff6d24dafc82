"""What is special about this engine: its log, cut off and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvfs.errors import Closed, Corrupt, Unavailable
from kvfs.kv import KVDriver, KVStore
from kvfs.testing import KVHarness

_COMMITS = 5


def _open(path: Path) -> KVDriver:
    return KVHarness("template", {"path": str(path)}).open()


def _written(path: Path) -> tuple[bytes, list[int]]:
    """A log of some commits, and where each of them ends."""
    log = path / "main.log"
    ends = []
    with KVStore(_open(path), name="template") as store:
        for number in range(_COMMITS):
            store.put(b"%d" % number, b"value" * number)
            ends.append(log.stat().st_size)
    return log.read_bytes(), ends


def _keys(path: Path) -> list[bytes]:
    with KVStore(_open(path), name="template") as store:
        return [key for key, _ in store.scan(b"", None)]


def test_log_cut_off_anywhere_holds_the_commits_before(tmp_path: Path) -> None:
    data, ends = _written(tmp_path)
    for size in range(len(data) + 1):
        (tmp_path / "main.log").write_bytes(data[:size])
        expected = [b"%d" % number for number, end in enumerate(ends) if end <= size]
        assert _keys(tmp_path) == expected, size
        with KVStore(_open(tmp_path), name="template") as store:
            store.put(b"after", b"works")
        assert _keys(tmp_path) == [*expected, b"after"], size


@pytest.mark.parametrize("tail", [b"\0" * 5, b"\0" * 12, b"\0" * 4096])
def test_zeros_at_the_end_are_dropped(tmp_path: Path, tail: bytes) -> None:
    data, _ = _written(tmp_path)
    (tmp_path / "main.log").write_bytes(data + tail)
    assert len(_keys(tmp_path)) == _COMMITS
    assert (tmp_path / "main.log").read_bytes() == data


def test_any_damaged_byte_is_found(tmp_path: Path) -> None:
    """In the last commit it cannot be told from one that was never finished, but for its frame."""
    data, ends = _written(tmp_path)
    for at in range(ends[-2]):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        (tmp_path / "main.log").write_bytes(damaged)
        with pytest.raises(Corrupt):
            _open(tmp_path)
        assert (tmp_path / "main.log").read_bytes() == damaged


def test_log_is_open_once(tmp_path: Path) -> None:
    first = _open(tmp_path)
    with pytest.raises(Unavailable):
        _open(tmp_path)
    first.close()
    _open(tmp_path).close()


def test_compaction_shrinks_the_log(tmp_path: Path) -> None:
    with KVStore(_open(tmp_path), name="template") as store:
        for number in range(50):
            store.put(b"key", b"%d" % number * 1000)
        before = (tmp_path / "main.log").stat().st_size
        store.compact()
        assert (tmp_path / "main.log").stat().st_size < before / 40
        with pytest.raises(Unavailable):
            _open(tmp_path)
        store.put(b"after", b"works")
    assert _keys(tmp_path) == [b"after", b"key"]


def test_log_that_cannot_be_mended_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync nobody knows what is on disk: the store takes nothing more."""
    store = KVStore(_open(tmp_path), name="template")
    store.put(b"a", b"1")

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", fail)
        patched.setattr("os.fsync", fail)
        with pytest.raises(Unavailable):
            store.put(b"b", b"2")
    with pytest.raises(Closed):
        store.put(b"c", b"3")
    store.close()
    assert _keys(tmp_path) == [b"a"]

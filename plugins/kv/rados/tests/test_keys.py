"""Keys as they are in an omap: nothing is lost, and the order stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvfs_kv_rados._keys import bound, original, stored

KEYS = st.lists(st.sampled_from((0, 1, 2, 3, 0x61, 0xFF)), max_size=6).map(bytes)


@given(KEYS)
def test_keys_come_back(key: bytes) -> None:
    assert original(stored(key)) == key
    assert b"\0" not in stored(key)


@given(KEYS, KEYS)
def test_order_is_that_of_the_keys(one: bytes, other: bytes) -> None:
    assert (stored(one) < stored(other)) == (one < other)


@given(KEYS, KEYS)
def test_bounds_lie_before_their_key_and_behind_all_that_are_less(key: bytes, at: bytes) -> None:
    assert (bound(at) < stored(key)) == (at <= key)
    assert (stored(key) < bound(at)) == (key < at)


def test_example() -> None:
    assert stored(b"a\0b") == bytes.fromhex("610101 6201")

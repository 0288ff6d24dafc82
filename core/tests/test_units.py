"""Sizes and durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvfs.errors import Invalid
from kvfs.units import format_bytes, format_seconds, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1", 1),
        ("17 B", 17),
        ("1K", 1024),
        ("1 k", 1024),
        ("1KB", 1000),
        ("1 KiB", 1024),
        ("1.5 MiB", 3 << 19),
        ("200 GiB", 200 << 30),
        ("  3  gib  ", 3 << 30),
        ("2 TB", 2 * 10**12),
        ("1PiB", 1 << 50),
        (12345, 12345),
    ],
)
def test_sizes(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 ms", 0.05),
        ("1.5s", 1.5),
        ("250us", 0.00025),
        ("2 m", 120.0),
        ("1h", 3600.0),
        ("7 d", 7 * 86400.0),
        ("3", 3.0),
        (3, 3.0),
        (0.25, 0.25),
    ],
)
def test_durations(text: str | float, expected: float) -> None:
    assert parse_seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "GiB", "1 XiB", "-1", "1 GiB!", "1,5 GiB", "1 2", "0x10", "1 s"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Invalid, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", "s", "1 GiB", "1 ns", "-1s", "1s2"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Invalid, match="is not a duration"):
        parse_seconds(text)


@pytest.mark.parametrize("value", [True, None, [1]])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(Invalid):
        parse_bytes(value)  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        parse_seconds(value)  # type: ignore[arg-type]


def test_error_names_the_units() -> None:
    with pytest.raises(Invalid, match="KiB"):
        parse_bytes("1 potato")


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (200 << 30, "200 GiB"),
        (1 << 50, "1 PiB"),
    ],
)
def test_sizes_for_people(count: int, expected: str) -> None:
    assert format_bytes(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.00085, "850 us"),
        (0.0123, "12.3 ms"),
        (4.56, "4.56 s"),
        (187, "3m07s"),
        (7500, "2h05m"),
    ],
)
def test_durations_for_people(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected


@given(st.integers(0, 1 << 60))
def test_a_size_written_for_people_reads_as_about_the_same(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == pytest.approx(count, rel=0.006)


@given(st.floats(1e-6, 59))
def test_a_duration_written_for_people_reads_as_about_the_same(seconds: float) -> None:
    assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, rel=0.006)

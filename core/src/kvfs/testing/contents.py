"""Comparing contents that are too long to be shown, or to be searched for their differences."""

from __future__ import annotations

from kvfs.kv import Buffer


def assert_same_bytes(found: Buffer | None, expected: Buffer, about: object = "") -> None:
    """As ``assert found == expected``, but says where they part instead of listing both.

    pytest looks for the smallest difference when it is verbose, as it is where ``CI`` is set; for
    some hundred kilobytes that takes hours.
    """
    if found == expected:
        return
    if found is None:
        raise AssertionError(f"nothing instead of {len(expected):,} bytes {about}")
    pairs = zip(found, expected, strict=False)
    shorter = min(len(found), len(expected))
    first = next((at for at, (one, other) in enumerate(pairs) if one != other), shorter)
    raise AssertionError(
        f"{len(found):,} bytes instead of {len(expected):,}, other ones from {first:,} on {about}"
    )

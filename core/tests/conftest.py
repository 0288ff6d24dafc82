"""What the tests of the upper floors share: a volume over memory stores, checked at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from kvfs.errors import KVFSError
from kvfs.testing.invariants import violations
from kvfs.testing.volumes import Stores
from kvfs.volume import Volume

OpenVolume = Callable[..., Volume]


@pytest.fixture
def stores() -> Stores:
    """Empty stores of a volume."""
    return Stores()


@pytest.fixture
def open_volume(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenVolume]:
    """Opens volumes over ``stores``, or others; at the end each is checked as by fsck, and closed.

    Takes what :meth:`Stores.volume` takes.
    """
    # Asked for above because what a test has patched must hold until the check is done.
    assert monkeypatch is not None
    opened: list[Volume] = []

    def open_one(over: Stores | None = None, **options: object) -> Volume:
        make: OpenVolume = (over or stores).volume
        opened.append(make(**options))
        return opened[-1]

    yield open_one
    try:
        for volume in opened:
            if not volume.is_closed:
                for running in volume.tarballs.running():
                    # What a test asked for may be there before the rest of its tarball is.
                    with suppress(KVFSError):
                        volume.tarballs.fetch(running.tarball)
                assert [*violations(volume)] == []
    finally:
        for volume in reversed(opened):
            volume.close()

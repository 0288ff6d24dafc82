"""What the rooms of the backing kit share: the fixtures, and bytes to test with."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

import pytest

from kvfs.backing.store import BackingStore
from kvfs.testing.harness import BackingHarness
from kvfs.testing.selection import BackingSelection


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that look like no others: a byte out of place, or doubled, shows."""
    return random.Random(seed).randbytes(size)


def drain(stream: BinaryIO, step: int = 1 << 16) -> bytes:
    """What is left of a stream."""
    parts = []
    while part := stream.read(step):
        parts.append(part)
    return b"".join(parts)


def whole(store: BackingStore, name: str) -> bytes:
    """An object, as one read of all of it."""
    return store.read(name, 0, store.stat(name).size)


def fail_in_body(writing: AbstractContextManager[BinaryIO], error: type[BaseException]) -> None:
    """Begin to write an object, and raise."""
    with writing as stream:
        stream.write(noise(200_000))
        raise error


class BackingBase(BackingSelection):
    """The fixtures of the backing kit."""

    @pytest.fixture
    def harness(self) -> BackingHarness:
        """How to open the store: what the author of a driver gives."""
        raise NotImplementedError("give the fixture `harness`, see the docstring of kvfs.testing")

    @pytest.fixture(autouse=True)
    def _close_all(self, harness: BackingHarness) -> Iterator[None]:
        yield
        harness.close()

    @pytest.fixture
    def store(self, harness: BackingHarness) -> BackingStore:
        """An empty store, as users hold it."""
        return BackingStore(harness.open(), name=self.driver)

    def filled(self, harness: BackingHarness, objects: dict[str, bytes]) -> BackingStore:
        """A store with these objects, written beneath a layer that refuses writes."""
        driver = harness.open()
        for name, data in objects.items():
            harness.fill(driver, name, data)
        return BackingStore(driver, name=self.driver)

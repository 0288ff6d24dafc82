"""The fsspec store against the conformance kit, over protocols of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest

from kvfs.backing.driver import BackingDriver
from kvfs.capability import BackingCapability
from kvfs.testing import BackingConformance, BackingHarness
from kvfs_backing_fsspec._settings import CAPABILITY

from .support import SSHD, Web


class TestMemory(BackingConformance):
    driver = "fsspec"

    @classmethod
    def announced(cls) -> BackingCapability:
        return attrs.evolve(CAPABILITY, is_network=False, persistent=False)

    @pytest.fixture
    def harness(self) -> BackingHarness:
        url = f"memory://{uuid4().hex}"
        return BackingHarness("fsspec", {"url": url, "writable": True})


def _over(folder: Path, table: dict[str, Any]) -> BackingHarness:
    return BackingHarness(
        "fsspec",
        {**table, "writable": True},
        raw_read=lambda name: (folder / name).read_bytes(),
        raw_write=lambda name, data: (folder / name).write_bytes(data),
    )


class TestFile(BackingConformance):
    driver = "fsspec"

    @classmethod
    def announced(cls) -> BackingCapability:
        return attrs.evolve(CAPABILITY, is_network=False)

    @pytest.fixture
    def harness(self, root: Path) -> BackingHarness:
        return _over(root, {"url": f"file://{root}"})


class TestSFTP(BackingConformance):
    driver = "fsspec"

    @pytest.fixture
    def harness(self, sftp: SSHD) -> BackingHarness:
        folder = sftp.folder()
        return _over(folder, sftp.table(folder))


@attrs.define
class _Filled(BackingHarness):
    """Of a store that is filled by other means."""

    def fill(self, driver: BackingDriver, name: str, data: bytes) -> None:
        self.write_elsewhere(name, data)


class TestHTTP(BackingConformance):
    driver = "fsspec"

    @classmethod
    def announced(cls) -> BackingCapability:
        return attrs.evolve(CAPABILITY, writable=False)

    @pytest.fixture
    def harness(self, http: Web) -> BackingHarness:
        folder = http.folder()

        def write(name: str, data: bytes) -> None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        return _Filled(
            "fsspec",
            http.table(folder),
            raw_read=lambda name: (folder / name).read_bytes(),
            raw_write=write,
        )

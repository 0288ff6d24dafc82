"""An engine that breaks promises, one kind at a time: what the crash tests have to catch.

Below it is LMDB, which keeps them.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.capability import Durability
from kvfs.config import setting
from kvfs.kv import Batch, KVDriver
from kvfs.layers.passing import KVLayer
from kvfs.registry import DriverInfo, find
from kvfs_kv_lmdb import LMDBSettings

_TAIL = 5


@attrs.frozen(kw_only=True)
class LiarSettings:
    """Which lie, and where."""

    path: Path = setting(help="directory that holds the stores")
    lie: str = setting("none", help="the promise that is broken")


class Liar(KVLayer):
    """Commits are not what they say."""

    def __init__(self, inner: KVDriver, lie: str) -> None:
        super().__init__(inner)
        self.capability = attrs.evolve(inner.capability, durability=Durability.POWER)
        self._lie = lie
        self._kept: list[Batch] = []

    def commit(self, batch: Batch, durability: Durability) -> None:
        durability = self.inner.capability.durability
        match self._lie:
            case "late":  # written when the next one comes
                self._write(durability)
                self._keep(batch)
            case "tail":  # written some at a time
                self._keep(batch)
                if len(self._kept) == _TAIL:
                    self._write(durability)
            case "half":  # the rest of it comes with the next one
                self._write(durability)
                rest = {key: batch.puts.pop(key) for key in sorted(batch.puts)[::2]}
                self._keep(Batch(puts=rest))
                self.inner.commit(batch, durability)
            case "guards":
                self.inner.commit(attrs.evolve(batch, guards={}), durability)
            case _:
                self.inner.commit(batch, durability)

    def _keep(self, batch: Batch) -> None:
        puts = {key: bytes(value) for key, value in batch.puts.items()}
        self._kept.append(Batch({}, [*batch.range_deletes], {*batch.deletes}, {**puts}))

    def _write(self, durability: Durability) -> None:
        for batch in self._kept:
            self.inner.commit(batch, durability)
        self._kept.clear()

    def get(self, key: bytes) -> bytes | None:
        for batch in reversed(self._kept):
            if key in batch.puts:
                return bytes(batch.puts[key])
        return self.inner.get(key)

    def close(self) -> None:
        self._write(self.inner.capability.durability)
        self.inner.close()


def open_store(settings: LiarSettings, *, store: str, durability: Durability) -> Liar:
    """Open a store of LMDB; one that is to lie about syncing, without."""
    level = Durability.PROCESS if settings.lie == "unsynced" else durability
    engine = find("kv", "lmdb").load()
    return Liar(
        engine(LMDBSettings(path=settings.path), store=store, durability=level), settings.lie
    )


DRIVER = DriverInfo(
    name="liar",
    kind="kv",
    summary="breaks promises",
    settings=LiarSettings,
    factory="kvfs_liar:open_store",
    capability=find("kv", "lmdb").capability,
)

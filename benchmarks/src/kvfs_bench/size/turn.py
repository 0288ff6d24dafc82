"""One volume of one engine: made, measured, compacted, emptied, measured again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from kvfs.capability import Durability
from kvfs.errors import Corrupt
from kvfs_bench.kv import meter
from kvfs_bench.kv.clients import Client
from kvfs_bench.kv.places import Engine, Place
from kvfs_bench.processes import MemoryWatch
from kvfs_bench.scratch import Scratch, remove
from kvfs_bench.size.inputs import Input
from kvfs_bench.size.result import Measured, SizeResult, amounts_of


@contextmanager
def place_of(engine: Engine, scratch: Scratch) -> Iterator[Place]:
    """A place for one volume, with a server of its own where the engine has one."""
    directory = scratch.directory("engine")
    # Servers that refuse to be root's have to come by here.
    for folder in (directory, scratch.work):
        folder.chmod(0o755)
    try:
        with engine.place(directory, Durability.POWER) as where:
            yield where
    finally:
        remove(directory)


def tables_of(engine: Engine, where: Place, source: Path) -> dict[str, Any]:
    """The configuration of a volume over a folder."""
    return {
        "kv": {"driver": engine.name} | where.settings,
        "backing": {"driver": "posix", "path": str(source)},
    }


@attrs.frozen
class Turn:
    """What is done with every volume."""

    result: SizeResult
    engine: Engine
    where: Place
    made: Input

    def run(self, *, role: str, label: str, number: int) -> Measured:
        """Measure everything there is.

        :raises Corrupt: the volume does not hold what its tarball holds.
        :raises EngineFailed: the engine refused or failed.
        """
        with Client("kvfs_bench.size.client") as client:
            client.ask("use", tables=tables_of(self.engine, self.where, self.made.source))
            with MemoryWatch(client.pid) as watch:
                answer = client.ask("ingest")
            self._check(answer)
            point = Measured(
                engine=self.engine.name,
                role=role,
                label=label,
                round=number,
                amounts=amounts_of(
                    self.made,
                    inline_bytes=answer["inline_bytes"],
                    extent_bytes=answer["extent_bytes"],
                ),
            )
            figures = point.figures
            figures["ingest_anonymous"] = max(watch.peak.anonymous, answer["anonymous"])
            figures["ingest_total"] = watch.peak.total
            if self.where.server_pids and (memory := meter.memory(self.where.server_pids)):
                figures["server_anonymous"] = memory.anonymous
                figures["server_total"] = memory.total
            if self.engine.capability.persistent and self.where.directory is not None:
                self._disk(point, client)
        return point

    def _disk(self, point: Measured, client: Client) -> None:
        directory = self.where.directory
        assert directory is not None
        figures = point.figures
        figures["disk_ingested"] = meter.disk_bytes(directory)
        client.ask("compact")
        figures["disk_compacted"] = meter.disk_bytes(directory)
        self.result.check("tarballs removed", client.ask("evict")["tarballs"])
        figures["disk_deleted"] = meter.disk_bytes(directory)
        client.ask("compact")
        figures["disk_deleted_compacted"] = meter.disk_bytes(directory)

    def _check(self, answer: dict[str, Any]) -> None:
        """The ingest found what is in the tarball."""
        found = [answer[name] for name in ("files", "directories", "content_bytes")]
        expected = [self.made.files, self.made.directories, self.made.content_bytes]
        if found != expected:
            raise Corrupt(f"{self.engine.name}: the volume has {found}, the tarball {expected}")
        self.result.check("counts of files, directories and bytes", 3)

"""The process that has a volume, ``python -m kvfs_bench.size.client``: told what to do by lines.

A process of its own, so that its memory is the volume's.  The lines are those of
:mod:`kvfs_bench.kv.client`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from kvfs.errors import Corrupt
from kvfs.tarballs.catalogue import State
from kvfs.volume import Volume, from_tables
from kvfs_bench.answering import answer_until_the_end

Answer = dict[str, Any]


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0


@attrs.define
class Client:
    """Each step opens the volume and closes it again."""

    tables: dict[str, Any] = attrs.field(factory=dict)

    def use(self, tables: dict[str, Any]) -> Answer:
        """The volume of this configuration."""
        self.tables = tables
        return {}

    @contextmanager
    def _volume(self) -> Iterator[Volume]:
        volume = Volume(from_tables(self.tables, where="kvfs bench size"))
        with volume:
            yield volume

    def ingest(self) -> Answer:
        """Fetch everything; what there was, and the memory just before closing."""
        found = {"files": 0, "directories": 0, "content_bytes": 0}
        with self._volume() as volume:
            volume.refresh()
            for tarball, _ in [*volume.tarballs.catalogue]:
                report = volume.tarballs.fetch(tarball)
                assert report is not None, "nobody else fetches"
                if report.problems:
                    raise Corrupt(f"{report.object}: {report.problems[0].message}")
                for name in found:
                    found[name] += getattr(report, name)
            found["anonymous"] = _anonymous_bytes()
            superblock = volume.superblock
            found |= {
                "inline_bytes": superblock.inline_bytes,
                "extent_bytes": superblock.extent_bytes,
            }
        return found

    def compact(self) -> Answer:
        """Have the engine tidy up, as far as it does that while it is open."""
        with self._volume() as volume:
            volume.sealed.compact()
            volume.state.compact()
        return {}

    def evict(self) -> Answer:
        """Remove the contents of every tarball; how many there were."""
        with self._volume() as volume:
            for tarball, _ in [*volume.tarballs.catalogue]:
                volume.tarballs.evict(tarball)
            states = [record.state for _, record in volume.tarballs.catalogue]
            if any(state is not State.ABSENT for state in states):
                raise Corrupt("a tarball is still there after it was removed")
            if next(iter(volume.sealed.scan(b"D", b"E", limit=1)), None) is not None:
                raise Corrupt("a name is still there after everything was removed")
        return {"tarballs": len(states)}


def main() -> None:
    """Answer until standard input ends."""
    answer_until_the_end(Client())


if __name__ == "__main__":
    main()

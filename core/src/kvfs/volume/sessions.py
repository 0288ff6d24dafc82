"""Who has the volume open, and whether the machine lost power under somebody.

The sealed store is written without waiting for the disk: what is in it can be fetched again.  After
a power cut it may be torn, so it must not be read.  Each process that opens a volume leaves a
record of itself, and takes it away when everything has reached the disk; so a record of an earlier
boot means a power cut.
"""

from __future__ import annotations

import uuid

from kvfs.files.records import volume_key
from kvfs.kv import Batch, KVStore, prefix_end
from kvfs.tarballs import holders

_PREFIX = volume_key("session/")


class Sessions:
    """The records of open volumes in the state store."""

    def __init__(self, state: KVStore) -> None:
        self._state = state
        self._key = _PREFIX + uuid.uuid4().hex.encode()

    def _others(self) -> list[tuple[bytes, str]]:
        records = self._state.scan(_PREFIX, prefix_end(_PREFIX))
        return [(key, value.decode()) for key, value in records if key != self._key]

    def lost_power(self) -> bool:
        """Did an earlier boot end while the volume was open?"""
        boot = holders.boot_id()
        return any(holder.partition("/")[0] != boot for _, holder in self._others())

    def forget_earlier_boots(self, batch: Batch) -> None:
        """Add to ``batch`` that the power cut has been dealt with."""
        boot = holders.boot_id()
        for key, holder in self._others():
            if holder.partition("/")[0] != boot:
                batch.delete(key)

    def enter(self) -> None:
        """Leave the record of this process."""
        self._state.put(self._key, holders.myself().encode())

    def others_alive(self) -> list[int]:
        """Process ids of those who also have the volume open."""
        return [holders.pid_of(holder) for _, holder in self._others() if holders.is_alive(holder)]

    def withdraw(self) -> None:
        """Take the record away, because nothing has been written."""
        self._state.delete(self._key)

    def leave(self, *, flushed: bool) -> None:
        """Take the record away.

        :param flushed: everything in the sealed store is on the disk now, what killed processes
            wrote there too; so their records go as well.
        """
        batch = Batch().delete(self._key)
        for key, holder in self._others() if flushed else ():
            if not holders.is_alive(holder):
                batch.delete(key)
        self._state.commit(batch)

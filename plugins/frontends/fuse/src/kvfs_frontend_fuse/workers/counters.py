"""What was asked and pushed, counted in memory that the processes of one mount share.

A table of 64-bit numbers in an anonymous file: a row per worker, a column per opcode, and behind
those one per thing the pusher counts.  A row is written by one process, which adds without a lock;
a worker that takes the place of another goes on in its row, so nothing counted is lost with a
process.  Anybody may read: a number is a moment old, never torn.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping

from kvfs_frontend_fuse.protocol.wire import OPCODES, Opcode

PUSHER = ("pushed_files", "pushed_bytes", "push_unknown", "push_late", "push_lost")
"""What :meth:`.pusher.Pusher.counts` counts, in the order of the columns."""
COLUMNS = OPCODES + len(PUSHER)
_NAMES = {opcode.value: opcode.name for opcode in Opcode} | {
    OPCODES + place: name for place, name in enumerate(PUSHER)
}
_CELL = 8


class Counters:
    """The table; the processes that have it open see the same numbers.

    :param rows: how many workers count.
    :param descriptor: of a table of so many rows that another process made; ``None``: a new one.
        It is not needed any more when this returns.
    """

    def __init__(self, rows: int, *, descriptor: int | None = None) -> None:
        self.rows = rows
        size = rows * COLUMNS * _CELL
        if descriptor is None:
            self._file = os.memfd_create("kvfs-counters", os.MFD_CLOEXEC)
            os.ftruncate(self._file, size)
        else:
            self._file = os.dup(descriptor)
        self._table = memoryview(mmap.mmap(self._file, size)).cast("Q")

    def fileno(self) -> int:
        """The descriptor of the table, for another process; valid until :meth:`close`."""
        return self._file

    def row(self, index: int) -> memoryview[int]:
        """The numbers of one worker: :data:`COLUMNS` of them, to be added to in place."""
        return self._table[index * COLUMNS : (index + 1) * COLUMNS]

    def totals(self) -> dict[str, int]:
        """The sums over all rows, by name of the opcode or of what the pusher counts.

        Zeros are left out.
        """
        sums = (sum(self._table[column::COLUMNS]) for column in range(COLUMNS))
        return {_NAMES[column]: total for column, total in enumerate(sums) if total}

    def as_json(self) -> bytes:
        """The totals, as a JSON object."""
        return json.dumps(self.totals()).encode()

    def close(self) -> None:
        """Let go of the descriptor; what is mapped stays readable for those who hold it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class PusherRow:
    """Carries what a pusher counts, which begins at nothing, over into a row, which goes on."""

    def __init__(self, row: memoryview[int]) -> None:
        self._row = row
        self._before = list(row[OPCODES:])

    def take(self, counts: Mapping[str, int]) -> None:
        """Set the columns to what they were when this was made, and ``counts`` on top of that."""
        for place, name in enumerate(PUSHER):
            self._row[OPCODES + place] = self._before[place] + counts[name]

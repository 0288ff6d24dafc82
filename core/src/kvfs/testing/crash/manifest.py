"""What was promised, kept outside of the store: a header and a line for each promise."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import attrs

from kvfs.testing.crash.orders import Orders
from kvfs.testing.crash.verify import Expected


@attrs.define
class Manifest:
    """A file that is begun anew: how to open the store, then ``<writer> <batch>`` line by line."""

    path: Path
    orders: Orders
    _file: TextIO = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._file = self.path.open("w", buffering=1)
        print(self.orders.dumps(), file=self._file)

    def add(self, writer: int, step: int) -> None:
        """The batch was promised, or found in the store after a kill."""
        print(writer, step, file=self._file)

    def close(self) -> None:
        """The file stays."""
        self._file.close()


def orders_to_verify(path: Path) -> Orders:
    """What a process has to do that looks at a store again, by its manifest."""
    with path.open() as file:
        orders = Orders.loads(file.readline())
        steps = [0] * len(orders.expected)
        for line in file:
            writer, step = map(int, line.split())
            steps[writer] = step
    low = [0] * len(steps) if orders.may_be_lost else steps
    expected = [Expected(least, step + 1) for least, step in zip(low, steps, strict=True)]
    return attrs.evolve(
        orders, writer=0, verify="all", expected=expected, steps=0, may_be_lost=False
    )


__all__ = ["Manifest", "orders_to_verify"]

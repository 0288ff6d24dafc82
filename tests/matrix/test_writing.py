"""Any sequence of operations on a writable tree, over every engine that is installed."""

from __future__ import annotations

from kvfs.registry import find
from kvfs.testing.files_machine import run_files_machine
from kvfs.testing.places import Place
from kvfs.volume import Volume, from_tables

EXAMPLES = 2
STEPS = 20


def test_any_sequence_of_operations(place: Place) -> None:
    def open_volume(name: str) -> Volume:
        tables = {"kv": place.table(name), "volume": {"durability": "process"}}
        # Names of few hash bits collide.
        return Volume(from_tables(tables, where="a test"), hash_bits=2)

    reopens = getattr(find("kv", place.driver).capability, "persistent", True)
    run_files_machine(open_volume, reopens=reopens, examples=EXAMPLES, steps=STEPS)

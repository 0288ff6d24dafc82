"""The state machine against a dictionary, as one test of the kit."""

from __future__ import annotations

from typing import ClassVar

from kvfs.testing.harness import KVHarness
from kvfs.testing.kv.base import KVBase
from kvfs.testing.machine import run_kv_machine
from kvfs.testing.selection import needs


class Model(KVBase):
    """Any sequence of calls."""

    machine_examples: ClassVar[int] = 30
    """How many sequences of calls are tried."""

    @needs("writable")
    def test_any_sequence_of_calls_agrees_with_a_dictionary(self, harness: KVHarness) -> None:
        run_kv_machine(harness, examples=self.machine_examples)

"""The conformance kit: everything that a driver has to prove, and the tools to prove more.

The whole test file of a key-value engine::

    class TestLMDB(KVConformance, KVBenchmarks):
        driver = "lmdb"  # its name in the registry: tests are selected by what it declares

        @pytest.fixture
        def harness(self, tmp_path: Path) -> KVHarness:
            return KVHarness("lmdb", {"path": str(tmp_path)})  # as in a TOML table [kv]

and of a backing store, with a side door so that it is not tested against itself alone::

    class TestPosix(BackingConformance, BackingBenchmarks):
        driver = "posix"

        @pytest.fixture
        def harness(self, tmp_path: Path) -> BackingHarness:
            return BackingHarness(
                "posix",
                {"path": str(tmp_path)},
                raw_read=lambda name: (tmp_path / name).read_bytes(),
                raw_write=lambda name, data: (tmp_path / name).write_bytes(data),
            )

The benchmarks are done once in an ordinary run; ``pytest --benchmark-only`` measures
(:mod:`kvfs.testing.benchmarks`).

Needs the extra ``kvfs-core[testing]`` (pytest, hypothesis, pytest-benchmark).  Names are imported
on first use, so that the pytest plugin of this package costs a test run that does not use it
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvfs.layers.faults import Fault, FaultPlan, SimulatedCrash
    from kvfs.testing.backing import BackingConformance
    from kvfs.testing.benchmarks import BackingBenchmarks, KVBenchmarks
    from kvfs.testing.harness import BackingHarness, KVHarness
    from kvfs.testing.kv import KVConformance
    from kvfs.testing.machine import KVStateMachine, run_kv_machine
    from kvfs.testing.selection import lacks, needs

_HOMES = {
    "BackingBenchmarks": "kvfs.testing.benchmarks",
    "BackingConformance": "kvfs.testing.backing",
    "BackingHarness": "kvfs.testing.harness",
    "Fault": "kvfs.layers.faults",
    "FaultPlan": "kvfs.layers.faults",
    "KVBenchmarks": "kvfs.testing.benchmarks",
    "KVConformance": "kvfs.testing.kv",
    "KVHarness": "kvfs.testing.harness",
    "KVStateMachine": "kvfs.testing.machine",
    "SimulatedCrash": "kvfs.layers.faults",
    "lacks": "kvfs.testing.selection",
    "needs": "kvfs.testing.selection",
    "run_kv_machine": "kvfs.testing.machine",
}

__all__ = [
    "BackingBenchmarks",
    "BackingConformance",
    "BackingHarness",
    "Fault",
    "FaultPlan",
    "KVBenchmarks",
    "KVConformance",
    "KVHarness",
    "KVStateMachine",
    "SimulatedCrash",
    "lacks",
    "needs",
    "run_kv_machine",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)

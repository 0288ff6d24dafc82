"""Micro benchmarks of drivers, with pytest-benchmark; see :mod:`kvfs.testing` for how to use them.

They stand in the same test file as the conformance kit.  An ordinary run does each once, as a test
of its answer; ``pytest --benchmark-only`` measures, one table for each operation and durability
with a row for each driver, whatever files are given::

    pytest --benchmark-only plugins/kv/*/tests/test_conformance.py

They say which operation of a driver to look into.  What a whole workload does, with percentiles,
many clients, disk and memory, is asked of ``kvfs bench kv``.
"""

from __future__ import annotations

from kvfs.testing.benchmarks.backing import BackingBenchmarks
from kvfs.testing.benchmarks.kv import KVBenchmarks

__all__ = ["BackingBenchmarks", "KVBenchmarks"]

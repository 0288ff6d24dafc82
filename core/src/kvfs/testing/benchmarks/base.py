"""What benchmarks of both kinds share: when they measure, and what a figure carries."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from kvfs.capability import describe
from kvfs.registry import versions_of
from kvfs.testing.selection import Conformance

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")

_MEASURING = ("enable", "only", "json", "save", "autosave", "compare")
"""Options ``--benchmark-...`` that ask for figures."""
_ROUNDS = 20


def prepared(
    benchmark: BenchmarkFixture,
    work: Callable[[Prepared], Answer],
    prepare: Callable[[], Prepared],
) -> Answer:
    """Benchmark what needs something anew each time, whose making does not count."""
    answer: Answer = benchmark.pedantic(  # type: ignore[no-untyped-call]
        work, setup=lambda: ((prepare(),), {}), rounds=_ROUNDS
    )
    return answer


def measuring(config: pytest.Config) -> bool:
    """Did the user of this run ask for figures?"""
    return any(config.getoption(f"benchmark_{name}") for name in _MEASURING)


class Benchmarks(Conformance):
    """The fixture that benchmarks are written with."""

    @pytest.fixture
    def benchmark(
        self, benchmark: BenchmarkFixture, request: pytest.FixtureRequest
    ) -> BenchmarkFixture:
        """pytest-benchmark's, which calls once and measures nothing unless figures are asked for.

        A row is called after its class, as ``LMDB`` for ``TestLMDB``.
        """
        if not measuring(request.config):
            benchmark.disabled = True
        benchmark.name = type(self).__name__.removeprefix("Test")
        benchmark.extra_info |= self._carried()
        return benchmark

    def _carried(self) -> dict[str, Any]:
        capability = {name: value for name, value, _ in describe(self.announced())}
        return {
            "driver": self.driver,
            "layers": [layer["name"] for layer in self.layers],
            "versions": {"Python": platform.python_version()} | versions_of(self.kind, self.driver),
            "capability": capability,
        }

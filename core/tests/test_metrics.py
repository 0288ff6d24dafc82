"""Counters and histograms."""

from __future__ import annotations

import json
import pickle
import random

import pytest

from kvfs.metrics import Counter, Histogram, Metrics


def test_counter() -> None:
    counter = Counter()
    counter.add()
    counter.add(41)
    assert counter.snapshot() == {"value": 42}


def test_quantile_is_an_upper_bound_within_a_factor_of_two() -> None:
    histogram = Histogram()
    generator = random.Random(5)
    durations = sorted(generator.lognormvariate(-9, 2) for _ in range(10_000))
    for seconds in durations:
        histogram.record(seconds)
    for fraction in (0.01, 0.5, 0.9, 0.99, 0.999, 1.0):
        exact = durations[min(int(len(durations) * fraction), len(durations) - 1)]
        found = histogram.quantile(fraction)
        # Durations below a microsecond share the lowest bucket.
        assert max(exact, 1e-6) * 0.99 <= found <= max(2.01 * exact, 2e-6) or (
            found == histogram.max_s
        )
    assert histogram.quantile(1.0) == durations[-1]


def test_sums() -> None:
    histogram = Histogram()
    for seconds in (0.001, 0.002, 0.006):
        histogram.record(seconds)
    snapshot = histogram.snapshot()
    assert snapshot["count"] == 3
    assert snapshot["mean_s"] == pytest.approx(0.003)
    assert snapshot["max_s"] == 0.006
    assert sum(histogram.buckets) == 3


def test_empty_histogram() -> None:
    assert Histogram().snapshot() == {
        "count": 0,
        "mean_s": 0.0,
        "p50_s": 0.0,
        "p99_s": 0.0,
        "max_s": 0.0,
    }


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e6, 1e12])
def test_any_duration_finds_a_bucket(seconds: float) -> None:
    histogram = Histogram()
    histogram.record(seconds)
    assert sum(histogram.buckets) == 1
    assert histogram.quantile(0.5) <= seconds


def test_what_raises_is_timed_too() -> None:
    histogram = Histogram()
    with pytest.raises(RuntimeError), histogram.time():
        raise RuntimeError
    with histogram.time():
        pass
    assert histogram.count == 2


def test_metrics_are_made_on_first_use() -> None:
    metrics = Metrics()
    metrics.counter("b.count").add(2)
    metrics.counter("b.count").add(3)
    metrics.histogram("a.time").record(0.1)
    snapshot = metrics.snapshot()
    assert [*snapshot] == ["a.time", "b.count"]
    assert snapshot["b.count"] == {"value": 5}
    assert json.loads(json.dumps(snapshot)) == snapshot


def test_one_name_is_of_one_kind() -> None:
    metrics = Metrics()
    metrics.counter("a")
    metrics.histogram("b")
    with pytest.raises(AssertionError):
        metrics.histogram("a")
    with pytest.raises(AssertionError):
        metrics.counter("b")


def test_a_histogram_of_two() -> None:
    durations = [0.0001 * number for number in range(1, 101)]
    whole, one, other = Histogram(), Histogram(), Histogram()
    for number, seconds in enumerate(durations):
        whole.record(seconds)
        (one if number % 3 else other).record(seconds)
    one.merge(other)
    assert one.snapshot() == pytest.approx(whole.snapshot())
    assert one.buckets == whole.buckets


def test_what_others_counted_joins_in() -> None:
    here, there = Metrics(), Metrics()
    here.counter("both").add(1)
    there.counter("both").add(10)
    there.histogram("only.there").record(0.5)
    end = here.include(lambda: [there, there])
    assert here.snapshot()["both"] == {"value": 21}
    assert here.snapshot()["only.there"]["count"] == 2
    assert here.counter("both").value == 1
    end()
    assert here.snapshot() == {"both": {"value": 1}}


def test_what_is_provided_is_shown_as_it_is() -> None:
    metrics = Metrics()
    metrics.counter("z").add(1)
    answers = [{"LOOKUP": 1}, {"LOOKUP": 2}]
    end = metrics.provide("fuse.requests", lambda: answers.pop(0))
    assert metrics.snapshot() == {"fuse.requests": {"LOOKUP": 1}, "z": {"value": 1}}
    assert metrics.snapshot()["fuse.requests"] == {"LOOKUP": 2}
    later = metrics.provide("fuse.requests", lambda: {"LOOKUP": 3})
    end()  # which must not take away what took its place
    assert metrics.snapshot()["fuse.requests"] == {"LOOKUP": 3}
    later()
    assert metrics.snapshot() == {"z": {"value": 1}}


def test_metrics_go_to_another_process_without_what_others_provide() -> None:
    metrics = Metrics()
    metrics.counter("here").add(3)
    metrics.provide("elsewhere", dict)
    metrics.include(list)
    assert pickle.loads(pickle.dumps(metrics.detached())).snapshot() == {"here": {"value": 3}}

"""``kvfs bench kv`` whole, at a tiny size, over engines that need no server; and its parts.

Nothing here looks at how long anything took.  That answers are right is asserted by the harness
itself; here it is asserted that it did so, and that it would notice.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from kvfs.capability import Durability
from kvfs.errors import Corrupt, Invalid
from kvfs.kv import Batch, KVStore
from kvfs.kv.memory import MemoryDriver
from kvfs.registry import installed
from kvfs_bench import caches
from kvfs_bench.kv import dictionary, places
from kvfs_bench.kv.distributions import fnv64, scrambled, zipfian
from kvfs_bench.kv.histogram import ERROR, Histogram, bucket_of, middle_of
from kvfs_bench.kv.loops import closed, open_, together
from kvfs_bench.kv.works import BY_ID, FAMILIES, LOADS, PROCESSES, WORKS, Session, Sizes, Work

from .conftest import Run
from .test_mount import _Page

ENGINES = ("lmdb", "memory")
SIZES = Sizes(files=60, records=200, value_bytes=1 << 18, seed=1)


@attrs.frozen
class Ran:
    """One run, and what it wrote."""

    report: dict[str, Any]
    html: str
    stdout: str

    @property
    def suite(self) -> dict[str, Any]:
        """The one suite of it."""
        (found,) = self.report["suites"]
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def ran(bench: Run, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All works by two engines, once."""
    home = tmp_path_factory.mktemp("kv")
    words = [word for name in ENGINES for word in ("--engine", name)]
    words += ["--durability", "memory", "--readers", "2", "--load", "0.5"]
    words += ["--scale", "0.003", "--seconds", "0.03", "--rounds", "1"]
    done = bench("kv", *words, "--out", home / "o", "--scratch", home / "scratch")
    assert done.returncode == 0, done.stderr
    assert [*(home / "scratch").iterdir()] == [], "a run leaves nothing behind"
    assert done.stdout == (home / "o.md").read_text()
    text = (home / "o.json").read_text()
    assert str(home) not in text
    return Ran(json.loads(text), (home / "o.html").read_text(), done.stdout)


def test_levels_of_durability_are_tables_of_their_own(bench: Run, tmp_path: Path) -> None:
    words = [word for name in ENGINES for word in ("--engine", name)]
    words += ["--durability", "power", "--durability", "memory", "--workload", "ingest"]
    words += ["--scale", "tiny", "--rounds", "1", "--json", str(tmp_path / "o.json")]
    done = bench("kv", *words, "--scratch", tmp_path / "scratch")
    assert done.returncode == 0, done.stderr
    power, memory = json.loads((tmp_path / "o.json").read_text())["suites"]
    assert (power["suite"], memory["suite"]) == ("kv-power", "kv-memory")
    assert {row["engine"] for row in power["rows"]} == {"lmdb", dictionary.NAME}
    assert {row["engine"] for row in memory["rows"]} == {*ENGINES, dictionary.NAME}
    assert "durability memory at most" in power["not_run"]["memory"]
    assert {row["work"] for suite in (power, memory) for row in suite["rows"]} == {"ingest"}
    headings = [line for line in done.stdout.splitlines() if line.startswith("## ")]
    assert len(headings) == 2
    assert all("ingest" in part for part in done.stdout.split("\n## ")[1:])


def test_every_work_has_a_row_of_every_engine_with_figures_or_a_reason(ran: Ran) -> None:
    suite = ran.suite
    for engine in suite["engines"]:
        persistent = engine == "lmdb"
        for work in WORKS:
            rows = [
                row for row in suite["rows"] if (row["work"], row["engine"]) == (work.title, engine)
            ]
            assert len(rows) == len(work.crews) + work.open_loop, (engine, work.id)
            for row in rows:
                possible = persistent or not (work.is_cold or PROCESSES in row["clients"])
                if work.is_cold and not caches.can_drop():
                    possible = False
                if not possible:
                    assert row["remark"].startswith("not run: "), row
                    continue
                assert row["remark"] == "", row
                assert row["rounds"] == [0]
                assert row["state"] in suite["states"]
                assert row["medians"]["per_second"] > 0
                percentiles = [row["medians"][f"p{p}_us"] for p in ("50", "90", "99", "99.9")]
                assert 0 < percentiles[0] <= row["medians"]["max_us"]
                assert percentiles == sorted(percentiles)
                assert row["medians"]["client_anonymous_mib"] > 1
        reopened = [row for row in suite["rows"] if row["engine"] == engine]
        reopened = [row for row in reopened if "open_ms" in row["medians"]]
        assert len(reopened) == (2 if persistent else 0)


def test_what_the_ingest_wrote_and_left_is_known(ran: Ran) -> None:
    (row,) = (
        row for row in ran.suite["rows"] if (row["work"], row["engine"]) == ("ingest", "lmdb")
    )
    assert row["medians"]["space_amplification"] > 1
    assert row["medians"]["write_amplification"] > 0
    assert row["medians"]["close_ms"] > 0


def test_every_kind_of_answer_was_checked(ran: Ran) -> None:
    assert set(ran.suite["checks"]) == {
        "records after the ingest",
        "gets of dirents",
        "listings",
        "entries after create and rename",
        "refused creates",
        "tarballs removed or kept",
        "gets of values",
        "YCSB operations",
    }
    for kind, times in ran.suite["checks"].items():
        assert times > 0 or kind == "refused creates", kind


def test_the_report_says_what_it_holds_for(ran: Ran) -> None:
    environment = ran.report["environment"]
    assert ran.report["format"] == 3
    assert os.uname().nodename not in json.dumps(environment).split('"')
    assert ran.suite["seed"] == 1
    assert ran.suite["engines"]["lmdb"]["versions"].keys() >= {"kvfs-kv-lmdb", "lmdb"}
    assert "Durability **memory**" in ran.stdout
    for work in WORKS:
        assert work.title in ran.stdout
        assert work.title in ran.html


def test_the_page_needs_nothing_else(ran: Ran) -> None:
    page = _Page(ran.html)
    assert page.open == []
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe"} & {*page.tags}
    assert re.findall(r"https?:|@import|url\(", ran.html) == []
    assert page.tags.count("svg") > len(FAMILIES)
    assert "NaN" not in ran.html
    assert "inf" not in re.findall(r'[xy][12]?="([^"]*)"', ran.html)


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    words = ["bench", "kv", "--engine", "lmdb", "--workload", "ingest", "--rounds", "1000"]
    words += ["--scale", "tiny"]
    with subprocess.Popen(
        [sys.executable, "-m", "kvfs_frontend_cli", *words, "--scratch", scratch],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "lmdb" not in process.stderr.readline():
            assert process.poll() is None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + 60
        while not (pids := children.read_text().split()) and time.monotonic() < deadline:
            pass
        assert pids, "no client was started"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 130, rest
    assert "Traceback" not in rest
    assert [*scratch.iterdir()] == []
    # One that was just being started ends by itself, when nobody is there to tell it what to do.
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine", "lmbd"), "lmdb"),
        (("--workload", "ycsb-z"), "ycsb"),
        (("--durability", "forever"), "memory, process, power"),
        (("--seconds", "0"), "--seconds"),
        (("--readers", "0"), "--readers"),
        (("--load", "9"), "--load"),
        (("--settings", "lmdb.path"), "ENGINE.KEY=VALUE"),
        (("--settings", "nobody.path=x"), "nobody"),
        (("--out", "/no-such-directory/report"), "no-such-directory"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(
    bench: Run, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = bench("kv", *words, "--scratch", tmp_path / "scratch")
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "scratch").exists()


# -- works that meet an engine that is wrong -------------------------------------------------------


def session() -> Session:
    """An empty store in memory."""
    store = KVStore(dictionary.Dictionary(), name="test")
    return Session(store=store, durability=Durability.MEMORY, sizes=SIZES)


def do(session: Session, work: Work, *, times: int = 50) -> int:
    """Do a work a few times, or until it is finished; how many steps."""
    task = work.make(session, Random(1))
    step, steps = task.step(), 0
    try:
        while steps < times or not work.is_timed:
            if not work.is_timed:
                task.supply()
            step()
            steps += 1
    except StopIteration:
        pass
    task.finish(steps)
    return steps


def spoil(session: Session, number: int = 0) -> None:
    """Flip a bit of every value."""
    batch = Batch()
    for key, value in session.store.scan(b"", None):
        batch.put(key, value[:-1] + bytes((value[-1] ^ 1,)))
    session.store.commit(batch, Durability.MEMORY)


READS = [work for work in WORKS if not work.has_writes]


@pytest.mark.parametrize("work", READS, ids=lambda work: work.id)
def test_a_wrong_value_is_noticed(work: Work) -> None:
    found = session()
    filled = LOADS.get(work.dataset) or BY_ID[work.id.replace("get", "put")]
    do(found, filled)
    assert do(found, work) > 0
    spoil(found)
    with pytest.raises(Corrupt, match="wrong answer"):
        do(found, work)


@pytest.mark.parametrize("work", READS, ids=lambda work: work.id)
def test_a_missing_record_is_noticed(work: Work) -> None:
    found = session()
    do(found, LOADS.get(work.dataset) or BY_ID[work.id.replace("get", "put")])
    batch = Batch().delete_range(b"", b"\xff" * 9)
    found.store.commit(batch, Durability.MEMORY)
    with pytest.raises(Corrupt, match="wrong answer"):
        do(found, work)


class Forgetful(MemoryDriver):
    """An engine that loses every ninth commit, and believes any guard."""

    commits = 0

    def commit(self, batch: Batch, durability: Durability) -> None:
        self.commits += 1
        batch.guards.clear()
        if self.commits % 9:
            super().commit(batch, durability)


@pytest.mark.parametrize(
    "name", ["ingest", "create-rename", "ycsb-a", "ycsb-d", "ycsb-e", "ycsb-f"]
)
def test_a_lost_commit_is_noticed(name: str) -> None:
    found = session()
    work = BY_ID[name]
    if work.dataset == "ycsb":
        do(found, LOADS["ycsb"])
    lossy = Forgetful()
    batch = Batch()
    for key, value in found.store.scan(b"", None):
        batch.put(key, value)
    MemoryDriver.commit(lossy, batch, Durability.MEMORY)
    lossy.commits = 8 if name == "ingest" else 0
    found.store = KVStore(lossy, name="lossy")
    with pytest.raises(Corrupt, match="wrong answer"):
        do(found, work, times=2000)


def test_rmtree_removes_what_it_says_and_nothing_else() -> None:
    found = session()
    do(found, LOADS["tree"])
    before = [key for key, _ in found.store.scan_prefix(b"D")]
    assert do(found, BY_ID["rmtree"]) == found.tree.tarballs // 2
    after = [key for key, _ in found.store.scan_prefix(b"D")]
    assert len(before) == sum(found.tree.entries_of)
    assert len(after) == sum(found.tree.entries_of[::2])


# -- loops, histograms, distributions --------------------------------------------------------------


def test_an_open_loop_counts_from_the_time_at_which_a_step_was_to_begin() -> None:
    steps = 0

    def stalls_once() -> None:
        nonlocal steps
        steps += 1
        if steps == 1:
            threading.Event().wait(0.05)

    ran = open_(stalls_once, seconds=0.05, per_second=1000)
    assert len(ran.latencies_ns) == steps == 50
    # Those that were to begin meanwhile had to wait; a closed loop would show one slow step.
    waited = sum(latency > 10_000_000 for latency in ran.latencies_ns)
    assert waited > 30


def test_loops_end_when_a_step_has_nothing_left() -> None:
    left: Iterator[int] = iter(range(10))

    def step() -> None:
        next(left)

    ran = closed(step, seconds=60)
    assert len(ran.latencies_ns) == 10
    assert ran.wall_ns >= sum(ran.latencies_ns)


def test_threads_start_together_and_an_error_in_one_is_raised() -> None:
    barrier = threading.Barrier(2)

    def meet() -> None:
        barrier.wait(30)  # ends only if the other is there
        raise StopIteration

    assert len(together([meet, meet], lambda step: closed(step, seconds=60))) == 2

    def fail() -> None:
        raise Corrupt("on purpose")

    with pytest.raises(Corrupt, match="on purpose"):
        together([fail, fail], lambda step: closed(step, seconds=60))


def test_a_histogram_is_as_exact_as_it_says() -> None:
    rng = Random(1)
    values = sorted(round(rng.lognormvariate(9, 3)) + 1 for _ in range(10_000))
    for value in values:
        assert abs(middle_of(bucket_of(value)) - value) <= value * ERROR
    histogram = Histogram.of(values)
    percents = (0.0, 50.0, 90.0, 99.0, 99.9, 100.0)
    found = histogram.percentiles_ns(percents)
    for percent, middle in zip(percents, found, strict=True):
        exact = values[max(-(-len(values) * int(percent * 10) // 1000) - 1, 0)]
        assert middle == pytest.approx(exact, rel=2 * ERROR)
    assert found[-1] <= histogram.max_ns == values[-1]
    assert Histogram.from_dict(json.loads(json.dumps(histogram.as_dict()))) == histogram


def _counts(numbers: Sequence[int], items: int) -> list[int]:
    assert min(numbers) >= 0
    assert max(numbers) < items
    return [numbers.count(number) for number in range(items)]


def test_zipfian_numbers_are_zipfian() -> None:
    choose = zipfian(100, Random(1))
    counts = _counts([choose() for _ in range(50_000)], 100)
    expected = [1 / (n + 1) ** 0.99 for n in range(100)]
    share = [part / sum(expected) for part in expected]
    for number in (0, 1, 5, 20):  # the method is an approximation from the third on
        assert counts[number] / 50_000 == pytest.approx(share[number], rel=0.25)
    assert counts[0] > counts[1] > max(counts[10:])


def test_scrambled_numbers_are_popular_all_over() -> None:
    choose = scrambled(1000, Random(1))
    counts = _counts([choose() for _ in range(20_000)], 1000)
    popular = sorted(range(1000), key=lambda number: -counts[number])[:10]
    assert counts[popular[0]] > 20 * (20_000 / 1000) / 2
    assert max(popular) - min(popular) > 300
    assert fnv64(0) == 0xA8C7F832281A39C5  # of eight zero bytes


# -- places ----------------------------------------------------------------------------------------


def test_settings_are_words_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "engines.toml"
    file.write_text('[lmdb]\nlib_version = "1.0"\n')
    found = places.parse_settings(["lmdb.map_size=1 GiB", "redis.port=1", str(file)])
    assert found == {"lmdb": {"map_size": "1 GiB", "lib_version": "1.0"}, "redis": {"port": 1}}
    file.write_text("lmdb = 1\n")
    with pytest.raises(Invalid, match="no table"):
        places.parse_settings([str(file)])


def test_every_installed_engine_is_run_or_said_why_not() -> None:
    engines, missing = places.choose((), {})
    names = {driver.name for driver in installed("kv")} - {"template"}
    assert {engine.name for engine in engines} | missing.keys() == names
    assert all(missing.values())
    for engine in engines:
        assert engine.info is not None


def test_what_the_user_set_is_used_and_no_server_is_started(tmp_path: Path) -> None:
    (engine,), _ = places.choose(("lmdb",), {"lmdb": {"map_size": "1 GiB"}})
    with engine.place(tmp_path, Durability.PROCESS) as place:
        assert place.settings["map_size"] == "1 GiB"
        assert Path(place.settings["path"]).is_relative_to(tmp_path)
        assert place.is_local

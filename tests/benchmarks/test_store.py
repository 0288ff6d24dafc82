"""``kvfs bench store`` at a real server: what it says, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvfs.errors import Corrupt
from kvfs.registry import find
from kvfs.testing.servers.faults import Fault, FaultyProxy
from kvfs.testing.servers.moto import Moto
from kvfs_bench.stores import works
from kvfs_bench.stores.places import Place

from .conftest import Run

WORKS = {"put small", "get small", "stat", "list", "delete", "put big", "get big", "get ranges"}


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """A server with a bucket."""
    with Moto(tmp_path_factory.mktemp("moto")) as server:
        server.bucket("bucket")
        yield server


def _settings(endpoint: str) -> list[str]:
    given = {"endpoint": endpoint, "access_key": "test", "secret_key": "testtest"}
    return [f"--set={name}={value}" for name, value in (given | {"region": "us-east-1"}).items()]


def _keys(server: Moto) -> list[str]:
    listed: dict[str, Any] = server.client().list_objects_v2(Bucket="bucket")
    return [found["Key"] for found in listed.get("Contents", ())]


def test_checks_and_figures_of_each_driver(bench: Run, moto: Moto, tmp_path: Path) -> None:
    options = [f"--{name}={tmp_path / 'o'}.{name}" for name in ("json", "markdown", "html")]
    drivers = ["--backing=obstore", "--backing=s3"]
    words = ["store", "s3://bucket/here", "--quick", "--threads=2", *drivers, *options]
    done = bench(*words, *_settings(moto.endpoint))
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "o.markdown").read_text()
    assert re.findall(r"https?:", (tmp_path / "o.html").read_text()) == []
    (suite,) = json.loads((tmp_path / "o.json").read_text())["suites"]
    assert [store["driver"] for store in suite["stores"]] == ["obstore", "s3"]
    for store in suite["stores"]:
        assert not [check for check in store["checks"] if check["ok"] is False]
        assert {(work["work"], work["threads"]) for work in store["works"]} >= {
            (name, 1) for name in WORKS
        }
        for work in store["works"]:
            counted = sum(n for name, n in work["histogram_ns"].items() if name != "max")
            assert counted == work["operations"]
            assert work["latency_ms"]["50"] <= work["latency_ms"]["99.9"]
    assert moto.endpoint not in (tmp_path / "o.json").read_text()
    assert _keys(moto) == []


def test_interrupted_it_leaves_nothing_behind(moto: Moto) -> None:
    command = [sys.executable, "-m", "kvfs_frontend_cli", "bench", "store", "s3://bucket"]
    command += ["--backing=obstore", "--threads=2", "--big=1MiB", *_settings(moto.endpoint)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as run:
        assert run.stderr is not None
        assert any("round" in line for line in run.stderr)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
    assert run.returncode == 130
    assert _keys(moto) == []


def test_no_figure_for_a_wrong_answer(moto: Moto) -> None:
    plan = works.Plan(objects=4, small_bytes=1000, big_objects=1, big_bytes=2000, threads=1, seed=1)
    with FaultyProxy(moto) as proxy:
        settings = {"endpoint": proxy.endpoint, "access_key": "test", "secret_key": "testtest"}
        place = Place(url="s3://bucket", settings={**settings, "verify": False})
        with place.opened(find("backing", "obstore")) as store:
            wrong = Fault(
                when=lambda each: each.method == "GET" and "/small/" in each.path.partition("?")[0],
                corrupt=True,
            )
            with proxy.fault(wrong), pytest.raises(Corrupt, match="not what was written"):
                works.run(store, plan, {})
    assert _keys(moto) == []


def test_a_place_that_is_not_there(bench: Run, moto: Moto) -> None:
    words = ["store", "s3://no-such-bucket", "--backing=obstore", "--quick"]
    done = bench(*words, *_settings(moto.endpoint))
    assert done.returncode == 3
    assert "no such bucket" in done.stderr
    assert bench("store", "nowhere://x", "--quick").returncode == 3
    assert bench("store", "s3://bucket", "--threads=0").returncode == 2

"""One writer at a time: who comes later wins, and who was there before is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvfs.capability import Durability
from kvfs.errors import Closed, Unavailable
from kvfs.kv import Batch
from kvfs_kv_slatedb._driver import SlateDBDriver

Opener = Callable[..., SlateDBDriver]
CHILD = Path(__file__).with_name("child.py")


@pytest.fixture(params=["directory", "bucket"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The two kinds of places that several processes can reach."""
    if request.param == "directory":
        return {"url": f"file://{tmp_path}/stores"}
    found: dict[str, str] = request.getfixturevalue("bucket")
    return found


def test_second_process_fences_off_the_first(opener: Opener, settings: dict[str, str]) -> None:
    """What the first one had acknowledged is there, and no more than one commit besides."""
    command = [sys.executable, str(CHILD), "commit_until_refused", json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        for _ in range(3):
            first.stdout.readline()
        driver = opener(settings)
        found = [key for key, _ in driver.scan(b"", None)]
        driver.commit(Batch().put(b"second", b"1"), driver.capability.durability)
        *lines, refusal, read = first.stdout.read().splitlines()
        assert first.wait() == 0
    last = int(lines[-1]) if lines else 2
    acknowledged = [b"%08d" % number for number in range(last + 1)]
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) <= len(acknowledged) + 1
    assert refusal.startswith("Closed slatedb ")
    assert "another process has opened this store" in refusal
    assert read == "Closed"
    assert [key for key, _ in driver.scan(b"", None)] == [*found, b"second"]


def test_second_opening_in_one_process_is_refused(opener: Opener, settings: dict[str, str]) -> None:
    driver = opener(settings)
    with pytest.raises(Unavailable, match="is open in this process"):
        opener(settings)
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    driver.close()
    assert opener(settings).get(b"a") == b"1"


def test_after_being_fenced_off_it_can_be_opened_again(
    opener: Opener, settings: dict[str, str]
) -> None:
    first = opener(settings)
    first.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    view = first.snapshot()
    command = [sys.executable, str(CHILD), "commit_until_refused", json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(Closed, match="another process"):
            first.commit(Batch().guard(b"a", b"1").put(b"a", b"2"), Durability.PROCESS)
        with pytest.raises(Closed, match="another process"):
            view.get(b"a")
        first.close()
        again = opener(settings)
        assert other.wait() == 0
    assert again.get(b"a") == b"1"
    again.commit(Batch().guard(b"a", b"1").put(b"a", b"3"), Durability.PROCESS)

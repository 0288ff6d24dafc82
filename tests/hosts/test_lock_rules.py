"""What holds of locks among hosts whatever the engine: shown over one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.testing.mounts import site_in, wait_until
from kvfs.testing.places import Place

from .conftest import LEASE_S, TIMEOUT_S, numbers
from .hosts import Host
from .locking import Pair, begin_to_wait

ENGINE = "redis"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The quickest server."""
    with Place.of(ENGINE, tmp_path_factory.mktemp("place")) as made:
        yield made


@pytest.fixture(scope="module")
def pair(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two hosts with a volume of their own."""
    with Pair.over(place, tmp_path_factory.mktemp("locks")) as pair:
        yield pair


def test_ranges_and_what_is_told_of_them(pair: Pair) -> None:
    one, other = pair.lockers()
    assert one.ask("posix exclusive now 10 10") == "done"
    assert other.ask("posix shared now 19 1") == "EAGAIN"
    assert other.ask("posix exclusive now 20 0") == "done"
    assert other.ask("posix exclusive test 0 0") == "exclusive 10 10 0"
    assert one.ask("posix shared test 0 0") == "exclusive 20 0 0"
    assert one.ask("posix shared test 0 20") == "none"
    assert one.ask("posix none now 15 1") == "done"
    assert other.ask("posix shared now 15 1") == "done"
    assert one.ask("posix exclusive test 15 1") == "shared 15 1 0"
    # A neighbour is told who it is.
    name = pair.file()
    first, second = pair.locker(pair.one, name), pair.locker(pair.one, name)
    assert first.ask("posix exclusive now 0 1") == "done"
    assert second.ask("posix exclusive test 0 0") == f"exclusive 0 1 {first.pid}"


@pytest.mark.parametrize(("space", "of_bytes"), [("flock", ""), ("posix", " 0 0"), ("ofd", " 0 0")])
@pytest.mark.parametrize("end", ["unlocks", "closes", "is killed"])
def test_who_waits_gets_it_when_the_other(pair: Pair, space: str, of_bytes: str, end: str) -> None:
    one, other = pair.lockers()
    assert one.ask(f"{space} exclusive now{of_bytes}") == "done"
    begin_to_wait(pair.other, other, f"{space} exclusive wait{of_bytes}")
    match end:
        case "unlocks":
            assert one.ask(f"{space} none now{of_bytes}") == "done"
        case "closes":
            assert one.ask("close") == "done"
        case "is killed":
            one.signal("KILL")
    assert other.answer() == "done"


def test_who_is_interrupted_has_nothing(pair: Pair) -> None:
    one, other = pair.lockers()
    for kind, of_bytes in (("flock", ""), ("posix", " 3 4")):
        assert one.ask(f"{kind} exclusive now{of_bytes}") == "done"
        begin_to_wait(pair.other, other, f"{kind} exclusive wait{of_bytes}")
        other.signal("INT")
        assert other.answer() == "interrupted"
        assert one.ask(f"{kind} none now{of_bytes}") == "done"
        assert one.ask(f"{kind} exclusive now{of_bytes}") == "done"


def test_who_lives_keeps_a_lock_for_longer_than_a_lease(pair: Pair) -> None:
    name = pair.file()
    one = pair.locker(pair.one, name)
    assert one.ask("flock exclusive now") == "done"
    assert pair.flock(pair.other, name, f"--timeout={1.5 * LEASE_S}", "true") == 1
    assert one.ask("flock none now") == "done"
    assert pair.flock(pair.other, name, "--nonblock", "true") == 0


def test_a_worker_is_replaced_and_its_locks_stay(pair: Pair) -> None:
    name = pair.file()
    one, other = pair.lockers(name=name)
    assert one.ask("posix exclusive now 0 0") == "done"
    waiting = pair.locker(pair.one, name)
    begin_to_wait(pair.one, waiting, "posix exclusive wait 0 0")
    _kill_worker(pair.one)
    assert other.ask("posix exclusive now 0 0") == "EAGAIN"
    assert one.ask("posix exclusive test 0 0") == "none"
    assert one.ask("close") == "done"
    assert waiting.answer() == "done"
    assert other.ask("posix exclusive now 0 0") == "EAGAIN"


def _kill_worker(host: Host) -> None:
    """Kill the one worker of a mount, and return when another has taken its place."""
    daemon = host.site.mounts[0].pid
    children = host.root / f"proc/{daemon}/task/{daemon}/children"
    [worker] = children.read_text().split()
    subprocess.run([*host.site.prefix, "kill", "-KILL", worker], check=True)
    wait_until(lambda: children.read_text().split() not in ([worker], []), "it is replaced")


def test_a_host_that_was_silent_for_too_long_knows_that_it_has_lost_its_locks(pair: Pair) -> None:
    name, third = pair.file(), pair.third()
    slow = pair.locker(third, name)
    quick = pair.locker(pair.one, name)
    assert slow.ask("posix exclusive now 0 10") == "done"
    third.freeze()
    assert quick.ask("posix exclusive wait 5 1") == "done"
    third.thaw()
    assert slow.ask("posix exclusive test 0 0") == "exclusive 5 1 0"
    assert slow.ask("posix exclusive now 0 10") == "EAGAIN"
    assert slow.ask("posix none now 0 10") == "done"
    assert quick.ask("posix exclusive now 0 0") == "done"


def test_read_only_mounts(pair: Pair, place: Place, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("0")
    folder = tmp_path / "folder"
    folder.mkdir()
    words = ["tar", "-C", str(tmp_path / "a"), "-cf", str(folder / "a.tar"), "."]
    subprocess.run(words, check=True)
    kv = place.table(f"volume{next(numbers)}") | {"timeout": TIMEOUT_S}
    with site_in(tmp_path) as site:
        settings = {"lease": LEASE_S, "locks": "cluster"}
        volume = site.config({"driver": "posix", "path": str(folder)}, kv=kv, volume=settings)
        mounts = [host.site.mount(volume, at="read-only") for host in (pair.one, pair.other)]
        name = os.path.relpath(mounts[0].path / "a" / "file", pair.one.site.target())
        one, other = (pair.locker(h, name, "read-only") for h in (pair.one, pair.other))
        assert one.ask("flock exclusive now") == "done"
        assert other.ask("flock shared now") == "EAGAIN"
        assert other.ask("posix shared now 0 0") == "done"
        assert other.ask("posix exclusive now 0 0") == "EBADF"
        other.begin("flock exclusive wait")
        one.signal("KILL")
        assert other.answer() == "done"
        assert other.ask("close") == "done"
        for mounted in mounts:
            mounted.site.run("umount", mounted.path)

"""Worker processes that are killed, and what else can end: no reader takes notice.

Readers compare every byte with what was packed.  They give their pages back to the kernel and ask
for names that do not exist, so that requests keep coming.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvfs.testing.mounts import Mounted, Site, wait_until
from kvfs.testing.trees import assert_same_tree, tree_of

from .conftest import FILES, Tarball

KILLS = 10
SEED = 20_261_121
OLD_S = 2.0
"""A worker that was killed younger counts as one that dies by itself (five in a row do)."""
RESENDS = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) >= (6, 9)
"""Does the kernel ask again what a killed worker had not answered?  Else that fails, as aborted."""

pytestmark = pytest.mark.timeout(90)
READ_ALL = """
import os, sys
original, tarballs = os.fsencode(sys.argv[1]), [os.fsencode(path) for path in sys.argv[2:]]
count = 0
def fail(error):
    raise error
while not os.path.exists(original + b".stop"):
    for tarball in tarballs:
        for path, _, names in os.walk(tarball, onerror=fail):
            for name in names:
                served = os.path.join(path, name)
                with open(os.path.join(original, os.path.relpath(served, tarball)), "rb") as file:
                    expected = file.read()
                descriptor = os.open(served, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                assert os.pread(descriptor, 1 << 20, 0) == expected, served
                os.close(descriptor)
                count += 1
                assert not os.path.lexists(b"%s/absent-%d-%d" % (tarball, os.getpid(), count))
        if not count:
            sys.exit("nothing is in " + repr(tarball))
        print(count, flush=True)
"""


def workers(mounted: Mounted) -> list[int]:
    """The worker processes of a mount, the dead ones left out."""
    path = Path(f"/proc/{mounted.pid}/task/{mounted.pid}/children")
    return [int(pid) for pid in path.read_text().split() if is_there(int(pid))]


def is_there(pid: int) -> bool:
    """Is a process there, and no zombie?"""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def age_s(pid: int) -> float:
    """How long a process has been there."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def requests(mounted: Mounted) -> dict[str, int]:
    """What was asked of a mount so far."""
    found: dict[str, int] = json.loads(os.getxattr(mounted.path, "user.kvfs.requests"))
    return found


class Readers:
    """Processes that read and compare until they are stopped."""

    def __init__(self, site: Site, tree: Path, tarballs: list[Path], *, count: int) -> None:
        self._stop = Path(f"{tree}.stop")
        self._stop.unlink(missing_ok=True)
        self._processes = []
        for number in range(count):
            turned = tarballs[number % len(tarballs) :] + tarballs[: number % len(tarballs)]
            self._processes.append(site.beside(sys.executable, "-c", READ_ALL, tree, *turned))

    def started(self) -> None:
        """Wait until each has read one tarball."""
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline(), process.communicate()

    def complaints(self) -> list[str]:
        """What the readers complained of; each ends what it is at."""
        self._stop.touch()
        ended = [process.communicate(timeout=60) for process in self._processes]
        self._stop.unlink()
        return [errors for _, errors in ended if errors]

    def finish(self) -> list[str]:
        """The same, and see that each has come to its end."""
        complaints = self.complaints()
        assert all(process.returncode == 0 for process in self._processes), complaints
        return complaints


def mount(
    site: Site, config: Path, *, workers_wanted: int, at: str = "mnt", more: str = ""
) -> Mounted:
    """A mount, all of whose workers are there."""
    mounted = site.mount(config, "-o", f"workers={workers_wanted}{more}", at=at)
    wait_until(lambda: len(workers(mounted)) == workers_wanted, "its workers are there")
    return mounted


def posix(site: Site, folder: Path) -> Path:
    """The configuration of a folder of tarballs."""
    return site.config({"driver": "posix", "path": str(folder)})


@pytest.mark.parametrize("count", [1, 2])
def test_all_is_served(site: Site, tarball: Tarball, count: int) -> None:
    folder = site.path / "folder"
    tarball.put(folder, "a.tar", "b.tar")
    mounted = mount(site, posix(site, folder), workers_wanted=count)
    for name in "ab":
        os.listdir(mounted.path / name)
        found = tree_of(mounted.path / name)
        assert assert_same_tree(tree_of(tarball.tree), found, ignoring=["root"]) > 400
    activity = mounted.status()["mounts"][0]["activity"]
    assert activity["metrics"]["tarballs.ingest"]["count"] == 2
    assert len(activity["processes"]) == count
    pids = workers(mounted)
    mounted.umount()
    assert not any(map(is_there, pids))
    assert site.violations(folder) == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("count", [1, 2])
def test_killed_while_it_is_read(site: Site, tarball: Tarball, count: int) -> None:
    """Tarballs are fetched, listed and read meanwhile; of all three some is always under way."""
    folder = site.path / "folder"
    names = [f"t{number:02}" for number in range(12)]
    tarball.put(folder, *(f"{name}.tar" for name in names))
    mounted = mount(site, posix(site, folder), workers_wanted=count)
    readers = Readers(site, tarball.tree, [mounted.path / name for name in names], count=4)
    generator = random.Random(SEED)
    for _ in range(KILLS):
        wait_until(lambda: any(age_s(pid) > OLD_S for pid in workers(mounted)), "one is old")
        victim = generator.choice([pid for pid in workers(mounted) if age_s(pid) > OLD_S])
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda: len(workers(mounted)) == count and victim not in workers(mounted),  # noqa: B023
            "it is replaced",
        )
    if RESENDS:
        readers.started()
        assert readers.finish() == [], f"seed {SEED}"
    else:
        assert all("connection abort" in errors for errors in readers.complaints())
        assert_same_tree(tree_of(tarball.tree), tree_of(mounted.path / "t00"), ignoring=["root"])
    assert mounted.log().count("has died and is replaced") == KILLS
    mounted.umount()
    assert site.violations(folder) == []


@pytest.mark.parametrize("count", [1, 2])
def test_killed_with_requests_that_wait(site: Site, tarball: Tarball, count: int) -> None:
    """Those that wait for contents are asked again, and the next worker fetches them anew."""
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    gate, config = site.gated(folder)
    mounted = mount(site, config, workers_wanted=count)
    readers = [site.beside("cat", mounted.path / "a/last") for _ in range(8)]
    stream = gate.opened("a.tar")
    stream.allow(1_000_000)
    stream.wait_for(1_000_000)
    gate.leave_open("a.tar")
    for pid in workers(mounted):
        os.kill(pid, signal.SIGKILL)
    for reader in readers:
        out, errors = reader.communicate(timeout=60)
        assert (out, errors) == ("the last member\n", "") or (
            not RESENDS and "connection abort" in errors
        )
    assert (mounted.path / "a/last").read_text() == "the last member\n"
    assert gate.count("a.tar") == 2
    assert_same_tree(tree_of(tarball.tree), tree_of(mounted.path / "a"), ignoring=["root"])
    mounted.umount()
    assert site.violations(folder) == []


def test_whoever_waits_can_be_interrupted(site: Site, tarball: Tarball) -> None:
    """Of two workers, either may be the one that is told so."""
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    gate, config = site.gated(folder)
    mounted = mount(site, config, workers_wanted=2)
    os.listdir(mounted.path)
    # Names of their own: the kernel asks for one name once, and lets nobody go who waits for that.
    readers = [site.beside("cat", mounted.path / f"a/absent-{number}") for number in range(12)]
    stream = gate.opened("a.tar")
    stream.allow(1000)
    stream.wait_for(1000)
    for reader in readers:
        wchan = Path(f"/proc/{reader.pid}/wchan")
        wait_until(lambda: wchan.read_text() == "request_wait_answer", "it waits")  # noqa: B023
        reader.send_signal(signal.SIGINT)
    for reader in readers:
        assert reader.wait(20) == -signal.SIGINT
    stream.allow(None)
    assert (mounted.path / "a/last").read_text() == "the last member\n"


@pytest.mark.parametrize("count", [1, 2])
def test_a_killed_supervisor(site: Site, tarball: Tarball, count: int) -> None:
    """Its workers end by themselves, under load, and the next mount clears the dead one away."""
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    config = posix(site, folder)
    mounted = mount(site, config, workers_wanted=count)
    readers = [
        site.beside(sys.executable, "-c", READ_ALL, tarball.tree, mounted.path / "a")
        for _ in range(3)
    ]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline()
    pids = workers(mounted)
    mounted.kill()
    for reader in readers:
        _, errors = reader.communicate(timeout=60)
        assert "not connected" in errors or "connection abort" in errors, errors
    wait_until(lambda: not any(map(is_there, pids)), "the workers have ended")
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.statvfs(mounted.path)
    again = mount(site, config, workers_wanted=count)
    assert_same_tree(tree_of(tarball.tree), tree_of(again.path / "a"), ignoring=["root"])
    again.umount()
    assert site.violations(folder) == []


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "umount", "force"])
def test_the_end_while_workers_are_busy(site: Site, tarball: Tarball, how: str) -> None:
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    mounted = mount(site, posix(site, folder), workers_wanted=2)
    pids = workers(mounted)
    readers = Readers(site, tarball.tree, [mounted.path / "a"], count=3)
    readers.started()
    if how == "umount":  # which does not go while there are users
        assert readers.finish() == []
        mounted.umount()
    elif how == "force":
        mounted.umount("--force")
    else:
        mounted.signal(signal.Signals[how])
    assert not any(map(is_there, pids))
    assert not mounted.is_mounted()
    assert not is_there(mounted.pid)
    assert "Traceback" not in mounted.log()


def test_the_end_in_the_middle_of_an_ingest(site: Site, tarball: Tarball) -> None:
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    gate, config = site.gated(folder)
    mounted = mount(site, config, workers_wanted=2)
    pids = workers(mounted)
    site.beside("cat", mounted.path / "a/last")
    stream = gate.opened("a.tar")
    stream.allow(1_000_000)
    stream.wait_for(1_000_000)
    gate.leave_open("a.tar")
    stream.allow(None)
    mounted.signal(signal.SIGTERM)
    assert not any(map(is_there, pids))
    assert not mounted.is_mounted()
    assert site.violations(folder) == []


def test_workers_that_cannot_serve_end_the_mount(site: Site, tarball: Tarball) -> None:
    """Their cache is gone: each of them says so and ends, and there is no endless row of them."""
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    mounted = mount(site, posix(site, folder), workers_wanted=2)
    assert (mounted.path / "a/last").read_text() == "the last member\n"
    # What counts is how long they have served, and loading may take long.
    wait_until(
        lambda: len(mounted.status()["mounts"][0]["activity"]["processes"]) == 2, "both serve"
    )
    cache = site.path / "cache-volume"
    cache.rename(site.path / "elsewhere")
    cache.write_text("this is no directory")
    time.sleep(OLD_S)
    os.kill(workers(mounted)[0], signal.SIGKILL)
    wait_until(lambda: not is_there(mounted.pid), "the mount is given up")
    assert not mounted.is_mounted()
    log = (site.path / "elsewhere" / mounted.log_path.name) if mounted.log_path else None
    assert log is not None
    said = log.read_text()
    assert said.count("has died and is replaced") == 5
    assert "the mount is given up: 5 workers in a row died" in said
    cache.unlink()
    (site.path / "elsewhere").rename(cache)
    again = mount(site, site.path / "volume.toml", workers_wanted=2)
    assert (again.path / "a/last").read_text() == "the last member\n"


def test_nothing_adds_up_with_the_dead(site: Site, tarball: Tarball) -> None:
    """Neither descriptors nor zombies stay behind of workers that were replaced."""
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    mounted = mount(site, posix(site, folder), workers_wanted=2)
    assert (mounted.path / "a/last").read_text() == "the last member\n"

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{mounted.pid}/fd"))

    before = descriptors()
    for _ in range(4):
        wait_until(lambda: all(age_s(pid) > OLD_S for pid in workers(mounted)), "they are old")
        victim = workers(mounted)[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda: len(workers(mounted)) == 2 and victim not in workers(mounted),  # noqa: B023
            "it is replaced",
        )
    wait_until(lambda: descriptors() == before, f"there are {before} descriptors again")
    children = Path(f"/proc/{mounted.pid}/task/{mounted.pid}/children")
    wait_until(
        lambda: sorted(map(int, children.read_text().split())) == sorted(workers(mounted)),
        "it has no children but its workers",
    )


def test_requests_are_counted_over_all_workers(site: Site, tarball: Tarball) -> None:
    """And a worker that takes the place of a dead one goes on where that was."""
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    mounted = mount(site, posix(site, folder), workers_wanted=2, more=",push=false")

    def read_all() -> int:
        os.sync()
        count = 0
        for path in sorted((mounted.path / "a").glob("dir */*")):
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            count += bool(os.read(descriptor, 1 << 20))
            os.close(descriptor)
        return count

    expected = read_all()
    assert expected == FILES
    first = requests(mounted)
    assert first["READ"] == expected
    for pid in workers(mounted):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_there(pid), "it is dead")  # noqa: B023
    wait_until(lambda: len(workers(mounted)) == 2, "they are replaced")
    assert read_all() == expected
    second = requests(mounted)
    assert second["READ"] == 2 * expected
    assert second["READDIRPLUS"] >= first["READDIRPLUS"] > 0
    shown = mounted.status()["mounts"][0]["activity"]["metrics"]["fuse.requests"]
    assert shown["READ"] == second["READ"]
    assert {*shown} >= {"LOOKUP", "READ", "READDIRPLUS", "GETXATTR"}


def test_signals_to_the_workers_do_nothing(site: Site, tarball: Tarball) -> None:
    """A terminal sends them to the whole group: it is the supervisor's to act."""
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    mounted = mount(site, posix(site, folder), workers_wanted=2)
    pids = workers(mounted)
    for pid in pids:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    assert (mounted.path / "a/last").read_text() == "the last member\n"
    assert workers(mounted) == pids


def test_an_interrupt_from_the_terminal_ends_all(site: Site, tarball: Tarball) -> None:
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    config = posix(site, folder)
    target = site.target()
    process = subprocess.Popen(
        site.command("mount", "--foreground", "-o", "workers=2", config, target),
        env=site.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert "is mounted at" in process.stdout.readline()
        assert (target / "a/last").read_text() == "the last member\n"
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert errors == ""
    finally:
        process.kill()
        process.wait()
    assert os.listdir(target) == []

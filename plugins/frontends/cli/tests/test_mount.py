"""Mounts, daemons and how both end; through the kernel."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvfs.testing.mounts import wait_until
from kvfs_frontend_cli._exits import Exit
from kvfs_frontend_fuse import mounts

from .conftest import SLOW, Home
from .trees import differences


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty directory."""
    path = tmp_path / "mnt with space"
    path.mkdir()
    return path


def _mounted(home: Home, target: Path) -> list[dict[str, Any]]:
    """What ``kvfs status`` shows of this test's mounts; others run beside it."""
    near = str(target.parent)
    return [mount for mount in home.json("status") if mount["target"].startswith(near)]


def _pid(home: Home, target: Path) -> int:
    (mount,) = [mount for mount in _mounted(home, target) if mount["target"] == str(target)]
    pid = mount["pid"]
    assert isinstance(pid, int)
    return pid


def _is_mounted(target: Path) -> bool:
    return any(mount.mount_point == target for mount in mounts())


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_in_the_background_and_away(home: Home, tarballs: Path, target: Path, tree: Path) -> None:
    (line,) = home.lines("mount", tarballs, target)
    assert f"{tarballs} is mounted at {target}: 3 tarballs" in line
    assert sorted(os.listdir(target)) == ["below", "plain", "tree"]
    assert differences(tree, target / "tree" / "tree") == []
    pid = _pid(home, target)
    assert home.text("umount", target) == ""
    assert not _is_running(pid)
    assert not _is_mounted(target)
    assert os.listdir(target) == []
    assert _mounted(home, target) == []


def test_what_the_mount_point_stands_for(home: Home, tarballs: Path, target: Path) -> None:
    home.run("mount", tarballs, target, "--set", "volume.name=mine")
    assert home.lines("ls", target, "plain/tree") == ["README", "sub"]
    assert home.json("info", target)["name"] == "mine"
    assert home.json("config", "show", target)["volume"]["name"] == "mine"
    assert "give VOLUME and PATH apart" in home.error("ls", target / "plain", code=Exit.USAGE)
    assert "--kv" in home.error("ls", target, "--kv", "memory", code=Exit.USAGE)
    home.run("umount", target)


def test_status_shows_what_the_daemon_does(home: Home, tarballs: Path, target: Path) -> None:
    home.run("mount", tarballs, target)
    (target / "tree" / "tree" / "README").read_bytes()
    for volume in (target, tarballs):
        found = home.json("status", volume)
        assert found["tarballs"]["states"]["sealed"] == 1
        (mount,) = found["mounts"]
        assert mount["activity"]["metrics"]["tarballs.ingest"]["count"] == 1
        assert mount["activity"]["resident_bytes_max"] > 1 << 20
        assert found["engine"]["sealed"]["keys"] > 10
    text = home.text("status", target)
    assert "tarballs.ingest" in text
    assert str(target) in home.text("status")
    home.run("umount", target)
    assert str(target) not in home.text("status")


def test_the_record_of_a_mount_is_for_its_user_alone(
    home: Home, tarballs: Path, target: Path
) -> None:
    home.run("mount", tarballs, target)
    place = home.path / "run/kvfs"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    (record,) = place.glob("*.json")
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    log = Path(json.loads(record.read_bytes())["log"])
    assert "is mounted at" in log.read_text()
    home.run("umount", target)
    assert "is unmounted" in log.read_text()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_in_the_foreground_a_signal_unmounts(
    home: Home, tarballs: Path, target: Path, number: signal.Signals
) -> None:
    with home.start("mount", "-f", tarballs, target) as child:
        assert child.stdout is not None
        assert b"is mounted at" in child.stdout.readline()
        assert sorted(os.listdir(target)) == ["below", "plain", "tree"]
        child.send_signal(number)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == Exit.OK, errors
    assert not _is_mounted(target)
    assert _mounted(home, target) == []


def _answers(target: Path) -> bool:
    try:
        os.statvfs(target)
    except OSError:
        return False
    return True


def test_a_killed_daemon_is_recovered_by_the_next_mount(
    home: Home, slow: Path, target: Path
) -> None:
    home.run("mount", "--set", SLOW, slow, target)
    pid = _pid(home, target)
    assert (target / "slow" / "first").read_bytes() == b"1" * 5000  # the rest is on its way
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _answers(target), "its workers have ended as well")
    assert "its server is dead" in home.text("status")
    checks = {check["name"]: check for check in home.json("doctor", code=Exit.FAILURE)}
    assert f"kvfs umount {target}" in checks["mounts"]["advice"]
    home.run("mount", slow, target)
    assert len(os.listdir(target / "slow")) == 801
    home.run("umount", target)


def test_a_dead_mount_is_unmounted_without_force(home: Home, tarballs: Path, target: Path) -> None:
    home.run("mount", tarballs, target)
    os.kill(_pid(home, target), signal.SIGKILL)
    home.run("umount", target)
    assert not _is_mounted(target)


def test_one_volume_at_two_places(home: Home, tarballs: Path, target: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    home.run("mount", tarballs, target)
    home.run("mount", tarballs, other)
    assert len(_mounted(home, target)) == 2
    assert differences(target / "tree", other / "tree") == []
    assert home.json("status", tarballs)["tarballs"]["states"]["sealed"] == 1
    assert len(home.json("status", tarballs)["mounts"]) == 2
    home.run("umount", target)
    assert (other / "plain/tree/README").read_text() == "read me\n"
    home.run("umount", other)


def test_what_is_in_use_stays_unless_forced(home: Home, tarballs: Path, target: Path) -> None:
    home.run("mount", tarballs, target)
    pid = _pid(home, target)
    with (target / "tree/tree/binary").open("rb") as file:
        assert file.read(1) == b"\0"
        assert "in use" in home.error("umount", target, code=Exit.CONFLICT)
        assert _is_mounted(target)
        assert _is_running(pid)
        home.run("umount", target, "--force")
        assert not _is_mounted(target)
        assert not _is_running(pid)


def test_a_configuration_file_and_options(home: Home, tarballs: Path, target: Path) -> None:
    config = tarballs.parent / "train.toml"
    config.write_text(
        '[volume]\nname = "train"\n[kv]\ndriver = "lmdb"\npath = "cache"\n'
        '[backing]\ndriver = "posix"\npath = "tarballs"\n[frontend]\nxattrs = false\n'
    )
    home.run("mount", config, target, "-o", "waiters=3,fsname=shown", "-o", "allow_other=false")
    (found,) = [mount for mount in mounts() if mount.mount_point == target]
    assert found.source == "shown"
    assert "allow_other" not in found.options
    frontend = home.json("config", "show", target)["frontend"]
    assert (frontend["waiters"], frontend["xattrs"]) == (3, False)
    assert (tarballs.parent / "cache/state").is_dir()
    assert list((tarballs.parent / "cache").glob("mount-*.log"))
    home.run("umount", target)


def test_an_engine_without_a_directory_logs_elsewhere(
    home: Home, tarballs: Path, target: Path
) -> None:
    home.run("mount", tarballs, target, "--kv", "memory")
    assert home.json("config", "show", target)["kv"]["driver"] == "memory"
    assert (target / "plain/tree/README").read_text() == "read me\n"
    (log,) = (home.path / "run/kvfs").glob("mount-*.log")
    assert "is mounted at" in log.read_text()
    home.run("umount", target)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{v}", "{t}/none"], Exit.NOT_FOUND, "create it"),
        (["{v}", "{v}/plain.tar"], Exit.USAGE, "not a directory"),
        (["{v}", "{v}"], Exit.USAGE, "not empty"),
        (["{v}/none", "{t}"], Exit.NOT_FOUND, "none"),
        (["{v}", "{t}", "-o", "waters=3"], Exit.USAGE, "'waiters'"),
        (["{v}", "{t}", "-o", "waiters=0"], Exit.USAGE, "waiters"),
        (["{v}", "{t}", "--frontend", "nfs"], Exit.NOT_FOUND, "kvfs-frontend-nfs"),
        (["{v}", "{t}", "--kv", "nope"], Exit.NOT_FOUND, "kvfs-kv-nope"),
        (["{v}", "{t}", "--set", "volume.nme=x"], Exit.USAGE, "'name'"),
    ],
)
@pytest.mark.parametrize("where", [["mount"], ["mount", "-f"]])
def test_what_cannot_be_mounted(
    *,
    home: Home,
    tarballs: Path,
    target: Path,
    where: list[str],
    words: list[str],
    code: Exit,
    said: str,
) -> None:
    given = [word.format(v=tarballs, t=target) for word in words]
    assert said in home.error(*where, *given, code=code)
    assert _mounted(home, target) == []


def test_a_mount_point_is_taken_once(home: Home, tarballs: Path, target: Path) -> None:
    home.run("mount", tarballs, target)
    assert "alive" in home.error("mount", tarballs, target, code=Exit.CONFLICT)
    assert (target / "plain/tree/README").read_text() == "read me\n"
    home.run("umount", target)


def test_what_is_not_mounted_cannot_be_unmounted(home: Home, target: Path) -> None:
    assert str(target) in home.error("umount", target, code=Exit.NOT_FOUND)
    home.error("umount", target / "none", "--force", code=Exit.NOT_FOUND)


def test_hooks_hear_of_mounts(
    home: Home, tarballs: Path, target: Path, plugin: Callable[[str, str, str], None]
) -> None:
    heard = home.path / "heard"
    plugin(
        "kvfs.hooks",
        "listener",
        "import os\n"
        "from kvfs.hooks import hookimpl\n"
        "def say(what, target):\n"
        f"    with open({str(heard)!r}, 'a') as file:\n"
        "        print(what, len(os.listdir(target)), file=file)\n"
        "@hookimpl\ndef kvfs_on_mount(volume, target):\n    say('mounted', target)\n"
        "@hookimpl\ndef kvfs_on_unmount(volume, target):\n    say('unmounted', target)\n",
    )
    home.run("mount", tarballs, target)
    home.run("umount", target)
    assert heard.read_text() == "mounted 3\nunmounted 0\n"


def test_a_daemon_that_dies_at_once_is_reported(
    home: Home, tarballs: Path, target: Path, plugin: Callable[[str, str, str], None]
) -> None:
    plugin(
        "kvfs.frontend",
        "dying",
        "import attrs, os\n"
        "from kvfs.capability import FrontendCapability\n"
        "from kvfs.registry import DriverInfo\n"
        "@attrs.frozen\nclass Settings:\n    pass\n"
        "class Dying:\n"
        "    def serve(self, volume, target, *, ready):\n"
        "        os.write(2, b'killed by a test\\n')\n"
        "        os._exit(77)\n"
        "def make(settings):\n    return Dying()\n"
        "DRIVER = DriverInfo(name='dying', kind='frontend', summary='test', settings=Settings,\n"
        "    factory='plugin_dying:make', capability=FrontendCapability())\n",
    )
    said = home.error("mount", tarballs, target, "--frontend", "dying", code=Exit.UNAVAILABLE)
    assert "77" in said
    assert "killed by a test" in said

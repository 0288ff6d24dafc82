"""The real command in processes of its own, over tarballs that GNU tar made."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from kvfs.files import Caller, Changes, WritableFiles
from kvfs.files.records import tarball_of
from kvfs.volume import Volume, from_file
from kvfs_frontend_fuse import mounts

SLOW = 'backing.layer=[{name="latency", bytes_per_s="1 MB"}]'
"""A store that takes a second for each megabyte: progress and interruption can be seen."""
TIMEOUT_S = 60


@attrs.define
class Home:
    """A user's home: caches and runtime files of one test, and the command run with them."""

    path: Path
    environment: dict[str, str]

    def command(self, *words: object) -> list[str]:
        """A command line of ``kvfs``."""
        return [sys.executable, "-m", "kvfs_frontend_cli", *map(str, words)]

    def run(
        self,
        *words: object,
        code: int = 0,
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``kvfs``, and see that it exits with ``code``."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment | (environment or {}),
            capture_output=True,
            timeout=TIMEOUT_S,
            cwd=cwd,
            check=False,
        )
        assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        if code == 0:
            assert b"Traceback" not in done.stderr
        return done

    def text(self, *words: object, code: int = 0) -> str:
        """What it prints."""
        return self.run(*words, code=code).stdout.decode("utf-8", "surrogateescape")

    def lines(self, *words: object) -> list[str]:
        """What it prints, by line."""
        return self.text(*words).splitlines()

    def json(self, *words: object, code: int = 0) -> Any:
        """The one document of JSON that it prints."""
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def json_lines(self, *words: object, code: int = 0) -> list[dict[str, Any]]:
        """The lines of JSON that it prints."""
        return [
            json.loads(line) for line in self.run(*words, "--json", code=code).stdout.splitlines()
        ]

    def error(self, *words: object, code: int) -> str:
        """The one line of complaint with which it fails."""
        lines = self.run(*words, code=code).stderr.decode().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("kvfs: ")
        return lines[0].removeprefix("kvfs: ")

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        """Run it beside the test."""
        return subprocess.Popen(
            self.command(*words),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """An empty home; nothing stays mounted and no daemon alive behind a test."""
    path = tmp_path / "home"
    runtime = path / "run"
    runtime.mkdir(parents=True, mode=0o700)
    environment = os.environ | {
        "HOME": str(path),
        "XDG_CACHE_HOME": str(path / "cache"),
        "XDG_RUNTIME_DIR": str(runtime),
        "COLUMNS": "200",
        "TERM": "dumb",
    }
    environment.pop("KVFS_DEBUG", None)
    yield Home(path, environment)
    for record in (runtime / "kvfs").glob("*.json"):
        pid = int(json.loads(record.read_bytes())["holder"].split("/")[1])
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for mount in mounts():
        if mount.mount_point.is_relative_to(tmp_path):
            subprocess.run(["umount", "-l", mount.mount_point], check=True)


def gnu_tar(*words: object) -> None:
    """Run GNU tar."""
    done = subprocess.run(["tar", *map(str, words)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def make_tree(root: Path) -> Path:
    """A small tree of everything that a tarball can hold and this user can make."""
    root.mkdir()
    (root / "README").write_text("read me\n")
    (root / "binary").write_bytes(bytes(range(256)) * 2000)
    (root / ".hidden").write_text("dot\n")
    (root / "empty").touch()
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "sub" / "deep" / "file").write_text("deep\n")
    (root / "sub" / "link").symlink_to("../README")
    (root / "dangling").symlink_to("/nowhere/at all")
    os.link(root / "README", root / "sub" / "hard")
    os.mkfifo(root / "fifo", 0o640)
    Path(os.fsdecode(os.fsencode(root) + b"/we\nird \xff\xfe")).write_text("odd\n")
    (root / "umlaut-\u00e4").write_text("utf-8\n")
    with (root / "sparse").open("wb") as file:
        file.seek(3 << 20)
        file.write(b"data behind a hole")
        file.truncate(8 << 20)
    os.setxattr(root / "README", "user.note", b"kept\x00raw")
    (root / "binary").chmod(0o751)
    if os.geteuid() == 0:
        os.chown(root / "binary", 33, 44)
        os.mknod(root / "null", 0o020640, os.makedev(1, 3))
        (root / "suid").write_text("x")
        (root / "suid").chmod(0o4755)
    os.utime(root / "README", ns=(0, 981173106123456789))
    (root / "locked").mkdir()
    (root / "locked" / "x").write_text("x\n")
    (root / "locked").chmod(0o555)
    os.utime(root / "sub", ns=(0, 1_000_000_000_000_000_007))
    return root


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree in ``tree.tar.gz``."""
    return make_tree(tmp_path_factory.mktemp("original") / "tree")


@pytest.fixture(scope="session")
def made(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of tarballs; not to be changed."""
    directory = tmp_path_factory.mktemp("made")
    base = ["--format=pax", "--xattrs", "--sparse", "-C", tree.parent]
    gnu_tar(*base, "-czf", directory / "tree.tar.gz", "tree")
    gnu_tar(*base, "-cf", directory / "plain.tar", "tree/README", "tree/sub")
    (directory / "below").mkdir()
    gnu_tar(*base, "-cJf", directory / "below" / "other.tar.xz", "tree/README")
    (directory / "notes.txt").write_text("no tarball\n")
    return directory


@pytest.fixture
def tarballs(made: Path, tmp_path: Path) -> Path:
    """A directory of tarballs of one's own: ``tree``, ``plain`` and ``below/other``."""
    return Path(shutil.copytree(made, tmp_path / "tarballs"))


@pytest.fixture
def changed(tarballs: Path, tmp_path: Path) -> Path:
    """The configuration of a volume that has fetched ``plain``, and changed ``tree``."""
    config = tmp_path / "changed.toml"
    config.write_text(
        f'[kv]\ndriver = "lmdb"\npath = "{tmp_path / "changed"}"\n[volume]\nwritable = true\n'
        f'[backing]\ndriver = "posix"\npath = "{tarballs}"\n'
    )
    with Volume(from_file(config)) as volume:
        volume.refresh()
        volume.begin_writing("a test")
        with closing(volume.files(wait=True)) as files:
            assert isinstance(files, WritableFiles)
            volume.tarballs.fetch(tarball_of(files.open_path(b"plain").inode))
            top = files.open_path(b"tree/tree")
            files.mknod(top.inode, b"new", 0o100644, 0, Caller())
            files.mknod(top.inode, b"socket", 0o140644, 0, Caller())
            files.write(files.open_path(b"tree/tree/README").inode, 0, b"READ")
            files.write(files.open_path(b"tree/tree/binary").inode, 300_000, b"changed")
            files.setattr(files.open_path(b"tree/tree/binary").inode, Changes(size=400_000))
            files.unlink(top.inode, b"empty")
    return config


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A directory with ``slow.tar``: four megabytes in 800 members, the first called ``first``."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "first").write_bytes(b"1" * 5000)
    for number in range(800):
        (source / f"f{number:03}").write_bytes(os.urandom(5000))
    directory = tmp_path / "slow"
    directory.mkdir()
    names = ["first", *(f"f{number:03}" for number in range(800))]
    gnu_tar("-C", source, "-cf", directory / "slow.tar", *names)
    return directory


@pytest.fixture
def plugin(home: Home) -> Callable[[str, str, str], None]:
    """Installs a distribution: ``plugin(group, entry point, source of its module)``."""
    site = home.path / "site"
    site.mkdir()
    home.environment["PYTHONPATH"] = str(site)

    def install(group: str, name: str, source: str) -> None:
        module = f"plugin_{name}"
        (site / f"{module}.py").write_text(source)
        info = site / f"{module}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.5\n")
        value = module if group == "kvfs.hooks" else f"{module}:DRIVER"
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")

    return install

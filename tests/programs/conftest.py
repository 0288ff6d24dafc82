"""Real programs on a volume that can be written to, mounted by the real command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvfs.testing.mounts import Mounted, Site, site_in

Run = Callable[..., str]


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    """Owners and devices need root."""
    assert os.geteuid() == 0, "the tests in tests/programs have to run as root"


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site for all tests of a module."""
    with site_in(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="module")
def mounted(shared_site: Site) -> Iterator[Mounted]:
    """A scratch volume; nothing is wrong with it when the programs are done."""
    volume = shared_site.config({"driver": "scratch"})
    mounted = shared_site.mount(volume)
    yield mounted
    mounted.umount()
    assert "clean" in shared_site.run("fsck", volume).stdout


@pytest.fixture
def place(mounted: Mounted, request: pytest.FixtureRequest) -> Path:
    """An empty directory on the mount."""
    path = mounted.path / str(request.node.name)
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def run(shared_site: Site) -> Run:
    """Runs a program, and sees that it exits with 0; returns what it prints."""

    def run_one(*words: object, cwd: Path | None = None, **environment: str) -> str:
        done = subprocess.run(
            [*map(str, words)],
            cwd=cwd,
            env=shared_site.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (words, done.returncode, done.stdout[-4000:])
        return done.stdout

    return run_one

"""What users install: wheels of every package, by pip, in an environment that has nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from email import message_from_string
from pathlib import Path
from textwrap import dedent
from typing import Any

import attrs
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT / "core", *sorted(path.parent for path in ROOT.glob("plugins/*/*/pyproject.toml"))]
CONSTRAINTS = ROOT / "constraints.txt"

IMPORT_ALL = """
    import importlib, pkgutil, sys

    for name in sys.argv[1:]:
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            # The test kit wants the extra [testing]; __main__ modules run when imported.
            if not found.name.startswith("kvfs.testing") and not found.name.endswith("__main__"):
                importlib.import_module(found.name)
                print(found.name)
"""


@attrs.frozen
class Member:
    """One distribution of the workspace, as its pyproject.toml describes it."""

    folder: Path
    project: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Member:
        return cls(folder, tomllib.loads((folder / "pyproject.toml").read_text())["project"])

    @property
    def name(self) -> str:
        return str(self.project["name"])

    @property
    def package(self) -> str:
        """The package it is imported as."""
        (path,) = (self.folder / "src").glob("kvfs*")
        return path.name

    @property
    def stem(self) -> str:
        """How the wheel's file name begins."""
        return f"{self.name.replace('-', '_')}-{self.project['version']}"

    @property
    def drivers(self) -> set[tuple[str, str, str]]:
        """(kind, name, distribution) of its entry points."""
        groups = self.project.get("entry-points", {})
        return {
            (kind, name, self.name)
            for kind in ("kv", "backing", "frontend")
            for name in groups.get(f"kvfs.{kind}", {})
        }


MEMBERS = [Member.read(folder) for folder in FOLDERS]


def run(*command: str | Path, **environment: str) -> str:
    """What a command prints; it has to succeed."""
    done = subprocess.run(
        [os.fspath(part) for part in command],
        env={**os.environ, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(folder: Path, out: Path) -> None:
    """The wheel of one folder, with the build backend that is installed here."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, folder)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every member's wheel, by name of the distribution."""
    out = tmp_path_factory.mktemp("wheels")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda member: build(member.folder, out), MEMBERS))
    found = {}
    for member in MEMBERS:
        (found[member.name],) = out.glob(f"{member.stem}-*.whl")
    assert sorted(found.values()) == sorted(out.iterdir())
    return found


@attrs.frozen
class Installation:
    """A virtual environment of its own."""

    folder: Path

    def pip(self, *arguments: str | Path) -> str:
        """Run its pip."""
        pip = (self.folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
        return run(*pip, *arguments)

    def kvfs(self, *arguments: str | Path) -> str:
        """Run its ``kvfs``; caches and mounts go nowhere else."""
        place = {name: str(self.folder / "xdg") for name in ("XDG_CACHE_HOME", "XDG_RUNTIME_DIR")}
        return run(self.folder / "bin" / "kvfs", *arguments, **place)

    def drivers(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """What ``kvfs drivers`` lists, by kind, name and distribution."""
        listed = json.loads(self.kvfs("drivers", "--json"))
        return {(row["kind"], row["name"], row["distribution"]): row for row in listed}


@pytest.fixture(scope="module")
def installation(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A new environment in which pip has installed all the wheels."""
    made = Installation(tmp_path_factory.mktemp("venv"))
    (made.folder / "xdg").mkdir(mode=0o700)
    venv.create(made.folder, symlinks=True, with_pip=True)
    before = {row["name"] for row in json.loads(made.pip("list", "--format=json"))}
    assert before <= {"pip", "setuptools"}, "the environment is not empty"
    made.pip("install", "--quiet", "--no-compile", "--constraint", CONSTRAINTS, *wheels.values())
    return made


def test_every_folder_is_a_member() -> None:
    """A plugin's folder without a pyproject.toml would be built by nobody."""
    folders = {ROOT / "core"} | {
        path
        for path in ROOT.glob("plugins/*/*")
        if path.is_dir() and any(child.is_file() for child in path.rglob("*.py"))
    }
    assert folders == {*FOLDERS}
    assert len({member.name for member in MEMBERS}) == len(MEMBERS)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_wheel_holds_the_package_and_nothing_else(member: Member, wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels[member.name]) as archive:
        names = archive.namelist()
        metadata = message_from_string(archive.read(f"{member.stem}.dist-info/METADATA").decode())
        entry_points = ConfigParser(delimiters=("=",))
        if f"{member.stem}.dist-info/entry_points.txt" in names:
            text = archive.read(f"{member.stem}.dist-info/entry_points.txt").decode()
            entry_points.read_string(text)
    contents = {name for name in names if not name.startswith(f"{member.stem}.dist-info/")}
    sources = {
        path.relative_to(member.folder / "src").as_posix()
        for path in (member.folder / "src" / member.package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert contents == sources
    assert f"{member.package}/py.typed" in contents
    assert all(name.endswith((".py", "/py.typed")) for name in contents)
    assert metadata["Name"] == member.name
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_payload(), "the README is the long description"
    declared = {(kind, name) for kind, name, _ in member.drivers}
    built = {
        (section.removeprefix("kvfs."), name)
        for section in entry_points.sections()
        if section in ("kvfs.kv", "kvfs.backing", "kvfs.frontend")
        for name in entry_points[section]
    }
    assert built == declared


def test_installed_drivers_are_listed(installation: Installation) -> None:
    listed = installation.drivers()
    assert {*listed} == set().union(*(member.drivers for member in MEMBERS))
    assert [row for row in listed.values() if not row["ok"] or row["problem"]] == []


def test_version(installation: Installation) -> None:
    versions = {member.name: member.project["version"] for member in MEMBERS}
    expected = f"kvfs {versions['kvfs-frontend-cli']} (kvfs-core {versions['kvfs-core']})\n"
    assert installation.kvfs("--version") == expected


def test_declared_dependencies_are_enough(installation: Installation) -> None:
    """Every module of every package can be imported where only what it declares is installed."""
    packages = [member.package for member in MEMBERS]
    python = installation.folder / "bin" / "python"
    # ``-I``: neither this directory nor this environment lends a hand.
    imported = run(python, "-I", "-W", "error", "-c", dedent(IMPORT_ALL), *packages).split()
    assert len(imported) > 3 * len(packages)
    assert installation.pip("check").strip() == "No broken requirements found."


def _folder_with_a_tarball(folder: Path) -> Path:
    folder.mkdir()
    (folder / "hello.txt").write_text("hello\n")
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        archive.add(folder / "hello.txt", "dir/hello.txt")
    (folder / "hello.txt").unlink()
    return folder


def test_installed_command_reads_a_tarball(installation: Installation, tmp_path: Path) -> None:
    folder = _folder_with_a_tarball(tmp_path / "tarballs")
    assert installation.kvfs("ls", folder) == "a\n"
    assert installation.kvfs("cat", folder, "a/dir/hello.txt") == "hello\n"


BROKEN_PROJECT = """
    [build-system]
    requires = ["hatchling"]
    build-backend = "hatchling.build"
    [project]
    name = "kvfs-kv-broken"
    version = "4.5.6"
    [project.entry-points."kvfs.kv"]
    broken = "kvfs_kv_broken:DRIVER"
    vanished = "kvfs_kv_vanished:DRIVER"
    [project.entry-points."kvfs.hooks"]
    broken = "kvfs_kv_broken"
    [tool.hatch.build.targets.wheel]
    packages = ["kvfs_kv_broken"]
"""


def test_broken_plugin_is_named_and_harms_nobody(
    installation: Installation, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    (project / "kvfs_kv_broken").mkdir(parents=True)
    (project / "pyproject.toml").write_text(dedent(BROKEN_PROJECT))
    broken = 'raise ImportError("libbroken.so.7: cannot open shared object file")\n'
    (project / "kvfs_kv_broken" / "__init__.py").write_text(broken)
    build(project, tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    healthy = installation.drivers()
    installation.pip("install", "--quiet", "--no-deps", wheel)
    try:
        listed = installation.drivers()
        added = {key: row for key, row in listed.items() if key not in healthy}
        assert {key: listed[key] for key in healthy} == healthy
        assert {*added} == {
            ("kv", "broken", "kvfs-kv-broken"),
            ("kv", "vanished", "kvfs-kv-broken"),
        }
        for (_, name, _), row in added.items():
            assert not row["ok"]
            assert row["version"] == "4.5.6"
            reason = "libbroken.so.7" if name == "broken" else "kvfs_kv_vanished"
            assert reason in row["problem"]
        folder = _folder_with_a_tarball(tmp_path / "tarballs")
        assert installation.kvfs("cat", folder, "a/dir/hello.txt") == "hello\n"
    finally:
        installation.pip("uninstall", "--quiet", "--yes", "kvfs-kv-broken")
    assert installation.drivers() == healthy

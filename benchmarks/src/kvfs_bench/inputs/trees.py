"""Inputs that are not just files: a Python package, and a git repository."""

from __future__ import annotations

import compileall
import json
import os
import random
import shutil
from importlib.util import find_spec
from pathlib import Path

import attrs

from kvfs.errors import NotFound
from kvfs_bench import processes
from kvfs_bench.inputs.datasets import TARBALL, scaled
from kvfs_bench.scratch import Scratch

PACKAGE = "pygments"
"""Some hundred modules in pure Python, and a dependency of the CLI: it is always there."""
_OLD = 1_500_000_000
_PER_DIRECTORY = 100


@attrs.frozen(kw_only=True)
class Package:
    """A tarball of an importable package, with its compiled modules."""

    source: Path
    modules: list[str] = attrs.field(repr=False)

    @property
    def archive(self) -> Path:
        """The tarball."""
        return self.source / f"{TARBALL}.tar"

    def describe(self) -> dict[str, int]:
        """For the report."""
        return {"modules": len(self.modules), "archive_bytes": self.archive.stat().st_size}


def package(where: Scratch) -> Package:
    """The package, out of the Python that runs this.

    :raises NotFound: it is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise NotFound(f"the Python package {PACKAGE} is not installed")
    home = where.directory("package")
    tree = home / "tree"
    copy = tree / PACKAGE
    shutil.copytree(Path(spec.origin).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(copy, quiet=1)
    modules = [
        f"{PACKAGE}.{folder}.{path.stem}"
        for folder in ("lexers", "styles", "filters", "formatters")
        for path in sorted((copy / folder).glob("*.py"))
        if path.stem != "__init__"
    ]
    source = _pack(tree, home / "source")
    shutil.rmtree(tree)
    return Package(source=source, modules=modules)


@attrs.frozen(kw_only=True)
class Repository:
    """A tarball of a git work tree: everything committed, one file changed, one not tracked."""

    source: Path
    files: int
    status: bytes
    """What ``git status --porcelain`` says."""

    @property
    def archive(self) -> Path:
        """The tarball."""
        return self.source / f"{TARBALL}.tar"

    def describe(self) -> dict[str, int]:
        """For the report."""
        return {"files": self.files, "archive_bytes": self.archive.stat().st_size}


def repository(git: str, scale: float, where: Scratch) -> Repository:
    """A repository of 20,000 files at scale 1, packed as after a clone.

    Git compares sizes and whole seconds only, so that a copy of the tree, whose inode numbers
    differ, is not read again.
    """
    files = scaled(20_000, scale)
    home = where.directory("repository")
    tree = home / "tree"
    rng = random.Random(1)
    for number in range(files):
        path = tree / f"d{number // _PER_DIRECTORY:04}" / f"f{number:06}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number} " + rng.randbytes(rng.randrange(50, 500)).hex() + "\n")
        # Older than the index: else git reads the file to be sure.
        os.utime(path, (_OLD, _OLD))
    who = {"GIT_CONFIG_NOSYSTEM": "1", "HOME": str(home), "PATH": os.environ.get("PATH", "")}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": "bench", f"GIT_{role}_EMAIL": "bench@localhost"}
    for words in (
        "init -q",
        "config core.checkStat minimal",
        "config core.trustctime false",
        "config gc.auto 0",
        "add -A",
        "commit -q -m everything",
        "repack -q -a -d",
    ):
        processes.run([git, "-C", tree, *words.split()], env=who)
    changed = tree / "d0000" / "f000000"
    with changed.open("a") as file:
        file.write("changed\n")
    (tree / "new").write_text("not tracked\n")
    source = _pack(tree, home / "source")
    shutil.rmtree(tree)
    return Repository(source=source, files=files, status=b" M d0000/f000000\n?? new\n")


def _pack(tree: Path, source: Path) -> Path:
    source.mkdir()
    names = sorted(path.name for path in tree.iterdir())
    processes.run(["tar", "-C", tree, "-cf", source / f"{TARBALL}.tar", "--", *names])
    return source


def import_script(made: Package, path: Path) -> None:
    """Write a program that imports every module below its argument, and prints how many.

    It sees nothing but the standard library and that directory.
    """
    path.write_text(
        "import importlib, json, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        f"names = json.loads({json.dumps(json.dumps(made.modules))})\n"
        "found = [importlib.import_module(name) for name in names]\n"
        "print(sum(module.__file__.startswith(sys.argv[1] + '/') for module in found))\n"
    )

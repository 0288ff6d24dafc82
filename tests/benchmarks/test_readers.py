"""The readers find the same, in any order, by any number of processes, and notice any damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvfs_bench.readers import compiled, inprocess, plain
from kvfs_bench.readers.words import MASK, words_of

Reader = list[str | Path]


@pytest.fixture(scope="session")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    """Command lines, by name; the compiled one where there is a compiler."""
    found: dict[str, Reader] = {"python": [sys.executable, "-m", plain.__name__]}
    built = compiled.build(compiled.READER, tmp_path_factory.mktemp("reader"))
    if built.path is not None:
        found["compiled"] = [built.path]
    return found


def read(reader: Reader, *words: str | Path) -> dict[str, Any]:
    """What a reader reports."""
    done = subprocess.run([*reader, *words], capture_output=True, check=True, timeout=60)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _tree(root: Path) -> dict[str, bytes]:
    """Files of sizes around those of words and buffers, in directories and in the root."""
    sizes = [0, 1, 7, 8, 9, 4095, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 300_001]
    tree = {
        f"{('', 'd/', 'e/', 'e/deep/')[number % 4]}f{number}": bytes([255 - number]) * size
        for number, size in enumerate([*sizes, *range(20)])
    }
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tree


def test_walks_and_lists_find_the_same_by_any_number_of_processes(
    readers: dict[str, Reader], tmp_path: Path
) -> None:
    root = tmp_path / "tree"
    tree = _tree(root)
    names = tmp_path / "names"
    names.write_bytes(b"".join(name.encode() + b"\0" for name in reversed(tree)))
    expected = {
        "python": sum(plain.digest_of(name.encode(), content) for name, content in tree.items()),
        "compiled": sum(words_of(name.encode(), content) for name, content in tree.items()),
    }
    orders: list[list[str | Path]]
    for name, reader in readers.items():
        orders = [["walk", root, count] for count in ("1", "3", "40")]
        orders += [["list", root, count, names] for count in ("1", "8")]
        for words in orders:
            found = read(reader, *words)
            assert found["files"] == len(tree), (name, words)
            assert found["bytes"] == sum(map(len, tree.values()))
            assert found["digest"] == expected[name] & MASK
            assert found["wall_s"] > 0


@pytest.mark.parametrize("damage", ["another byte", "swapped contents", "moved bytes", "longer"])
def test_the_digest_notices(readers: dict[str, Reader], tmp_path: Path, damage: str) -> None:
    root = tmp_path / "tree"
    _tree(root)
    one, two = root / "d" / "f5", root / "e" / "f6"
    before = {name: read(reader, "walk", root, "1")["digest"] for name, reader in readers.items()}
    content = one.read_bytes()
    if damage == "swapped contents":
        one.write_bytes(two.read_bytes())
        two.write_bytes(content)
    elif damage == "longer":
        one.write_bytes(content + b"x")
    elif damage == "moved bytes":
        one.write_bytes(b"\xff" + content[:-1])
    else:
        with one.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x01")
    for name, reader in readers.items():
        assert read(reader, "walk", root, "1")["digest"] != before[name], name


def test_a_reader_that_fails_says_so(readers: dict[str, Reader], tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_bytes(b"absent\0absent-too\0")
    for reader in readers.values():
        done = subprocess.run(
            [*reader, "list", tmp_path, "2", names], capture_output=True, timeout=30, check=False
        )
        assert done.returncode == 1
        assert b"absent" in done.stderr
        assert done.stdout == b""


def test_without_a_mount_the_same_is_found(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    tree = _tree(tmp_path / "tree")
    subprocess.run(["tar", "-C", tmp_path, "-cf", source / "a.tar", "tree"], check=True)
    config = tmp_path / "volume.toml"
    config.write_text(
        f'[kv]\ndriver = "lmdb"\npath = "{tmp_path}/cache"\n'
        f'[backing]\ndriver = "posix"\npath = "{source}"\n'
    )
    ingest: Reader = [sys.executable, "-m", "kvfs_frontend_cli", "ingest", config, "--all"]
    subprocess.run(ingest, check=True, capture_output=True, timeout=60)
    reader: Reader = [sys.executable, "-m", inprocess.__name__, config, "a/tree"]
    plainly = read([sys.executable, "-m", plain.__name__], "walk", tmp_path / "tree", "1")
    names = tmp_path / "names"
    names.write_bytes(b"".join(name.encode() + b"\0" for name in tree))
    for words in (["walk", "1", "1"], ["walk", "3", "2"], ["list", "2", "1", names]):
        found = read(reader, *words)
        assert (found["files"], found["digest"]) == (plainly["files"], plainly["digest"])
    assert read(reader, "find", "1", "1")["files"] == len(tree) + 3

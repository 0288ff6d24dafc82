"""Any sequence of operations on a writable tree, over every engine that is installed."""

from __future__ import annotations

from pathlib import Path

from kvfs.registry import find
from kvfs.testing.files_machine import run_files_machine
from kvfs.testing.places import Place
from kvfs.volume import Volume, from_tables

from .folders import pack

EXAMPLES = 2
STEPS = 20


def test_any_sequence_of_operations(place: Place) -> None:
    def open_volume(name: str) -> Volume:
        tables = {"kv": place.table(name), "volume": {"durability": "process"}}
        # Names of few hash bits collide.
        return Volume(from_tables(tables, where="a test"), hash_bits=2)

    run_files_machine(open_volume, reopens=_reopens(place), examples=EXAMPLES, steps=STEPS)


def test_any_sequence_of_operations_inside_a_tarball(place: Place, tmp_path: Path) -> None:
    files = {"a/a": b"small", "a/b": bytes(range(256)) * 1200, "c": b"", "b/c/d": b"x" * 5000}
    pack(tmp_path / "tarball.tar", files)
    objects = tmp_path / "objects"
    (objects / "dir").mkdir(parents=True)
    (tmp_path / "tarball.tar").rename(objects / "dir/tarball.tar")

    def open_volume(name: str) -> Volume:
        tables = {
            "kv": place.table(f"inside-{name}"),
            "backing": {"driver": "posix", "path": str(objects)},
            "volume": {"durability": "process", "writable": True},
        }
        volume = Volume(from_tables(tables, where="a test"), hash_bits=2)
        volume.refresh()
        return volume

    run_files_machine(
        open_volume,
        reopens=_reopens(place),
        top=b"dir/tarball",
        examples=1,
        steps=STEPS,
    )


def _reopens(place: Place) -> bool:
    """Does a volume of this engine outlive its process?"""
    return getattr(find("kv", place.driver).capability, "persistent", True)

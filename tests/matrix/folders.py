"""A folder of tarballs of all that a directory can hold, and what GNU tar makes of them."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import attrs

SMALL_FILES = 2500
SPARSE_BYTES = 300_000
NAMES = (b"\xff\xfe binary", b"new\nline", b"n" * 255, b"-rf", b" ", b"\\", "gr\u00fcn".encode())
XATTRS = ("--xattrs", "--xattrs-include=*")


@attrs.frozen
class Folder:
    """Tarballs, and each of them unpacked."""

    path: Path
    unpacked: Path
    objects: tuple[str, ...]

    def linked(self, to: Path) -> Path:
        """A folder of one's own with the same tarballs."""
        to.mkdir()
        for name in self.objects:
            (to / name).hardlink_to(self.path / name)
        return to


def shown(name: str) -> str:
    """The directory that a tarball appears as."""
    return name.partition(".tar")[0]


def make_folder(scratch: Path) -> Folder:
    """Make it, with some 3,000 members."""
    folder = Folder(scratch / "folder", scratch / "unpacked", ("every.tar", "many.tar.gz"))
    folder.path.mkdir()
    _make_everything(scratch / "every")
    _make_many(scratch / "many")
    for name in folder.objects:
        _tar("-caf", folder.path / name, "--format=pax", "-C", scratch / shown(name), ".")
        (folder.unpacked / shown(name)).mkdir(parents=True)
        _tar("-xpf", folder.path / name, "-C", folder.unpacked / shown(name))
    return folder


def pack(archive: Path, files: dict[str, bytes]) -> None:
    """A tarball of these files, at once in its place."""
    tree = archive.with_suffix(".tree")
    for name, data in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    draft = archive.with_suffix(".draft")
    _tar("-cf", draft, "--sort=name", "-C", tree, ".")
    draft.replace(archive)


def _make_everything(root: Path) -> None:
    root.mkdir()
    names = root / "names"
    names.mkdir()
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(names) + b"/" + name)).write_bytes(name)
    below = Path(root, *["d" * 200] * 10)
    below.mkdir(parents=True)
    (below / "far below").write_bytes(b"far")
    (root / "large").write_bytes(os.urandom(SPARSE_BYTES))
    with (root / "sparse").open("wb") as sparse:
        sparse.write(b"data")
        sparse.seek(SPARSE_BYTES - 4)
        sparse.write(b"data")
    (root / "empty").touch()
    (root / "secret").write_bytes(b"s")
    (root / "secret").chmod(0o4700)
    os.chown(root / "empty", 1000, 4_000_000_000)
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to("names")
    (root / "dangling").symlink_to("/no/such/" + "place" * 30)
    (root / "hard").hardlink_to(root / "large")
    for path in (root, names, root / "large", root / "empty"):
        os.setxattr(path, "user.name", os.fsencode(path.name) + b"\0\xff")
    os.utime(root / "empty", ns=(1, -1_234_567_890_123_456_789))


def _make_many(root: Path) -> None:
    rng = random.Random(4)
    for number in range(SMALL_FILES):
        path = root / f"d{number % 17}" / f"e{number % 5}" / f"{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice((0, 10, 300, 5_000))))
        if number % 10 == 0:
            (path.parent / f"hard {number}").hardlink_to(path)


def _tar(*words: object) -> None:
    options = ["--numeric-owner", "--warning=no-timestamp", *XATTRS]
    subprocess.run(["tar", *options, *map(str, words)], check=True, capture_output=True)

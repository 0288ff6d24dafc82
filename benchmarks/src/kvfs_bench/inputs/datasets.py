"""The inputs by name, made when they are first needed."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from array import array
from pathlib import Path

import attrs

from kvfs.errors import Corrupt
from kvfs_bench.inputs.generate import END_OF_ARCHIVE, Shape, contents, file_member, write_tar
from kvfs_bench.readers.plain import MASK, digest_of
from kvfs_bench.scratch import Scratch

TARBALL = "data"
"""What the one tarball of a dataset is called, and so the directory that it appears as."""
_FORMAT = 2
_TINY_BYTES = 48


def scaled(count: int, scale: float) -> int:
    """``count`` at a scale, at least 1."""
    return max(round(count * scale), 1)


def small_files(scale: float) -> Shape:
    """100,000 files of 1-64 KiB, 1.55 GB, in directories of 200."""
    files = scaled(100_000, scale)
    return Shape(
        files=files, directories=scaled(files, 1 / 200), bytes_min=1 << 10, bytes_max=64 << 10
    )


def tree(files: int) -> Shape:
    """Files of 1-4 KiB in directories of 100: 500,000 files are in 5,000 directories."""
    return Shape(
        files=files, directories=scaled(files, 1 / 100), bytes_min=1 << 10, bytes_max=4 << 10
    )


def flat(files: int) -> Shape:
    """Files of 16-64 bytes, all in one directory."""
    return Shape(files=files, directories=0, bytes_min=16, bytes_max=64)


def empty(files: int) -> Shape:
    """Empty files, all in one directory: for listings."""
    return Shape(files=files, directories=0, bytes_min=0, bytes_max=0)


@attrs.frozen(kw_only=True)
class Dataset:
    """One tarball in a folder of its own, and what reading it has to give."""

    source: Path
    """The folder to mount."""
    files: int
    directories: int
    content_bytes: int
    """Of all contents together."""
    digest: int
    """What readers/plain.py finds over all files."""
    words: int
    """What native/reader.c finds."""
    names: list[bytes] = attrs.field(repr=False)
    digests: array[int] = attrs.field(repr=False)

    @property
    def entries(self) -> int:
        """Files and directories, the root not counted."""
        return self.files + self.directories

    @property
    def archive(self) -> Path:
        """The tarball."""
        return self.source / f"{TARBALL}.tar"

    def describe(self) -> dict[str, int]:
        """For the report."""
        return {
            "files": self.files,
            "directories": self.directories,
            "content_bytes": self.content_bytes,
            "archive_bytes": self.archive.stat().st_size,
        }

    def shuffled(self, path: Path, *, seed: int, count: int | None = None) -> tuple[int, int]:
        """Write names in random order to ``path``, for the reader.

        :param count: how many, each at most once; all by default.
        :returns: how many, and the digest over these files.
        """
        order = random.Random(seed).sample(range(self.files), min(count or self.files, self.files))
        path.write_bytes(b"".join([self.names[number] + b"\0" for number in order]))
        return len(order), sum(self.digests[number] for number in order) & MASK


def dataset(shape: Shape, where: Scratch) -> Dataset:
    """The dataset of a shape, out of the cache or made now."""
    text = f"{_FORMAT} {shape!r}"
    home = where.datasets / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not (home / "manifest.json").exists():
        where.require(shape.archive_bytes, f"an archive of {shape.files:,} files")
        _make(shape, home)
    manifest = json.loads((home / "manifest.json").read_bytes())
    digests = array("Q")
    digests.frombytes((home / "digests").read_bytes())
    return Dataset(
        source=home / "source",
        names=(home / "names").read_bytes().split(b"\0")[:-1],
        digests=digests,
        **manifest,
    )


def _make(shape: Shape, home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    (home / "source").mkdir(parents=True)
    with (home / "source" / f"{TARBALL}.tar").open("wb", buffering=1 << 20) as out:
        written = write_tar(shape, out)
    (home / "names").write_bytes(b"".join([name + b"\0" for name in written.names]))
    (home / "digests").write_bytes(written.digests.tobytes())
    manifest = {
        "files": written.files,
        "directories": written.directories,
        "content_bytes": written.content_bytes,
        "digest": written.digest,
        "words": written.words,
    }
    # Written last: a dataset without it is made anew.
    (home / "manifest.json").write_text(json.dumps(manifest))


def sorted_names(made: Dataset, path: Path) -> None:
    """Write all names in the order of their bytes to ``path``, for the readers."""
    path.write_bytes(b"".join([name + b"\0" for name in sorted(made.names)]))


def forget(made: Dataset) -> None:
    """Remove a dataset from the cache."""
    shutil.rmtree(made.source.parent)


@attrs.frozen(kw_only=True)
class TarballFolder:
    """A folder of tiny tarballs, each of one file ``file``."""

    source: Path
    tarballs: int
    seed: int

    def name(self, number: int) -> str:
        """What tarball ``number`` appears as."""
        return f"t{number:06}"

    def digest(self, numbers: list[int]) -> int:
        """The digest over the files of these tarballs, read below the mount."""
        make = contents(self.seed)
        total = 0
        for number in numbers:
            path = f"{self.name(number)}/file".encode()
            total += digest_of(path, make(number, _TINY_BYTES))
        return total & MASK


def tarball_folder(tarballs: int, where: Scratch, *, seed: int = 1) -> TarballFolder:
    """A folder of tarballs of 2 KiB, made now, in the work directory."""
    # A block of the disk, an inode and a name each.
    where.require(tarballs * 4608, f"a folder of {tarballs:,} tarballs")
    source = where.directory("tarballs")
    folder = TarballFolder(source=source, tarballs=tarballs, seed=seed)
    make = contents(seed)
    for number in range(tarballs):
        member = file_member("file", make(number, _TINY_BYTES))
        (source / f"{folder.name(number)}.tar").write_bytes(member + END_OF_ARCHIVE)
    if len({*source.iterdir()}) != tarballs:
        raise Corrupt(f"{source} does not hold {tarballs:,} tarballs")
    return folder

"""Tarballs of a shape, and what they hold."""

from __future__ import annotations

import math
import os
import shutil
import tarfile
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from random import Random

import attrs

from kvfs_bench.inputs.datasets import TARBALL
from kvfs_bench.inputs.generate import END_OF_ARCHIVE, contents
from kvfs_bench.scratch import Scratch
from kvfs_bench.size.design import Shape

ARCHIVE = f"{TARBALL}.tar"
_SPREAD = 1.2
"""Of the logarithm of sizes, as in file systems that were looked at (Agrawal et al., A Five-Year
Study of File-System Metadata, 2007, find more; then one file would decide about all bytes)."""
_BYTES_MAX = 3 << 20
_LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789-_"
_NUMBER = 7
"""Digits by which names differ."""
_MTIME = 1_600_000_000


@attrs.frozen(kw_only=True)
class Input:
    """A folder with one tarball."""

    source: Path
    files: int
    directories: int
    name_bytes: int
    """Of the names of files and directories."""
    sizes: array[int] = attrs.field(repr=False)
    """Of the files."""

    @property
    def content_bytes(self) -> int:
        """Of all files together."""
        return sum(self.sizes)

    def extents(self, *, inline_bytes: int, extent_bytes: int) -> int:
        """Pieces of files of more than ``inline_bytes``, each of ``extent_bytes`` but the last."""
        return sum(-(-size // extent_bytes) for size in self.sizes if size > inline_bytes)


def sizes_of(shape: Shape) -> array[int]:
    """The sizes of its files, log-normal, with very nearly the mean of the shape."""
    if not shape.mean_bytes:
        return array("Q", [0]) * shape.files
    rng = Random(f"{shape.seed}/sizes/{shape.mean_bytes}")
    middle = math.log(shape.mean_bytes) - _SPREAD**2 / 2
    drawn = (rng.lognormvariate(middle, _SPREAD) for _ in range(shape.files))
    return array("Q", [min(round(size), _BYTES_MAX) for size in drawn])


def archive_bytes(shape: Shape) -> int:
    """About how large its archive is."""
    return shape.files * (shape.mean_bytes + 1024 + (1536 if shape.name_bytes > 75 else 0))


def make(shape: Shape, where: Scratch) -> Input:
    """The tarball of a shape, made where it is not there yet."""
    name = "-".join(map(str, attrs.astuple(shape)))
    source = where.datasets / f"size-{name}"
    path = source / ARCHIVE
    is_there = path.exists()
    if not is_there:
        source.mkdir(parents=True)
    sizes, name_bytes, directories = sizes_of(shape), 0, 0
    body = contents(shape.seed)
    with (source / "data.part").open("wb", buffering=1 << 20) as out:
        for number, (directory, base) in enumerate(_names(shape)):
            if number % shape.per_directory == 0:
                directories += 1
                name_bytes += len(directory)
                if not is_there:
                    out.write(_header(directory, None))
            name_bytes += len(base)
            if not is_there:
                size = sizes[number]
                out.write(_header(f"{directory}/{base}", size))
                out.write(body(number, size) + bytes(-size % 512))
        out.write(END_OF_ARCHIVE)
    if is_there:
        (source / "data.part").unlink()
    else:
        (source / "data.part").rename(path)
    return Input(
        source=source,
        files=shape.files,
        directories=directories,
        name_bytes=name_bytes,
        sizes=sizes,
    )


def _names(shape: Shape) -> Iterator[tuple[str, str]]:
    """The directory and the name of each file."""
    rng = Random(f"{shape.seed}/names/{shape.name_bytes}")
    spread = shape.name_bytes // 4
    for number in range(shape.files):
        directory = f"d{number // shape.per_directory:06}"
        length = shape.name_bytes + rng.randint(-spread, spread)
        filling = bytes(rng.choices(_LETTERS, k=max(length - _NUMBER, 0))).decode()
        yield directory, f"{filling}{number:0{_NUMBER}}"


def _header(name: str, size: int | None) -> bytes:
    """Of a file, or (``size`` is ``None``) of a directory."""
    info = tarfile.TarInfo(name)
    info.mtime = _MTIME
    if size is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    else:
        info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def standard_library(where: Scratch) -> Input:
    """Python's standard library: its files but the compiled ones, and what was installed."""
    root = Path(os.__file__).parent
    source = where.datasets / "size-real"
    if source.exists():
        shutil.rmtree(source)
    source.mkdir(parents=True)
    sizes, name_bytes, directories = array("Q"), 0, 0
    with tarfile.open(source / ARCHIVE, "w", format=tarfile.GNU_FORMAT) as archive:
        for folder, below, names in os.walk(root):
            below[:] = [name for name in sorted(below) if _is_source(name)]
            if Path(folder) != root:
                archive.add(folder, Path(folder).relative_to(root), recursive=False)
                directories += 1
                name_bytes += len(os.fsencode(Path(folder).name))
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    # A copy: no hard links, whatever the installer did.
                    info = archive.gettarinfo(path, str(path.relative_to(root)))
                    info.type, info.size = tarfile.REGTYPE, path.stat().st_size
                    with path.open("rb") as file:
                        archive.addfile(info, file)
                    sizes.append(info.size)
                    name_bytes += len(os.fsencode(name))
    return Input(
        source=source,
        files=len(sizes),
        directories=directories,
        name_bytes=name_bytes,
        sizes=sizes,
    )


def compressibility(made: Input) -> float:
    """What is left of its archive when zlib is quick about it, as a part."""
    packer, packed, whole = zlib.compressobj(1), 0, 0
    with (made.source / ARCHIVE).open("rb") as file:
        while block := file.read(1 << 20):
            whole += len(block)
            packed += len(packer.compress(block))
    return (packed + len(packer.flush())) / whole


def tarballs(count: int, where: Path) -> Path:
    """A folder of so many tarballs of one tiny file each."""
    where.mkdir(parents=True)
    member = _header("file", 5) + b"tiny\n" + bytes(507) + END_OF_ARCHIVE
    for number in range(count):
        (where / f"t{number:06}.tar").write_bytes(member)
    return where


def _is_source(name: str) -> bool:
    return name not in ("site-packages", "__pycache__") and not name.startswith("config-")

"""Real tarballs of everything, and GNU tar, which says what they mean."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sysconfig
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import attrs

SECOND = 10**9
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ["PATH"], "HOME": "/nonexistent"}
XATTRS = ("--xattrs", "--xattrs-include=*")
LIBRARIES_MAX = 3000


@attrs.frozen(kw_only=True)
class Archive:
    """A tarball of the folder that is mounted."""

    file: str
    """Its name there."""
    lists_root: bool = True
    """It has a member ``./``, so what it says of its root can be compared."""
    whole: bool = True
    """Its format can hold everything that was given to tar."""
    least: int
    """So many files are in it at the least."""

    @property
    def shown(self) -> str:
        """The directory that it appears as."""
        return self.file.partition(".tar")[0]


def run(*words: str | bytes | Path, cwd: Path | None = None, check: bool = True) -> str:
    """Run a program; what it printed."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, check=False, env=ENVIRONMENT)
    assert not check or done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.decode("utf-8", "surrogateescape")


def unpack(archive: Path, into: Path) -> None:
    """Unpack with GNU tar as faithfully as it can."""
    into.mkdir(parents=True)
    run("tar", "--numeric-owner", "-xpf", archive, "-C", into, *XATTRS)


def fill(path: Path, data: bytes, mtime_ns: int = SECOND, mode: int = 0o644) -> None:
    """Write a file with its time and mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def own(path: Path, uid: int, gid: int) -> None:
    """Give a file away, with its mode as it was."""
    mode = os.lstat(path).st_mode
    os.chown(path, uid, gid, follow_symlinks=False)
    if not stat.S_ISLNK(mode):
        path.chmod(stat.S_IMODE(mode))  # chown takes the set-id bits away


def make_tree(root: Path) -> None:
    """One of everything that a directory can hold."""
    root.mkdir(parents=True)
    _make_files(root)
    _make_names(root / "names")
    _make_links(root)
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 65_539))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{(fd := os.open(root, os.O_PATH))}/socket")
        os.close(fd)
    own(root / "setuid", 4_294_967_294, 4_000_000_000)
    own(root / "a", 1000, 2_097_151)
    own(root / "link", 7, 8)
    own(root / "fifo", 65_534, 65_534)
    for name, value in (("user.plain", b"value"), ("user.empty", b""), ("user.a=b%", b"\0\n=\xff")):
        for path in (root, root / "a", root / "a/b/c/deep", root / "large"):
            os.setxattr(path, name, value)
    os.setxattr(root / "link", "trusted.link", b"of a link", follow_symlinks=False)
    for directory in ("a/b/c", "a/b", "many", "."):
        os.utime(root / directory, ns=(9, 981_765_432_123_456_789))


def _make_files(root: Path) -> None:
    fill(root / "empty", b"", 5 * SECOND)
    fill(root / "inline", b"x" * 4000, 1_700_000_000 * SECOND + 123_456_789)
    fill(root / "large", os.urandom(300_001), 1_000_000_000_000_000_001, 0o600)
    fill(root / "before the epoch", b"", -1_234_567_890_123_456_789)
    fill(root / "setuid", b"#!", SECOND, 0o4755)
    fill(root / "setgid", b"#!", SECOND, 0o2711)
    fill(root / "none", b"secret", SECOND, 0o000)
    fill(root / "a/b/c/deep", b"deep", SECOND - 1)
    for number in range(300):
        fill(root / f"many/{number}", b"%d" % number, number * SECOND)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "nothing in it").mkdir(0o500)
    for name, segments in (
        ("hole in the middle", [(0, 4096), (1_200_128, 8192)]),
        ("hole at the end", [(0, 4096)]),
        ("all hole", []),
    ):
        with open(root / name, "wb") as out:
            for offset, length in segments:
                out.seek(offset)
                out.write(os.urandom(length))
            out.truncate(1_765_432)


def _make_names(root: Path) -> None:
    root.mkdir()
    names = [
        b"\xff\xfe binary",
        b"new\nline",
        b"n" * 255,
        "gr\u00fcn".encode(),
        b"-rf",
        b" ",
        b"\\",
    ]
    for name in [*names, b"\x01\x7f", b"'\"", b"a" * 100, b"b" * 101]:
        fill(Path(os.fsdecode(os.fsencode(root) + b"/" + name)), name)
    fill(Path(root, *["d" * 200] * 10, "far below"), b"far")


def _make_links(root: Path) -> None:
    (root / "link").symlink_to("a/b")
    (root / "dangling").symlink_to("/no/such/" + "place" * 30)
    os.utime(root / "link", ns=(3, 3), follow_symlinks=False)
    (root / "hard").mkdir()
    (root / "hard/2").hardlink_to(root / "inline")
    (root / "hard/1").hardlink_to(root / "large")
    (root / "hard/3").hardlink_to(root / "large")
    os.link(root / "link", root / "hard/symlink", follow_symlinks=False)


# -- the folder ------------------------------------------------------------------------------------


def make_folder(folder: Path, scratch: Path) -> list[Archive]:
    """Fill a folder with tarballs of every kind; what they are."""
    folder.mkdir()
    tree = scratch / "tree"
    make_tree(tree)
    made = [*_formats(folder, tree), *_compressions(folder, tree), *_sparse(folder, tree)]
    made += [_library(folder), _shared_objects(folder, scratch)]
    made += [_written_by_python(folder), _written_by_git(folder, scratch)]
    return made


def _pack(archive: Path, tree: Path, *options: str, whole: bool = True) -> None:
    words = ["--warning=no-file-ignored", "--exclude=./socket", *options, "-cf", str(archive)]
    run("tar", *words, "-C", tree, ".", check=whole)


def _formats(folder: Path, tree: Path) -> Iterator[Archive]:
    # The old formats cannot hold all of it: tar says so, leaves it out, and goes on.
    for format_ in ("v7", "oldgnu", "gnu", "ustar", "pax"):
        whole = format_ in ("oldgnu", "gnu", "pax")
        options = XATTRS if format_ == "pax" else ()
        _pack(folder / f"{format_}.tar", tree, f"--format={format_}", *options, whole=whole)
        yield Archive(file=f"{format_}.tar", whole=whole, least=330)


def _compressions(folder: Path, tree: Path) -> Iterator[Archive]:
    for program, suffix in (("gzip", "gz"), ("zstd", "zst"), ("xz", "xz"), ("bzip2", "bz2")):
        file = f"{program}.tar.{suffix}"
        _pack(folder / file, tree, "--format=pax", f"--use-compress-program={program}", *XATTRS)
        yield Archive(file=file, least=330)


def _sparse(folder: Path, tree: Path) -> Iterator[Archive]:
    (folder / "below" / "sparse").mkdir(parents=True)
    for version in ("gnu", "0.0", "0.1", "1.0"):
        options = ["--format=gnu"]
        if version != "gnu":
            options = ["--format=pax", f"--sparse-version={version}", *XATTRS]
        file = f"below/sparse/{version}.tar"
        _pack(folder / file, tree, "--sparse", *options)
        yield Archive(file=file, least=330)


def _library(folder: Path) -> Archive:
    """The standard library of the Python that runs this."""
    library = Path(sysconfig.get_paths()["stdlib"])
    excluded = [
        f"--exclude={name}" for name in ("site-packages", "dist-packages", "test", "idlelib")
    ]
    run(
        "tar",
        *excluded,
        "--zstd",
        "-cf",
        folder / "library.tar.zst",
        "-C",
        library.parent,
        library.name,
    )
    return Archive(file="library.tar.zst", lists_root=False, least=500)


def _shared_objects(folder: Path, scratch: Path) -> Archive:
    """The machine's shared libraries, but for the big ones: symbolic links, mostly."""
    directory = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    candidates = (Path("/usr/lib", sysconfig.get_config_var("MULTIARCH") or "."), directory)
    place = next(path for path in candidates if path.is_dir())
    listed = run(
        "find", ".", "-maxdepth", "2", "(", "-type", "l", "-o", "-size", "-100k", ")", "-print0",
        cwd=place,
    )  # fmt: skip
    # What is in a directory right behind it: GNU tar gives a directory that it has left its time.
    names = sorted((name for name in listed.split("\0") if name not in ("", ".")), key=_by_part)
    (scratch / "names").write_bytes(os.fsencode("\0".join(islice(names, LIBRARIES_MAX))))
    run(
        "tar", "--zstd", "--no-recursion", "--null", "-T", scratch / "names",
        "-cf", folder / "objects.tar.zst",
        cwd=place,
    )  # fmt: skip
    return Archive(file="objects.tar.zst", lists_root=False, least=20)


def _by_part(name: str) -> list[str]:
    return name.split("/")


def _written_by_python(folder: Path) -> Archive:
    """As sdists are made: by the standard library's tarfile, names and owners and all."""

    def strip(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid, member.uname = 1000, "builder"
        return member

    library = Path(sysconfig.get_paths()["stdlib"])
    with tarfile.open(folder / "sdist-1.0.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as out:
        out.add(library / "json", "sdist-1.0", filter=strip, recursive=False)
        for name in ("json", "asyncio", "email"):
            out.add(library / name, f"sdist-1.0/{name}", filter=strip)
    return Archive(file="sdist-1.0.tar.gz", lists_root=False, least=50)


def _written_by_git(folder: Path, scratch: Path) -> Archive:
    """By git archive, with its global header."""
    repository = make_repository(scratch / "repository")
    run("git", "archive", "--prefix=top/", "-o", folder / "git.tar", "HEAD", cwd=repository)
    return Archive(file="git.tar", lists_root=False, least=20)


def make_repository(path: Path) -> Path:
    """A git repository of some size: a package of the standard library in three commits."""
    library = Path(sysconfig.get_paths()["stdlib"])
    run("git", "init", "-q", "-b", "main", path)
    identity = ["-c", "user.name=A U Thor", "-c", "user.email=author@example.org"]
    for name in ("json", "logging", "email"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(library / name, path / "source" / name, ignore=ignored)
        run("git", "add", "-A", cwd=path)
        run("git", *identity, "commit", "-q", "-m", f"add {name}", cwd=path)
    return path

"""``make demo``: real tarballs, mounted, with ordinary programs run over them.

Every program runs over the mount and over the same tarballs unpacked by tar, and has to give the
same answer.  The figures are what one run on this machine happened to take, with the unpacked tree
in the page cache; the careful ones are in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from pathlib import Path

import attrs
from rich.console import Console
from rich.table import Table

SOURCES = (
    "django==5.2.8",
    "sympy==1.14.0",
    "fonttools==4.60.1",
    "sphinx==8.2.3",
    "babel==2.17.0",
    "setuptools==80.9.0",
)
"""Source distributions of many small files, whose names the package index knows."""
DOWNLOAD_DEADLINE_S = 45
HERE = Path(__file__).resolve().parent.parent
KVFS = Path(sys.executable).parent / "kvfs"
console = Console(highlight=False)


def say(text: str) -> None:
    console.print(f"[bold]>[/bold] {text}")


# -- input -------------------------------------------------------------------------------------


def download(where: Path) -> list[Path]:
    """The source distributions that arrive before the deadline."""
    running = []
    for number, source in enumerate(SOURCES):
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
        command += ["--no-deps", "--no-binary", ":all:", "-d", str(where / str(number)), source]
        running.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
    deadline = time.monotonic() + DOWNLOAD_DEADLINE_S
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return sorted(where.glob("*/*.tar.gz"))


def pack_python(where: Path) -> list[Path]:
    """Tarballs of the Python installation this runs on, and of what is installed beside it."""
    made = []
    trees = (
        ("python-stdlib", Path(sysconfig.get_path("stdlib"))),
        ("python-packages", Path(sysconfig.get_path("purelib"))),
    )
    for name, tree in trees:
        target = where / f"{name}.tar"
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(tree, arcname=tree.name, filter=_not_installed_elsewhere)
        made.append(target)
    return made


def _not_installed_elsewhere(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = member.name.split("/")[1:]
    skipped = "site-packages" in parts or "dist-packages" in parts or "__pycache__" in parts
    return None if skipped or member.name.endswith(".a") else member


def gather(tarballs: Path, *, offline: bool) -> None:
    scratch = tarballs.parent / "download"
    scratch.mkdir()
    found = [] if offline else download(scratch)
    if found:
        say(f"{len(found)} source distributions fetched by package name")
    else:
        say("no network: tarballs of the Python installation only")
    for path in found:
        path.rename(tarballs / path.name)
    pack_python(tarballs)
    shutil.rmtree(scratch)


# -- programs ----------------------------------------------------------------------------------


@attrs.frozen
class Program:
    """A shell command that is run in a tree."""

    title: str
    command: str


@attrs.frozen
class Outcome:
    """What a program printed, and how long it took."""

    answer: str
    seconds: float


def programs() -> list[Program]:
    # Directories that a tarball does not list have the time of unpacking, so their times are left
    # out of the comparison; all else of every member counts, nanoseconds and all.
    tar = (
        "tar --sort=name --numeric-owner --owner=0 --group=0 --format=posix"
        " --pax-option=exthdr.name=%d/%f,delete=atime,delete=ctime"
    )
    files = "find . ! -type d -print0 | LC_ALL=C sort -z"
    python = shlex.quote(sys.executable)
    return [
        Program("find | wc -l", "find . -mindepth 1 | wc -l"),
        Program("find -size +8k | wc -l", "find . -type f -size +8k | wc -l"),
        Program("grep -r 'import os' | wc -l", "grep -rI 'import os' . | wc -l"),
        Program(
            "python: import from inside",
            "cd python-stdlib/*/ && "
            f'{python} -IB -c \'import sys; sys.path.insert(0, "."); '
            "import json.tool, email.message, unittest.mock, xml.dom.minidom, ctypes; "
            'print(len([m for m in sys.modules.values() if getattr(m, "__file__", None)]))\'',
        ),
        Program(
            "tar c | sha256sum",
            f"{files} | {tar} --null --no-recursion -T - -cf - | sha256sum | cut -c1-16",
        ),
    ]


def run(program: Program, tree: Path) -> Outcome:
    start = time.perf_counter()
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program.command}"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"demo: {program.title} failed in {tree}:\n{done.stderr}")
    return Outcome(done.stdout.strip(), seconds)


def kvfs(*arguments: str | Path) -> None:
    shown = " ".join(
        str(argument).replace(str(HERE) + "/", "") if isinstance(argument, Path) else argument
        for argument in arguments
    )
    console.print(f"[bold]$ kvfs {shown}[/bold]")
    subprocess.run([KVFS, *arguments], check=True, cwd=HERE)


def compare(mount: Path, unpacked: Path) -> Table:
    table = Table(title="the same programs over the mount and over the unpacked tree (seconds)")
    for heading in ("program", "answer"):
        table.add_column(heading)
    for heading in ("mount, first", "mount, again", "unpacked"):
        table.add_column(heading, justify="right")
    table.add_column("same answer")
    wrong = []
    for program in programs():
        first, again, beside = (run(program, tree) for tree in (mount, mount, unpacked))
        same = first.answer == again.answer == beside.answer
        if not same:
            wrong.append(f"{program.title}: {first.answer} / {again.answer} / {beside.answer}")
        table.add_row(
            program.title,
            first.answer,
            *(f"{outcome.seconds:.2f}" for outcome in (first, again, beside)),
            "yes" if same else "[red]NO[/red]",
        )
    if wrong:
        raise SystemExit("demo: the mount gave another answer:\n" + "\n".join(wrong))
    return table


def main() -> None:
    """Set the stage, run the programs, clear up."""
    parser = argparse.ArgumentParser(description="mount real tarballs and use them")
    parser.add_argument("--offline", action="store_true", help="do not ask the package index")
    parser.add_argument("--keep", action="store_true", help="leave everything in ./demo")
    options = parser.parse_args()
    begin = time.perf_counter()
    stage = HERE / "demo"
    if os.path.ismount(stage / "mnt"):
        subprocess.run([KVFS, "umount", stage / "mnt"], check=True)
    shutil.rmtree(stage, ignore_errors=True)
    tarballs, mount, unpacked = stage / "tarballs", stage / "mnt", stage / "unpacked"
    for directory in (tarballs, mount, unpacked):
        directory.mkdir(parents=True)
    gather(tarballs, offline=options.offline)

    start = time.perf_counter()
    for path in sorted(tarballs.iterdir()):
        target = unpacked / path.name.removesuffix(".gz").removesuffix(".tar")
        target.mkdir()
        subprocess.run(["tar", "-xpf", path, "-C", target], check=True)
    say(f"unpacked beside, to compare with: {time.perf_counter() - start:.1f} s")

    console.print("[bold]$ ls -l demo/tarballs[/bold]")
    subprocess.run(["ls", "-l", tarballs], check=True)
    try:
        kvfs("mount", tarballs, mount, "--cache", stage / "cache")
        console.print("[bold]$ ls demo/mnt[/bold]")
        subprocess.run(["ls", mount], check=True)
        table = compare(mount, unpacked)
        kvfs("status", mount)
    finally:
        subprocess.run([KVFS, "umount", mount], check=False, capture_output=True)
    console.print(table)
    console.print(
        "'first' includes fetching and ingesting each tarball at its first touch; nothing was "
        "unpacked to a disk."
    )
    if not options.keep:
        shutil.rmtree(stage)
    say(f"unmounted and cleared up; the whole demo took {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()

"""git and make: many small files, renames over existing ones, locks, times that make compares."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

from kvfs.testing.mounts import Site

from .conftest import Run

MODULES = 12
_GIT = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def write_project(path: Path) -> None:
    """A program in C of several modules, a library, and a Makefile with real dependencies."""
    path.mkdir()
    (path / "Makefile").write_text(
        dedent(
            """\
            OBJECTS = $(patsubst %.c,%.o,$(sort $(wildcard part*.c)))
            CFLAGS = -O1 -Wall -Werror -MMD
            all: sum
            sum: main.o libparts.a
            \t$(CC) -o $@ main.o libparts.a
            libparts.a: $(OBJECTS)
            \tar rcs $@ $^
            check: sum
            \t./sum > sum.out
            \tcmp sum.out expected
            clean:
            \trm -f *.o *.d *.a sum sum.out
            -include *.d
            """
        )
    )
    declared = "".join(f"int part{number}(void);\n" for number in range(MODULES))
    (path / "parts.h").write_text(declared)
    for number in range(MODULES):
        source = f'#include "parts.h"\nint part{number}(void) {{ return {number}; }}\n'
        (path / f"part{number}.c").write_text(source)
    calls = " + ".join(f"part{number}()" for number in range(MODULES))
    (path / "main.c").write_text(
        f'#include <stdio.h>\n#include "parts.h"\nint main(void) {{ printf("%d\\n", {calls}); '
        "return 0; }\n"
    )
    (path / "expected").write_text(f"{sum(range(MODULES))}\n")


def test_a_project_is_committed_cloned_and_built(place: Path, run: Run) -> None:
    origin, clone = place / "origin", place / "clone"
    write_project(origin)
    run("git", "init", "-q", "-b", "main", cwd=origin, **_GIT)
    run("git", "add", "-A", cwd=origin, **_GIT)
    run("git", "commit", "-q", "-m", "all of it", cwd=origin, **_GIT)
    run("git", "clone", "-q", origin, clone, **_GIT)
    run("make", "-j2", "check", cwd=clone)
    run("make", "-q", "all", cwd=clone)  # all of it is newer than what it is made from
    assert run("git", "status", "--porcelain", "--untracked-files=no", cwd=clone, **_GIT) == ""
    # What is newer is made again, and nothing else.
    (clone / "part3.c").write_text((clone / "part3.c").read_text().replace("3;", "103;"))
    again = run("make", "all", cwd=clone)
    assert "part3.c" in again
    assert "part4.c" not in again
    assert run("./sum", cwd=clone) == f"{sum(range(MODULES)) + 100}\n"
    run("git", "commit", "-q", "-am", "another part", cwd=clone, **_GIT)
    run("git", "checkout", "-q", "-b", "other", "HEAD~", cwd=clone, **_GIT)
    (clone / "notes").write_text("a note\n")
    run("git", "add", "notes", cwd=clone, **_GIT)
    run("git", "commit", "-q", "-m", "a note", cwd=clone, **_GIT)
    run("git", "rebase", "-q", "main", cwd=clone, **_GIT)
    run("git", "gc", "-q", "--prune=now", cwd=clone, **_GIT)
    run("git", "fsck", "--full", "--strict", cwd=clone, **_GIT)
    run("git", "push", "-q", "origin", "other", cwd=clone, **_GIT)
    log = run("git", "log", "--format=%s", "other", cwd=origin, **_GIT)
    assert log.splitlines() == ["a note", "another part", "all of it"]
    run("make", "clean", cwd=clone)
    assert not (clone / "sum").exists()
    assert os.access(clone / "part0.c", os.R_OK)


def test_a_project_in_a_tarball_goes_on_there(shared_site: Site, tmp_path: Path, run: Run) -> None:
    """Nothing is unpacked: it is built and committed to where it is mounted."""
    project, folder = tmp_path / "project", tmp_path / "folder"
    folder.mkdir()
    write_project(project)
    run("git", "init", "-q", "-b", "main", cwd=project, **_GIT)
    run("git", "add", "-A", cwd=project, **_GIT)
    run("git", "commit", "-q", "-m", "all of it", cwd=project, **_GIT)
    run("make", "-j2", "all", cwd=project)
    run("tar", "--format=pax", "-cf", folder / "project.tar", "-C", project, ".")
    backing = {"driver": "posix", "path": str(folder)}
    volume = shared_site.config(backing, name="folder", volume={"writable": True})
    mounted = shared_site.mount(volume, at="folder-mnt")
    root = mounted.path / "project"
    run("make", "-q", "all", cwd=root)  # times are those of the tarball, to the nanosecond
    (root / "part3.c").write_text((root / "part3.c").read_text().replace("3;", "103;"))
    again = run("make", "all", cwd=root)
    assert "part3.c" in again
    assert "part4.c" not in again
    assert run("./sum", cwd=root) == f"{sum(range(MODULES)) + 100}\n"
    run("git", "commit", "-q", "-am", "another part", cwd=root, **_GIT)
    run("git", "gc", "-q", "--prune=now", cwd=root, **_GIT)
    mounted.umount()
    assert "clean" in shared_site.run("fsck", volume).stdout
    mounted = shared_site.mount(volume, at="folder-mnt")
    run("git", "fsck", "--full", "--strict", cwd=root, **_GIT)
    status = ("git", "status", "--porcelain", "--untracked-files=no")
    assert run(*status, cwd=root, **_GIT) == ""
    run("make", "-q", "all", cwd=root)
    run("git", "clone", "-q", root, tmp_path / "clone", **_GIT)
    log = run("git", "log", "--format=%s", cwd=tmp_path / "clone", **_GIT)
    assert log.splitlines() == ["another part", "all of it"]
    mounted.umount()

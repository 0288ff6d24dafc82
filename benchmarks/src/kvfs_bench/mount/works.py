"""The works: what is done to a tree that is served, by id, in the order in which they run."""

from __future__ import annotations

import attrs

FILES, LISTED, LISTED_LARGE, PACKAGE, REPOSITORY = (
    "files",
    "directory",
    "large-directory",
    "package",
    "repository",
)
"""The inputs."""


@attrs.frozen(kw_only=True)
class Work:
    """One kind of work."""

    id: str
    title: str
    input: str = FILES
    action: str
    """A method of :class:`~kvfs_bench.mount.doing.Doing`."""
    readers: int = 1
    compiled: bool = False
    """By the compiled reader instead of the one in Python."""
    order: str = ""
    """Which list of names is read; empty: as the directories list them."""
    passes: int = 1
    is_cold: bool = False
    """With dropped caches; else the engine is warm."""

    def row(self, turn: int) -> str:
        """What pass ``turn`` is called in the tables."""
        if self.passes == 1:
            return self.title
        return f"{self.title}, {('first', 'second')[turn]} pass"


def _read(id_: str, what: str, *, readers: int = 1, order: str = "", passes: int = 1) -> list[Work]:
    """A read by the compiled reader and by the one in Python."""
    who = f"{readers} {{}} readers" if readers > 1 else "{} reader"
    return [
        Work(
            id=f"{id_}-{short}",
            title=f"{what}, {who.format(name)}",
            action="read",
            readers=readers,
            compiled=short == "c",
            order=order,
            passes=passes,
        )
        for short, name in (("c", "compiled"), ("py", "Python"))
    ]


WORKS = (
    Work(id="find", title="find", action="find"),
    Work(id="find-size", title="find -size", action="find_size"),
    Work(id="ls", title="ls -l of a directory", input=LISTED, action="ls_long"),
    Work(id="ls-large", title="ls -l of a large directory", input=LISTED_LARGE, action="ls_long"),
    *_read("read", "read all, directory order", passes=2),
    Work(
        id="sorted-c",
        title="read all, sorted names, compiled reader",
        action="read",
        compiled=True,
        order="sorted",
    ),
    *_read("random", "read all, random order", order="random"),
    *_read("crowd", "read all", readers=8, passes=2),
    Work(id="tar", title="tar c", action="tar"),
    Work(id="grep", title="grep -r", action="grep"),
    Work(id="import", title="import of a package", input=PACKAGE, action="import_package"),
    Work(id="git", title="git status", input=REPOSITORY, action="git_status"),
    Work(id="cold-find-size", title="cold: find -size", action="find_size", is_cold=True),
    Work(
        id="cold-read-c",
        title="cold: read all, directory order, compiled reader",
        action="read",
        compiled=True,
        is_cold=True,
    ),
)

ALL = frozenset(work.id for work in WORKS)
COLD = frozenset(work.id for work in WORKS if work.is_cold)
LISTING_LARGE = frozenset(("ls-large",))
READING = frozenset(("read-c", "read-py", "sorted-c", "random-c", "tar", "grep"))
"""Where pushing contents ahead may change something."""
SEVERAL = frozenset(("read-c", "random-c", "crowd-c", "crowd-py", "tar"))
"""Where a second worker may change something."""
IN_PROCESS = frozenset(("find-size", "read-py", "random-py", "crowd-py"))
"""What can be done without a mount, by the reader in Python."""
FIRST_LOOKS = frozenset(("find", "find-size", "ls", "read-c"))
"""What a contestant that may not finish is asked for."""


def work_of(id_: str) -> Work:
    """The work of an id."""
    return next(work for work in WORKS if work.id == id_)

"""Attributes of a writable tree: modes, owners, times, extended attributes and ACLs.

What a real file system says is asked of the one that the temporary files are on.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from struct import pack

import pytest

from kvfs.files import Caller, Changes, Refused
from kvfs.files.acl import ACCESS, DEFAULT, Tag
from kvfs.files.attributing import XattrFlag
from kvfs.files.records import xattr_key
from kvfs.testing.volumes import Stores

from .writing_support import ROOT, SMALL, World, number_of, refused, world_over

CAPABILITY = b"security.capability"
NOBODY = (1 << 32) - 1


@pytest.fixture
def world() -> Iterator[World]:
    with world_over(Stores(capability=SMALL)) as made:
        yield made


def change(world: World, inode: int, changes: Changes) -> None:
    """Change attributes; the answer is what a getattr gives then."""
    answer = world.files.setattr(inode, changes)
    assert answer == bytes(world.files.getattr(inode))


# -- modes and owners ------------------------------------------------------------------------------


def test_chmod_leaves_the_type_alone(world: World) -> None:
    for inode in (world.make(b"a"), world.mkdir(b"d"), world.make(b"p", mode=0o010600)):
        kind = stat.S_IFMT(world.stat(inode).mode)
        now = world.clock.tick()
        change(world, inode, Changes(mode=0o177_7712))
        found = world.stat(inode)
        assert (found.mode, found.ctime_ns) == (kind | 0o7712, now)
        assert found.mtime_ns < now


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o6755, 0o755), (0o6745, 0o2745), (0o4600, 0o600), (0o2755, 0o755), (0o1755, 0o1755)],
)
def test_who_has_no_privileges_keeps_none_alive(world: World, before: int, after: int) -> None:
    """A setgid bit without the right to execute meant mandatory locking, and stays."""
    actions: Sequence[Callable[[int], object]] = (
        lambda inode: world.files.write(inode, 0, b"x", drops_privileges=True),
        lambda inode: change(world, inode, Changes(size=3, drops_privileges=True)),
        lambda inode: change(world, inode, Changes(uid=5)),
        lambda inode: change(world, inode, Changes(gid=5)),
    )
    for number, action in enumerate(actions):
        inode = world.make(b"%d" % number, mode=0o100000)
        change(world, inode, Changes(mode=before))
        world.files.write(inode, 0, b"x")
        change(world, inode, Changes(size=2))
        assert oct(stat.S_IMODE(world.stat(inode).mode)) == oct(before)
        action(inode)
        assert oct(stat.S_IMODE(world.stat(inode).mode)) == oct(after)


def test_a_directory_keeps_its_bits_whoever_owns_it(world: World) -> None:
    inode = world.mkdir(b"d")
    change(world, inode, Changes(mode=0o6777))
    change(world, inode, Changes(uid=5, gid=6))
    found = world.stat(inode)
    assert (oct(stat.S_IMODE(found.mode)), found.uid, found.gid) == ("0o6777", 5, 6)


def test_one_of_owner_and_group_changes_alone(world: World) -> None:
    inode = world.make(b"a")
    change(world, inode, Changes(uid=5))
    assert (world.stat(inode).uid, world.stat(inode).gid) == (5, 1000)
    change(world, inode, Changes(gid=0))
    assert (world.stat(inode).uid, world.stat(inode).gid) == (5, 0)


def test_a_setgid_directory_hands_its_group_down(world: World) -> None:
    directory = world.mkdir(b"d")
    change(world, directory, Changes(gid=77, mode=0o2775))
    file, below = world.make(b"a", directory), world.mkdir(b"e", directory)
    link = number_of(world.files.symlink(directory, b"l", b"x", Caller(1, 2)))
    assert [world.stat(inode).gid for inode in (file, below, link)] == [77, 77, 77]
    assert oct(world.stat(below).mode) == "0o42755"
    assert oct(world.stat(file).mode) == "0o100644"


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "time_ns", [0, 1, -1, -1_500_000_000, 999_999_999, 2**31 * 10**9 + 7, 2**34 * 10**9 - 1]
)
def test_times_are_kept_to_the_nanosecond(world: World, time_ns: int) -> None:
    inode = world.make(b"a")
    now = world.clock.tick()
    change(world, inode, Changes(atime_ns=time_ns, mtime_ns=time_ns + 1))
    found = world.stat(inode)
    assert (found.atime_ns, found.mtime_ns, found.ctime_ns) == (time_ns, time_ns + 1, now)


def test_times_that_are_now(world: World) -> None:
    inode = world.make(b"a")
    before, now = world.stat(inode), world.clock.tick()
    change(world, inode, Changes(atime_now=True))
    assert (world.stat(inode).atime_ns, world.stat(inode).mtime_ns) == (now, before.mtime_ns)
    now = world.clock.tick()
    change(world, inode, Changes(mtime_now=True, atime_ns=5))
    assert (world.stat(inode).atime_ns, world.stat(inode).mtime_ns) == (5, now)


# -- extended attributes ---------------------------------------------------------------------------


def test_attributes_are_set_replaced_listed_and_removed(world: World) -> None:
    for inode in (ROOT, world.make(b"a"), world.mkdir(b"d")):
        assert world.files.listxattr(inode) == []
        now = world.clock.tick()
        world.files.setxattr(inode, b"user.a", b"one")
        assert world.stat(inode).ctime_ns == now
        world.files.setxattr(inode, b"user.empty", b"")
        world.files.setxattr(inode, b"user.a", b"other")
        assert sorted(world.files.listxattr(inode)) == [b"user.a", b"user.empty"]
        assert world.files.getxattr(inode, b"user.a") == b"other"
        assert world.files.getxattr(inode, b"user.empty") == b""
        assert world.files.getxattr(inode, b"user.none") is None
        now = world.clock.tick()
        world.files.removexattr(inode, b"user.a")
        assert (world.files.listxattr(inode), world.stat(inode).ctime_ns) == ([b"user.empty"], now)
        world.files.removexattr(inode, b"user.empty")
        assert world.files.listxattr(inode) == []


def errno_of(action: Callable[[], object]) -> str:
    """How an action is refused, by either side; ``""``: it is not."""
    try:
        action()
    except (OSError, Refused) as error:
        return errno.errorcode[error.errno or 0]
    return ""


ACL = pack("<I", 2)


def entry(tag: int, perm: int, who: int = NOBODY) -> bytes:
    return pack("<HHI", tag, perm, who)


OWNER, GROUP, OTHER = entry(Tag.USER_OBJ, 6), entry(Tag.GROUP_OBJ, 4), entry(Tag.OTHER, 4)
MASK, NAMED, TEAM = entry(Tag.MASK, 7), entry(Tag.USER, 7, 1000), entry(Tag.GROUP, 5, 2000)


@pytest.mark.parametrize(
    ("name", "value", "flags"),
    [
        ("user.new", b"x", XattrFlag.REPLACE),
        ("user.old", b"x", XattrFlag.CREATE),
        ("user.old", b"x", XattrFlag.REPLACE),
        ("user.new", b"x", XattrFlag.CREATE),
        ("user.", b"x", 0),
        ("nothing.a", b"x", 0),
        ("system.nothing", b"x", 0),
        ("system.posix_acl_other", b"x", 0),
        ("user." + "n" * 250, b"x", 0),
        ("user." + "n" * 251, b"x", 0),
        ("user.large", bytes(65_537), 0),
        ("system.posix_acl_default", ACL + OWNER + GROUP + OTHER, 0),
        ("system.posix_acl_default", ACL, 0),
        ("system.posix_acl_access", ACL + OWNER + GROUP + OTHER, XattrFlag.REPLACE),
        ("system.posix_acl_access", ACL + OWNER + GROUP + OTHER, 0),
        ("system.posix_acl_access", ACL + OWNER + NAMED + GROUP + MASK + OTHER, 0),
        ("system.posix_acl_access", ACL + OWNER + NAMED + NAMED + GROUP + MASK + OTHER, 0),
        ("system.posix_acl_access", ACL + OWNER + NAMED + GROUP + OTHER, 0),
        ("system.posix_acl_access", ACL + OWNER + GROUP, 0),
        ("system.posix_acl_access", ACL + OTHER + GROUP + OWNER, 0),
        ("system.posix_acl_access", ACL + OWNER + GROUP + GROUP + OTHER, 0),
        ("system.posix_acl_access", ACL + OWNER + GROUP + MASK + MASK + OTHER, 0),
        ("system.posix_acl_access", ACL + entry(Tag.USER_OBJ, 9) + GROUP + OTHER, 0),
        ("system.posix_acl_access", ACL + OWNER + entry(2, 7) + GROUP + MASK + OTHER, 0),
        ("system.posix_acl_access", ACL + OWNER + GROUP + OTHER + entry(64, 7), 0),
        ("system.posix_acl_access", ACL + b"odd", 0),
        ("system.posix_acl_access", pack("<I", 3), 0),
        ("system.posix_acl_access", ACL, 0),
        ("system.posix_acl_access", b"", 0),
    ],
)
def test_what_is_refused_is_what_a_real_file_system_refuses(
    world: World, tmp_path: Path, name: str, value: bytes, flags: int
) -> None:
    path, inode = tmp_path / "a", world.make(b"a")
    path.touch(0o644)
    os.setxattr(path, "user.old", b"x")
    world.files.setxattr(inode, b"user.old", b"x")
    real = errno_of(lambda: os.setxattr(path, name, value, flags))
    assert errno_of(lambda: world.files.setxattr(inode, name.encode(), value, flags)) == real
    assert {name.encode() for name in os.listxattr(path)} == {*world.files.listxattr(inode)}
    assert oct(path.stat().st_mode) == oct(world.stat(inode).mode)
    real = errno_of(lambda: os.removexattr(path, name)) if "." in name[:8] and real == "" else real
    if real in ("", "ENODATA"):
        assert errno_of(lambda: world.files.removexattr(inode, name.encode())) == real


def test_removing_an_acl_that_is_not_there_is_no_error(world: World) -> None:
    inode = world.mkdir(b"d")
    before = world.stat(inode)
    world.clock.tick()
    for name in (ACCESS, DEFAULT):
        world.files.removexattr(inode, name)
    assert world.stat(inode) == before
    with refused(errno.ENODATA):
        world.files.removexattr(inode, b"user.a")


def test_capabilities_do_not_outlive_what_they_were_given_to(world: World) -> None:
    """As on any Linux file system, whoever writes: root, too."""
    actions: Sequence[Callable[[int], object]] = (
        lambda inode: world.files.write(inode, 0, b"x"),
        lambda inode: change(world, inode, Changes(size=3)),
        lambda inode: change(world, inode, Changes(uid=0)),
    )
    for number, action in enumerate(actions):
        inode = world.make(b"%d" % number)
        world.files.setxattr(inode, CAPABILITY, b"value")
        world.files.setxattr(inode, b"user.a", b"value")
        change(world, inode, Changes(mode=0o700))
        assert CAPABILITY in world.files.listxattr(inode)
        action(inode)
        assert world.files.listxattr(inode) == [b"user.a"]


def test_attributes_go_with_their_inode(world: World) -> None:
    inode = world.make(b"a")
    for number in range(50):
        world.files.setxattr(inode, b"user.%d" % number, b"x" * 100)
    world.files.unlink(ROOT, b"a")
    world.files.forget(inode, 1)
    assert world.keys(xattr_key(inode, b"")) == []


# -- ACLs, against a real file system --------------------------------------------------------------


def random_acl(rng: random.Random) -> bytes:
    """A list that is well-formed."""
    users = [(Tag.USER, who) for who in sorted(rng.sample((7, 1000, 5000), rng.randrange(3)))]
    groups = [(Tag.GROUP, who) for who in sorted(rng.sample((8, 2000), rng.randrange(2)))]
    tags = [(Tag.USER_OBJ, NOBODY), *users, (Tag.GROUP_OBJ, NOBODY), *groups]
    if users or groups or rng.random() < 0.3:
        tags.append((Tag.MASK, NOBODY))
    tags.append((Tag.OTHER, NOBODY))
    return ACL + b"".join(entry(tag, rng.randrange(8), who) for tag, who in tags)


class Both:
    """The same things in a real directory, and in one of a writable tree."""

    def __init__(self, world: World, path: Path) -> None:
        self.world = world
        self.path = path
        path.mkdir()
        path.chmod(0o755)
        # A real group is inherited from nobody here.
        self.inode = number_of(world.files.mkdir(ROOT, b"d", 0o755, Caller()))
        self.count = 0

    def compare(self, path: Path, inode: int) -> None:
        """Modes and lists."""
        assert oct(path.stat().st_mode) == oct(self.world.stat(inode).mode)
        expected = {name.encode(): os.getxattr(path, name) for name in os.listxattr(path)}
        names = self.world.files.listxattr(inode)
        found = {name: bytes(self.world.files.getxattr(inode, name) or b"") for name in names}
        assert found == expected

    def make(self, kind: int, mode: int, umask: int) -> tuple[Path, int]:
        """A new file, directory or FIFO."""
        self.count += 1
        name = f"{self.count}"
        path = self.path / name
        before = os.umask(umask)
        try:
            if kind == stat.S_IFREG:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL, mode))
            elif kind == stat.S_IFDIR:
                os.mkdir(path, mode)
            else:
                os.mkfifo(path, mode)
        finally:
            os.umask(before)
        files, caller = self.world.files, Caller(umask=umask)
        if kind == stat.S_IFDIR:
            made = files.mkdir(self.inode, name.encode(), mode, caller)
        else:
            made = files.mknod(self.inode, name.encode(), kind | mode, 0, caller)
        return path, number_of(made)


def test_acls_are_inherited_and_changed_as_on_a_real_file_system(
    world: World, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    both = Both(world, tmp_path / "d")
    for _ in range(150):
        value = rng.choice((random_acl(rng), random_acl(rng), ACL))
        os.setxattr(both.path, DEFAULT, value)
        world.files.setxattr(both.inode, DEFAULT, value)
        both.compare(both.path, both.inode)
        kind = rng.choice((stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO))
        path, inode = both.make(kind, rng.randrange(0o1000), rng.choice((0, 0o022, 0o077)))
        both.compare(path, inode)
        for _ in range(4):
            match rng.randrange(3):
                case 0:
                    mode = rng.randrange(0o1000)
                    path.chmod(mode)
                    world.files.setattr(inode, Changes(mode=mode))
                case 1:
                    value = random_acl(rng)
                    os.setxattr(path, ACCESS, value)
                    world.files.setxattr(inode, ACCESS, value)
                case _:
                    os.removexattr(path, ACCESS)
                    world.files.removexattr(inode, ACCESS)
            both.compare(path, inode)


def test_a_symbolic_link_inherits_no_acl(world: World) -> None:
    directory = world.mkdir(b"d")
    world.files.setxattr(directory, DEFAULT, ACL + OWNER + NAMED + GROUP + MASK + OTHER)
    inode = number_of(world.files.symlink(directory, b"l", b"x", Caller(umask=0o77)))
    assert (world.stat(inode).mode, world.files.listxattr(inode)) == (stat.S_IFLNK | 0o777, [])


def test_setting_an_acl_takes_setgid_from_strangers(world: World) -> None:
    inode = world.make(b"a", mode=0o102755)
    value = ACL + OWNER + GROUP + OTHER
    world.files.setxattr(inode, ACCESS, value)
    assert oct(world.stat(inode).mode) == "0o102644"
    world.files.setxattr(inode, ACCESS, value, drops_setgid=True)
    assert oct(world.stat(inode).mode) == "0o100644"
